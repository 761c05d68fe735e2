"""Calls and requests of processes that are taken for dead: each runs, and is answered, as often as it may be."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.harness import Service, serving, wait_for_heartbeats
from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, events, messages
from tests.support.processes import Process, wait_until
from tests.support.redis import RedisServer

pytestmark = pytest.mark.slow

#: How often the client of a lost call comes back while it runs again.
RETURNS: Final = 8


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three processes, which this module only pauses."""
    directory = tmp_path_factory.mktemp("dead")
    server = "tests.served.impatient.server"
    with serving(directory, redis_server, 3, MCP_SERVER=server, MCP_RERUN_LOST_CALLS="1") as service:
        yield service


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[list[Gate]]:
    """One for each run."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Gate(tmp_path / f"gate{number}"))) for number in (1, 2, 3)]


def beat(service: Service, count: int, *paused: Process) -> None:
    """Wait until the store has forgotten the paused processes, then for heartbeats of the others."""
    wait_until(
        lambda: not {process.pid for process in paused} & service.redis.nodes().keys(),
        what="the paused processes to be forgotten",
    )
    wait_for_heartbeats(service, 3 * count)


@pytest.mark.protocol("H20")
def test_a_lost_call_runs_again_once_for_each_loss_however_often_its_client_comes_back(
    service: Service, client: RawClient, gates: list[Gate], tmp_path: Path
) -> None:
    record = tmp_path / "runs"
    first = service.processes[0]

    def runs() -> list[int]:
        return [int(pid) for pid in record.read_text().split()]

    with client.stream(
        first.url, client.calling("run_of", record=str(record), gates=str(tmp_path / "gate"))
    ) as response:
        start = next(events(response)).id
        gates[0].reached()
        first.pause()
    others = service.processes[1:]
    for number in range(RETURNS):
        with client.get(others[number % 2].url, last_event_id=start):
            beat(service, 2, first)
            if number == 0:
                gates[1].reached()
    again = runs()
    print(f"runs after one loss and {RETURNS} returns: {len(again) - 1}")  # noqa: T201
    assert len(again) == 2

    second = next(process for process in others if process.pid == again[1])
    third = next(process for process in others if process is not second)
    second.pause()
    with client.get(third.url, last_event_id=start) as resumed:
        received = messages(resumed)
        assert next(received)["params"]["progress"] == 1
        gates[2].reached()
        for process in (first, second):
            process.resume()
        assert gates[1].outcome() == "cancelled"
        gates[0].open()
        assert gates[0].outcome() == "passed"
        assert client.value(first.url, "process") == first.pid
        gates[2].open()
        assert next(received)["result"]["structuredContent"] == {"result": third.pid}
        assert next(received, None) is None
    assert runs() == [first.pid, second.pid, third.pid]
    said = "".join(process.log.read_text() for process in service.processes)
    assert [said.count(f"it runs again ({number} of 3)") for number in (1, 2, 3)] == [1, 1, 0]
    assert "Traceback" not in said


@pytest.mark.protocol("H6")
def test_an_answer_that_was_refused_does_not_count_when_the_process_that_asked_wakes_up(
    service: Service, client: RawClient
) -> None:
    a, b, _ = service.processes
    with client.stream(a.url, client.calling("ask", label="how many?")) as response:
        received = messages(response)
        result = {"action": "accept", "content": {"number": 7}}
        reply = {"jsonrpc": "2.0", "id": next(received)["id"], "result": result}
        a.pause()
        beat(service, 3, a)
        refused = client.post(b.url, reply)
        a.resume()
        assert refused.status_code == 400
        assert next(received)["method"] == "notifications/cancelled"
        assert "timed out" in next(received)["error"]["message"]
    for url in (a.url, b.url):
        assert client.post(url, reply).status_code == 400


@pytest.mark.protocol("H17")
def test_the_stream_of_a_process_that_was_taken_for_dead_goes_on_through_another_connection(
    service: Service, client: RawClient
) -> None:
    a, b, c = service.processes
    with client.get(a.url) as staying, client.get(b.url) as lost:
        b.pause()
        beat(service, 1, b)
        client.value(c.url, "tell", number=3, pace=0)
        heard = messages(staying)
        assert [next(heard)["params"]["uri"] for _ in range(3)] == [f"chaos://{n}" for n in (1, 2, 3)]
        b.resume()
        beat(service, 3)
        client.value(b.url, "tell", number=1, pace=0)
        assert next(heard)["params"]["uri"] == "chaos://1"
        assert client.delete(b.url).status_code == 204
        assert (list(heard), list(messages(lost))) == ([], [])
