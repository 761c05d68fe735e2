"""A process that is told to stop while it has calls, streams and threads."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

import httpx2
import pytest
from mcp_types import CONNECTION_CLOSED

from mcp_sessions.lifecycle import HOOK_SECONDS
from mcp_sessions.transport.rejections import STOPPED
from tests.chaos.harness import Serve, Service
from tests.support.gates import Gate
from tests.support.mcp_client import META, MODERN, RawClient, answer_of, events, hearing_of_tools, messages
from tests.support.processes import Process, started, wait_until

pytestmark = pytest.mark.slow

EVERYTHING: Final = "tests.served.everything.server"
#: Calls of each of the kinds below: forty of the handshake era in all.
JSON_CALLS, STREAMED_CALLS, RESUMED_CALLS, MODERN_CALLS = 14, 13, 13, 10
CALLS: Final = JSON_CALLS + STREAMED_CALLS + RESUMED_CALLS + MODERN_CALLS
DRAIN: Final = 1.0
#: Seconds after the drain in which every answer is there.
TOLD_WITHIN: Final = 3.0
#: Seconds in which a process ends that has nothing but listeners.
LISTENERS_BOUND: Final = 1.0
STOP_SECONDS: Final = 20.0
MODERN_HEADERS: Final = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call"}


@dataclass(slots=True)
class Clients:
    """Clients, each in a thread of its own."""

    pool: ThreadPoolExecutor
    http: httpx2.Client
    #: Released by each client whose call has got as far as it goes.
    ready: threading.Semaphore

    def start(self, count: int, call: Callable[..., dict[str, Any]], *arguments: Any) -> list[Future[Any]]:
        return [self.pool.submit(call, self, *arguments) for _ in range(count)]

    def client(self, url: str) -> RawClient:
        client = RawClient(http=self.http)
        client.initialize(url)
        return client


@contextmanager
def clients_in_threads(count: int) -> Iterator[Clients]:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    with (
        httpx2.Client(timeout=STOP_SECONDS, limits=limits) as http,
        ThreadPoolExecutor(count) as pool,
    ):
        yield Clients(pool, http, threading.Semaphore(0))


def silent(clients: Clients, url: str, gate: str) -> dict[str, Any]:
    """A call that is answered with one JSON object."""
    client = clients.client(url)
    clients.ready.release()
    response = client.post(url, client.request("tools/call", {"name": "wait", "arguments": {"gate": gate}}))
    assert response.headers["content-type"] == "application/json"
    return answer_of(response)


def streamed(clients: Clients, url: str, gate: str) -> dict[str, Any]:
    """A call whose answer is an event stream, read to its end by the same client."""
    client = clients.client(url)
    with client.stream(url, client.calling("report", gate=gate)) as response:
        received = messages(response)
        next(received)
        clients.ready.release()
        [answer] = received
    return answer


def resumed(clients: Clients, url: str, gate: str, elsewhere: str) -> dict[str, Any]:
    """A call whose client reads the rest on another process."""
    client = clients.client(url)
    with client.stream(url, client.calling("report", gate=gate)) as response:
        start = next(events(response)).id
    with client.get(elsewhere, last_event_id=start) as response:
        received = messages(response)
        next(received)
        clients.ready.release()
        [answer] = received
    return answer


def modern(clients: Clients, url: str, gate: str, tool: str) -> dict[str, Any]:
    """A call of the modern era: `wait` is answered with one JSON object, `report` with an event stream."""
    client = RawClient(http=clients.http)
    params = {"name": tool, "arguments": {"gate": gate}, "_meta": {**META, "progressToken": "p"}}
    call = client.request("tools/call", params)
    with client.stream(url, call, **MODERN_HEADERS, mcp_name=tool) as response:
        if tool == "wait":
            clients.ready.release()
            response.read()
            return answer_of(response)
        received = messages(response)
        next(received)
        clients.ready.release()
        [answer] = received
    return answer


def serving_with(serve: Serve, count: int, drain: float, **environment: str) -> Service:
    return serve(
        count,
        draining=True,
        MCP_SERVER=EVERYTHING,
        MCP_DRAIN_TIMEOUT=str(drain),
        MCP_GRACE="60",
        **environment,
    )


def stopped(process: Process) -> float:
    """Tell a process to stop; when that was."""
    process.send_signal(signal.SIGTERM)
    return monotonic()


@pytest.mark.protocol("H11")
def test_every_call_that_outlasts_the_drain_is_answered_wherever_its_client_is(
    serve: Serve, gate: Gate, record_property: Callable[[str, object], None]
) -> None:
    a, b = serving_with(serve, 2, DRAIN).processes
    with clients_in_threads(CALLS) as clients:
        calls = clients.start(JSON_CALLS, silent, a.url, gate.path)
        calls += clients.start(STREAMED_CALLS, streamed, a.url, gate.path)
        calls += clients.start(RESUMED_CALLS, resumed, a.url, gate.path, b.url)
        calls += clients.start(MODERN_CALLS // 2, modern, a.url, gate.path, "wait")
        calls += clients.start(MODERN_CALLS // 2, modern, a.url, gate.path, "report")
        for _ in calls:
            assert clients.ready.acquire(timeout=STOP_SECONDS)
        gate.reached_by(CALLS)
        at = stopped(a)
        answers = [call.result() for call in calls if call.exception(STOP_SECONDS) is None]
        took = monotonic() - at
    answered = [answer for answer in answers if answer["error"]["code"] == CONNECTION_CLOSED]
    print(f"beyond the drain: {len(answered)} of {CALLS} calls answered, {took - DRAIN:.1f} s after it")  # noqa: T201
    record_property("answered beyond the drain", f"{len(answered)} of {CALLS}")
    assert len(answered) == CALLS
    assert DRAIN <= took < DRAIN + TOLD_WITHIN
    assert a.exit_code(seconds=STOP_SECONDS) == 0


def test_a_call_whose_client_has_left_gets_the_whole_drain_and_nothing_is_ready_meanwhile(
    serve: Serve, gate: Gate
) -> None:
    drain = 2.0
    [process] = serving_with(serve, 1, drain).processes
    client = RawClient()
    client.initialize(process.url)
    with client.stream(process.url, client.calling("report", gate=gate.path)):
        gate.reached()
    with httpx2.Client(base_url=process.url) as open_already:
        assert open_already.get("/healthz").status_code == 200
        at = stopped(process)
        wait_until(process.refuses_connections, what="the port to close")
        answer = open_already.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "This process is stopping.\n")
    assert gate.outcome() == "cancelled"
    assert drain <= monotonic() - at < drain + 1
    assert process.exit_code(seconds=STOP_SECONDS) == 0
    assert "WARNING mcp_sessions.lifecycle" not in process.output()
    assert "Calls that outlasted the drain and were ended: 1." in process.output()


def test_listening_streams_of_both_eras_end_at_once_and_do_not_hold_the_stop(serve: Serve) -> None:
    [process] = serving_with(serve, 1, 10).processes
    client = RawClient()
    client.initialize(process.url)
    with client.get(process.url) as listening, hearing_of_tools(process.url) as heard:
        at = stopped(process)
        [result] = heard
        assert result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 1
        assert [event.retry for event in events(listening)][-1] == 1000
        assert process.exit_code(seconds=STOP_SECONDS) == 0
        took = monotonic() - at
    print(f"SIGTERM with two listening streams: {took:.2f} s")  # noqa: T201
    assert took < LISTENERS_BOUND


@pytest.mark.logs_fault("timeout graceful shutdown exceeded")
def test_uvicorn_cancels_what_outlasts_its_timeout_and_its_clients_find_the_error_elsewhere(
    serve: Serve, gate: Gate
) -> None:
    a, b = serving_with(serve, 2, 1).processes
    a.stop()
    listen = ("--timeout-graceful-shutdown", "1", "--host", "127.0.0.1", "--port", str(a.port))
    uvicorn = replace(a, command=(sys.executable, "-m", "uvicorn", *listen, "project.asgi:application"))
    with started([uvicorn]), clients_in_threads(2) as clients:
        [rejected] = clients.start(1, silent, a.url, gate.path)
        [moved] = clients.start(1, resumed, a.url, gate.path, b.url)
        gate.reached_by(2)
        at = stopped(uvicorn)
        assert rejected.result(STOP_SECONDS)["error"]["message"] == STOPPED.message
        assert monotonic() - at < 1 + TOLD_WITHIN
        assert moved.result(STOP_SECONDS)["error"]["code"] == CONNECTION_CLOSED
        # The timeout, and the drain that begins only then.
        assert 1 + HOOK_SECONDS <= monotonic() - at < 1 + HOOK_SECONDS + TOLD_WITHIN


def test_a_tool_that_blocks_in_a_thread_holds_up_neither_its_client_nor_its_process_for_ever(
    serve: Serve, gate: Gate
) -> None:
    [process] = serving_with(serve, 1, 0.5).processes
    client = RawClient(http=httpx2.Client(timeout=STOP_SECONDS))
    client.initialize(process.url)
    with clients_in_threads(1) as clients:
        message = client.request("tools/call", {"name": "block", "arguments": {"gate": gate.path}})
        call = clients.pool.submit(client.post, process.url, message)
        gate.reached()
        at = stopped(process)
        assert answer_of(call.result())["error"]["code"] == CONNECTION_CLOSED
        assert monotonic() - at < 0.5 + TOLD_WITHIN
    assert process.exit_code(seconds=STOP_SECONDS) == 1
    assert 10 <= monotonic() - at - 0.5 < 11
    assert "the lifespan was left" in process.output()
    assert "has not ended by itself" in process.output()
    client.http.close()
