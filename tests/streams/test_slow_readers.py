"""Clients that open a stream and do not read it: what the endpoint keeps for them, and what they find later."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Request, Response, ServerSentEvent

from mcp_sessions.transport.event_stream import MAX_QUEUED_BYTES, MAX_UNPACED_BYTES
from tests.support.gates import Gate
from tests.support.mcp_client import ACCEPT, RawClient, events, message_of
from tests.support.processes import ENVIRONMENT, Process, free_port, growth_of, started, wait_until
from tests.support.redis import RedisServer
from tests.support.sockets import SlowReader, SocketClient

MESSAGES, SIZE = 1500, 32 * 1024
#: Far more than any bound, and nothing of it leaves the log.
RETENTION = {"MCP_STREAM_MAX_BYTES": str(2 * MESSAGES * SIZE), "MCP_STREAM_MAX_EVENTS": "10000"}

#: What the stream of a socket is parsed with; httpx2 wants to know it.
ASKED = Request("GET", "http://127.0.0.1/mcp")

#: Starts a server, with these arguments and this environment.
Serve = Callable[..., AbstractContextManager[Process]]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    with SocketClient.opened:
        yield


@pytest.fixture
def serve(redis_server: RedisServer, tmp_path: Path) -> Serve:
    @contextmanager
    def running(module: str, *arguments: str, **environment: str) -> Iterator[Process]:
        port = free_port()
        options = ("--host", "--port") if module == "uvicorn" else ("-b", "-p")
        listen = (options[0], "127.0.0.1", options[1], str(port), "tests.served.unpatched:application")
        process = Process(
            name=module,
            command=(sys.executable, "-m", module, *arguments, *listen),
            environment={
                **ENVIRONMENT,
                **RETENTION,
                "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
                "REDIS_URL": redis_server.url,
                "MCP_NAMESPACE": f"slow-{port}",
                "MCP_SERVER": "tests.served.flooding.server",
                **environment,
            },
            port=port,
            log=tmp_path / "server.log",
            forked=module == "uvicorn",
        )
        with started([process]):
            yield process

    return running


class Reader:
    """A session's client that sends a request on a connection of its own, and reads when it is told to."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.client = RawClient()
        self.client.initialize(process.url)

    def calls(self, tool: str, **arguments: Any) -> SlowReader:
        body = json.dumps(self.client.calling(tool, **arguments)).encode()
        return self._sends("POST", body, accept=ACCEPT, content_type="application/json")

    def listens(self) -> SlowReader:
        return self._sends("GET", b"", accept="text/event-stream")

    def reads_on(self, seen: list[ServerSentEvent], *, until: int) -> list[ServerSentEvent]:
        """What it saw and what it sees when it resumes the stream, as often as that takes."""
        seen = [*seen]
        while numbers(seen[-1:]) != [until]:
            with self.client.get(self.process.url, last_event_id=seen[-1].id) as response:
                for event in events(response):
                    seen.append(event)
                    if numbers([event]) == [until]:
                        break
        return seen

    def _sends(self, method: str, body: bytes, **headers: str) -> SlowReader:
        lazy = SlowReader(self.process)
        own = {"host": "127.0.0.1", "content-length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (self.client.headers(**headers) | own).items()]
        head = "\r\n".join([f"{method} /mcp HTTP/1.1", *lines, "", ""])
        lazy.socket.sendall(head.encode() + body)
        return lazy


def what_came(lazy: SlowReader) -> list[ServerSentEvent]:
    """The whole events that a stream had until it was closed or cut."""
    response = lazy.response()
    received = bytearray()
    try:
        while part := response.read1(65536):
            received += part
    except (ConnectionResetError, ValueError):
        """It was cut off in the middle of a part."""
    answer = Response(
        200, headers={"content-type": "text/event-stream"}, content=bytes(received), request=ASKED
    )
    return list(events(answer))


def numbers(of: list[ServerSentEvent]) -> list[int]:
    """Which messages came; the response counts as the last."""
    params = (message_of(event).get("params", {"progress": MESSAGES}) for event in of if event.data)
    return [int(one["progress"] if "progress" in one else one["data"]["n"]) for one in params]


@pytest.mark.protocol("H9", "H20")
@pytest.mark.parametrize(
    ("module", "bound"),
    [
        ("mcp_sessions.daphne", 3 * MAX_QUEUED_BYTES),
        ("daphne", MAX_UNPACED_BYTES + 3 * MAX_QUEUED_BYTES),
        ("uvicorn", 3 * MAX_QUEUED_BYTES),
    ],
)
def test_a_call_that_nobody_reads_costs_a_bounded_memory_and_loses_nothing(
    serve: Serve, gate: Gate, module: str, bound: int
) -> None:
    assert bound < MESSAGES * SIZE / 1.5
    with serve(module) as process:
        reader, other = Reader(process), RawClient()
        other.initialize(process.url)
        with growth_of(process.pid) as growth:
            lazy = reader.calls("flood", number=MESSAGES, size=SIZE, gate=gate.path)
            gate.reached()
            assert other.value(process.url, "add", a=1, b=2) == 3
        assert growth.peak < bound
        gate.open()
        assert gate.outcome() == "passed"
        first = what_came(lazy)
        assert 0 < len(first) < MESSAGES
        assert numbers(reader.reads_on(first, until=MESSAGES)) == list(range(MESSAGES + 1))


def test_a_reader_who_keeps_up_is_not_cut_off_whatever_comes(serve: Serve, gate: Gate) -> None:
    with serve("mcp_sessions.daphne") as process:
        flooded = Reader(process).calls("flood", number=MESSAGES, size=SIZE, gate=gate.path)
        with ThreadPoolExecutor() as pool:
            came = pool.submit(what_came, flooded)
            gate.reached()
            gate.open()
        assert numbers(came.result()) == list(range(MESSAGES + 1))


@pytest.mark.protocol("H20")
def test_a_standalone_stream_that_nobody_reads_stays_in_the_log(serve: Serve) -> None:
    with serve("mcp_sessions.daphne", "--send-timeout", "1") as process:
        reader = Reader(process)
        lazy = reader.listens()
        with growth_of(process.pid) as growth:
            assert reader.client.value(process.url, "speak", number=MESSAGES, size=SIZE) == MESSAGES
        assert growth.peak < MAX_QUEUED_BYTES
        wait_until(lambda: "cut off" in process.output(), what="the stream to be cut off")
        first = what_came(lazy)
        assert 0 < len(first) < MESSAGES
        assert numbers(reader.reads_on(first, until=MESSAGES - 1)) == list(range(MESSAGES))


@pytest.mark.protocol("H11")
def test_clients_that_leave_while_their_streams_wait_leave_nothing_behind(serve: Serve, gate: Gate) -> None:
    with serve("mcp_sessions.daphne") as process:
        reader = Reader(process)

        def held() -> dict[str, int]:
            counts: dict[str, int] = reader.client.call(process.url, "held")["result"]["structuredContent"]
            return counts

        before = held()
        flooded = reader.calls("flood", number=MESSAGES // 2, size=SIZE, gate=gate.path)
        gate.reached()
        listening = reader.listens()
        assert reader.client.value(process.url, "speak", number=MESSAGES // 2, size=SIZE)
        wait_until(lambda: held()["Room"] == 2, what="two sends that wait")
        flooded.socket.close()
        listening.socket.close()
        gate.open()
        assert gate.outcome() == "passed"
        wait_until(lambda: held() == before, what=f"no more than {before}")
