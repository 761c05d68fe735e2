"""A Redis that is killed and comes back with its data: streams wait for it, and go on where they were."""

import re
import signal
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.counting import (
    assert_counted_up,
    assert_has_its_result,
    assert_what_was_logged_came_once,
    begun,
    counting_calls,
)
from tests.chaos.harness import Serve, wait_for_heartbeats
from tests.support.gates import Gate
from tests.support.load import Call, load, sessions
from tests.support.mcp_client import RawClient, messages
from tests.support.processes import Process, wait_until
from tests.support.redis import run_server

pytestmark = [pytest.mark.slow]

CALLS: Final = 40
NUMBER: Final = 80
#: Standalone streams, and messages of each.
LISTENERS: Final = 8
ANNOUNCED: Final = 60
PACE: Final = 0.1
RESTARTS: Final = 2
#: Redis is killed when so many more messages have come.
MESSAGES: Final = 400
BOUND: Final = 90
#: Heartbeats that fail in an outage after which every node has been silent for too long.
MISSED: Final = 2
#: Heartbeats that fail in an outage whose log lines are counted, requests meanwhile, and streams that are written.
HEARTBEATS: Final = 6
REFUSED: Final = 20
STREAMS: Final = 3
#: What an outage may leave in the log of a process at WARNING or above: the begin and the end of four rows.
SAID: Final = (
    r"A heartbeat failed: .+",
    r"Heartbeats of node \w+ that failed: \d+ in [\d.]+ s\. That is over\.",
    r"Redis at \S+ cannot be reached: .+",
    r"Calls that failed on Redis at \S+: \d+ in [\d.]+ s\. That is over\.",
    r"The session store of endpoint 'default' cannot be reached: .+",
    rf"Requests to endpoint 'default' refused without the store: {REFUSED} in [\d.]+ s\. That is over\.",
    r"A stream of session \w+ is logged later: .+",
    rf"Streams that were not logged in time: {STREAMS} in [\d.]+ s\. That is over\.",
)


@pytest.mark.protocol("H17", "H20")
def test_nothing_is_lost_or_doubled_when_redis_is_killed_and_comes_back_with_its_data(serve: Serve) -> None:
    with run_server("--appendfsync", "always", keep=True) as redis:
        service = serve(2, redis=redis)
        counting = counting_calls(service, CALLS, number=NUMBER)
        listeners = sessions(LISTENERS, service.urls[0])
        listening = [
            Call(client=client, message=None, enough=ANNOUNCED, cut_after=20) for client in listeners
        ]
        telling = [telling_call(client) for client in listeners]
        with load([*counting, *listening, *telling], service.urls) as running:
            for _ in range(RESTARTS):
                running.wait_for(MESSAGES)
                redis.stop(signal.SIGKILL)
                redis.start()
            running.join(BOUND)
        for call in counting:
            assert_what_was_logged_came_once(call, service.redis)
            assert_counted_up(call, NUMBER)
            assert_has_its_result(call, NUMBER)
        for call in listening:
            expected = [f"chaos://{n}" for n in range(1, ANNOUNCED + 1)]
            assert [message["params"]["uri"] for message in call.messages] == expected
        for call in telling:
            assert "result" in (call.response or {}), call.response


def telling_call(client: RawClient) -> Call:
    """A call that sends messages on the standalone stream of its session."""
    return Call(client=client, message=client.calling("tell", number=ANNOUNCED, pace=PACE))


def test_in_a_long_outage_no_process_is_taken_for_dead(serve: Serve, gate: Gate) -> None:
    with run_server() as redis:
        service = serve(2, redis=redis)
        a, b = service.processes
        [client] = sessions(1, a.url)
        start = begun(client, a.url, gate, number=5)
        with client.get(b.url, last_event_id=start) as resumed:
            received = messages(resumed)
            assert next(received)["params"]["progress"] == 1
            redis.pause()
            for process in (a, b):
                wait_until(lambda each=process: missed(each) > MISSED, seconds=BOUND, what="an outage")  # type: ignore[misc]
            redis.resume()
            wait_for_heartbeats(service, 4)
            gate.open()
            assert [next(received)["params"]["progress"] for _ in range(4)] == [2, 3, 4, 5]
            assert next(received)["result"]["structuredContent"] == {"result": 5}


def missed(process: Process) -> int:
    return process.log.read_text().count("A heartbeat failed")


def test_an_outage_is_logged_when_it_begins_and_when_it_is_over(serve: Serve, tmp_path: Path) -> None:
    """Whatever fails meanwhile, and however often: heartbeats, requests, streams, the inbox."""
    with run_server(keep=True) as redis, ExitStack() as stack:
        [process] = serve(1, redis=redis, MCP_SERVER="tests.served.impatient.server").processes
        clients = sessions(STREAMS, process.url)
        gates = [stack.enter_context(closing(Gate(tmp_path / f"gate{n}"))) for n in range(STREAMS)]
        for client, gate in zip(clients, gates, strict=True):
            stack.enter_context(client.get(process.url))
            begun(client, process.url, gate, number=3)
        redis.stop(signal.SIGKILL)
        for gate in gates:
            gate.open()
        for _ in range(REFUSED):
            assert clients[0].post(process.url, clients[0].request("ping")).status_code == 503
        wait_until(lambda: missed(process) >= HEARTBEATS, what="heartbeats that fail")
        wait_until(lambda: "is logged later" in process.log.read_text(), what="streams to be logged later")
        redis.start()
        wait_until(lambda: all(counts(warnings_of(process))), what="the end of the outage in the log")
        assert all(gate.outcome() == "passed" for gate in gates)
    said = warnings_of(process)
    # On a machine that stands still for seconds the outage may look like two.
    assert max(counts(said)) <= 2 < HEARTBEATS, said
    assert len(said) == sum(counts(said)), said


def counts(said: Sequence[str]) -> list[int]:
    """How often each of SAID was logged."""
    return [sum(bool(re.fullmatch(line, each)) for each in said) for line in SAID]


def warnings_of(process: Process) -> list[str]:
    """The messages at WARNING and above in its log, but for those about the database, which it does not have."""
    lines = re.compile(
        r"^\S+ \S+ (?:WARNING|ERROR|CRITICAL) \S+: (?!The blocks of endpoint)(.*)$", re.MULTILINE
    )
    return lines.findall(process.log.read_text())
