"""Streams that several connections want at once, and streams whose process was away."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import httpx2
import pytest

from tests.chaos.counting import begun
from tests.chaos.harness import Serve, Service, serving
from tests.support.gates import Gate
from tests.support.load import Call, load
from tests.support.mcp_client import RawClient, connected, events, messages
from tests.support.processes import wait_until
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.slow]

#: Connections that want one stream at the same moment.
RIVALS: Final = 10
#: Calls that one client has made when its network goes.
PARALLEL: Final = 40
#: Standalone streams that are opened one after the other, and messages that come meanwhile.
STREAMS: Final = 6
MESSAGES: Final = 120
BOUND: Final = 60


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes for the whole module."""
    with serving(
        tmp_path_factory.mktemp("resuming"), redis_server, 2, MCP_MAX_STREAMS_PER_SESSION="50"
    ) as service:
        yield service


@pytest.mark.protocol("H17", "H20")
def test_one_of_many_connections_that_resume_one_stream_at_once_gets_the_response(
    service: Service, gate: Gate
) -> None:
    client = connected(service.urls[0])
    start = begun(client, service.urls[0], gate, number=5)

    def resume(n: int) -> list[dict[str, Any]]:
        with client.get(service.urls[n % 2], last_event_id=start) as response:
            return list(messages(response))

    with ThreadPoolExecutor(RIVALS) as pool:
        rivals = [pool.submit(resume, n) for n in range(RIVALS)]
        wait_until(lambda: sum(rival.done() for rival in rivals) == RIVALS - 1, what="all but one to give up")
        gate.open()
        seen = [rival.result(BOUND) for rival in rivals]
    complete = [said for said in seen if said and "result" in said[-1]]
    assert len(complete) == 1
    assert [message["params"]["progress"] for message in complete[0][:-1]] == [1, 2, 3, 4, 5]
    for said in seen:
        assert said in (complete[0], complete[0][:1], [])


@pytest.mark.protocol("H11", "H20")
def test_a_client_with_many_calls_that_loses_its_network_gets_every_response(service: Service) -> None:
    client = connected(service.urls[0])
    starts = [cut_off(client, service.urls[0], f"call-{n}") for n in range(PARALLEL)]
    logs = [(client.fingerprint, start.split("-")[1]) for start in starts]
    wait_until(lambda: all(is_over(service.redis.log(*log)) for log in logs), what="all calls to end")
    for n, start in enumerate(starts):
        with client.get(service.urls[1], last_event_id=start) as response:
            assert response.status_code == 200, f"call {n} cannot be resumed"
            *_, last = messages(response)
        assert last["result"]["structuredContent"] == {"result": f"call-{n}"}


def cut_off(client: RawClient, url: str, label: str) -> str:
    """Call, leave at once, and return the id of the stream's start."""
    message = client.calling("count", number=2, label=label, pace=0.2)
    with client.stream(url, message) as response:
        start = next(events(response))
    assert start.id is not None
    return start.id


def is_over(log: list[str]) -> bool:
    """Whether a log has its response, or is gone."""
    return not log or "result" in json.loads(log[-1])


@pytest.mark.protocol("H17")
def test_each_standalone_message_comes_once_while_new_streams_take_over(service: Service) -> None:
    client = connected(service.urls[0])
    heard: list[list[str]] = [[] for _ in range(STREAMS)]

    def listen(response: httpx2.Response, into: list[str]) -> None:
        into.extend(message["params"]["uri"] for message in messages(response))

    telling = Call(client=client, message=client.calling("tell", number=MESSAGES, pace=0.02))
    with ExitStack() as stack, ThreadPoolExecutor(STREAMS) as pool:
        with load([telling], [service.urls[0]]) as running:
            for n in range(STREAMS):
                response = stack.enter_context(client.get(service.urls[n % 2]))
                pool.submit(listen, response, heard[n])
            running.join(BOUND)
        log = service.redis.log(client.fingerprint, "standalone")
        assert len(log) == MESSAGES
        wait_until(
            lambda: service.redis.delivered(client.fingerprint) == service.redis.last(client.fingerprint),
            seconds=BOUND,
            what="all to be delivered",
        )
        assert client.delete(service.urls[0]).status_code == 204
    assert sorted(uri for uris in heard for uri in uris) == sorted(
        f"chaos://{n}" for n in range(1, MESSAGES + 1)
    )


@pytest.mark.protocol("H20")
def test_a_stream_is_resumed_after_every_process_was_replaced(serve: Serve, gate: Gate) -> None:
    service = serve(2)
    client = connected(service.urls[0])
    start = begun(client, service.urls[0], gate, number=5)
    gate.open()
    assert gate.outcome() == "passed"
    stream = start.split("-")[1]
    wait_until(
        lambda: len(service.redis.log(client.fingerprint, stream)) == 6, what="the response in the log"
    )
    for process in service.processes:
        process.restart()
    with client.get(service.urls[1], last_event_id=start) as response:
        seen = list(messages(response))
    assert [message["params"]["progress"] for message in seen[:-1]] == [1, 2, 3, 4, 5]
    assert seen[-1]["result"]["structuredContent"] == {"result": 5}


@pytest.mark.protocol("H20")
def test_a_process_that_was_taken_for_dead_adds_nothing_when_it_wakes_up(serve: Serve, gate: Gate) -> None:
    service = serve(2)
    a, b = service.processes
    client = connected(service.urls[0])
    start = begun(client, a.url, gate, number=5)
    client.value(b.url, "process")
    os.kill(a.pid, signal.SIGSTOP)
    with client.get(b.url, last_event_id=start) as response:
        seen = list(messages(response))
    assert [message.get("params", {}).get("progress") for message in seen] == [1, None]
    assert "lost" in seen[1]["error"]["message"]
    os.kill(a.pid, signal.SIGCONT)
    gate.open()
    assert gate.outcome() == "passed"
    for url in (a.url, b.url):
        assert client.value(url, "process") in (a.pid, b.pid)
        with client.get(url, last_event_id=start) as response:
            assert list(messages(response)) == seen
