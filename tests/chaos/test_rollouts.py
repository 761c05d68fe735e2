"""A deploy under load: one process after the other is told to stop, and no call is lost."""

from contextlib import ExitStack
from time import monotonic
from typing import Final

import pytest
from mcp_types import CONNECTION_CLOSED

from tests.chaos.counting import (
    assert_counted_up,
    assert_has_its_result,
    assert_what_was_logged_came_once,
    begun,
    counting_calls,
)
from tests.chaos.harness import Serve
from tests.support.gates import Gate
from tests.support.load import Call, load, sessions
from tests.support.mcp_client import messages

pytestmark = [pytest.mark.slow]

#: Calls of each of the three waves, and messages of each call: they take less than the drain.
CALLS: Final = 30
NUMBER: Final = 30
#: A process is stopped when so many messages of the newest wave have come.
MESSAGES: Final = 100
BOUND: Final = 60
#: Seconds after the end of a process in which a client learns that its call was given up.
TOLD_WITHIN: Final = 3


@pytest.mark.protocol("H11", "H20")
def test_calls_finish_or_are_resumed_while_every_process_is_replaced(serve: Serve) -> None:
    service = serve(3, draining=True, MCP_DRAIN_TIMEOUT="12")
    calls: list[Call] = []
    with ExitStack() as stack:
        waves = []
        for process in service.processes:
            calls += (wave := counting_calls(service, CALLS, number=NUMBER))
            waves.append(stack.enter_context(load(wave, service.urls)))
            waves[-1].wait_for(MESSAGES)
            process.restart()
        for running in waves:
            running.join(BOUND)
    for call in calls:
        assert_what_was_logged_came_once(call, service.redis)
        assert_counted_up(call, NUMBER)
        assert_has_its_result(call, NUMBER)


def test_a_call_that_outlasts_the_drain_ends_with_an_error_at_once_wherever_its_client_is(
    serve: Serve, gate: Gate
) -> None:
    service = serve(2, draining=True, MCP_DRAIN_TIMEOUT="1")
    a, b = service.processes
    [client] = sessions(1, b.url)
    start = begun(client, a.url, gate, number=5)
    with client.get(b.url, last_event_id=start) as resumed:
        received = messages(resumed)
        assert next(received)["params"]["progress"] == 1
        a.stop()
        stopped = monotonic()
        assert next(received)["error"]["code"] == CONNECTION_CLOSED
        assert next(received, None) is None
    assert monotonic() - stopped < TOLD_WITHIN
    assert gate.outcome() == "cancelled"
