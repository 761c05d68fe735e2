"""A deploy under load: one process after the other is told to stop, and no call is lost."""

from contextlib import ExitStack
from typing import Final

import pytest

from tests.chaos.calls import Call
from tests.chaos.conftest import Serve
from tests.chaos.counting import (
    assert_counted_up,
    assert_has_its_result,
    assert_what_was_logged_came_once,
    counting_calls,
)
from tests.chaos.crowd import crowd

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chaos")]

#: Calls of each of the three waves, and messages of each call: they take less than the drain.
CALLS: Final = 30
NUMBER: Final = 30
#: A process is stopped when so many messages of the newest wave have come.
MESSAGES: Final = 100
BOUND: Final = 60


@pytest.mark.protocol("H11", "H20")
def test_calls_finish_or_are_resumed_while_every_process_is_replaced(serve: Serve) -> None:
    service = serve(3, draining=True, MCP_DRAIN_TIMEOUT="12")
    calls: list[Call] = []
    with ExitStack() as stack:
        waves = []
        for process in service.processes:
            calls += (wave := counting_calls(service, CALLS, number=NUMBER))
            waves.append(stack.enter_context(crowd(wave, service.urls)))
            waves[-1].wait_for(MESSAGES)
            process.restart()
        for running in waves:
            running.join(BOUND)
    for call in calls:
        assert_what_was_logged_came_once(call, service.looking)
        assert_counted_up(call, NUMBER)
        assert_has_its_result(call, NUMBER)
