"""Processes that die in the middle of a call: their clients are told, or get the result after all."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, connected, events, message_of, messages
from tests.support.processes import Process, serving_everything
from tests.support.redis import RedisServer

#: Seconds within which a client must learn that its call is lost.
BOUND = 30


@pytest.fixture
def pair(redis_server: RedisServer, tmp_path: Path) -> Iterator[list[Process]]:
    """Two processes for one test, which kills one of them."""
    with serving_everything(tmp_path, redis_server.url, MCP_RERUN_LOST_CALLS="1") as running:
        yield running


def killed_in_the_middle_of(tool: str, pair: list[Process], client: RawClient, gate: Gate) -> str:
    """Call a tool on the first process, kill it, and return the id of the last event."""
    with client.stream(pair[0].url, client.calling(tool, gate=gate.path)) as response:
        received = events(response)
        seen = [next(received), next(received)]
        gate.reached()
        pair[0].kill()
    assert message_of(seen[-1])["params"]["progress"] == 1
    return str(seen[0].id)


def resumed(pair: list[Process], client: RawClient, event_id: str) -> list[dict[str, Any]]:
    """Everything that the other process delivers of a stream."""
    with client.get(pair[1].url, last_event_id=event_id) as response:
        assert response.status_code == 200
        return list(messages(response))


@pytest.mark.slow
def test_a_call_whose_process_was_killed_ends_with_an_error_that_says_so(
    pair: list[Process], gate: Gate
) -> None:
    client = connected(pair[1].url)
    start = killed_in_the_middle_of("report", pair, client, gate)
    before = time.monotonic()
    seen = resumed(pair, client, start)
    assert time.monotonic() - before < BOUND
    assert seen[0]["params"]["progress"] == 1
    assert "is lost" in seen[1]["error"]["message"]
    assert len(seen) == 2
    assert client.value(pair[1].url, "add", a=1, b=1) == 2
    assert resumed(pair, client, start) == seen


@pytest.mark.slow
def test_a_call_that_may_run_again_just_gets_its_result(pair: list[Process], gate: Gate) -> None:
    client = connected(pair[1].url)
    start = killed_in_the_middle_of("look", pair, client, gate)
    with client.get(pair[1].url, last_event_id=start) as response:
        received = messages(response)
        assert next(received)["params"]["progress"] == 1
        gate.reached()
        gate.open()
        assert next(received)["result"]["structuredContent"] == {"result": "looked"}
        assert next(received, None) is None
