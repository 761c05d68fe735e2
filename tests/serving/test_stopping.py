"""The endpoint in a process that is told to stop: under our daphne, under uvicorn, and under daphne as it is."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, events
from tests.support.processes import ENVIRONMENT, Process, free_port, started, wait_until

STOP_SECONDS = 20.0
LIFESPAN_LEFT = "the lifespan was left"
LISTEN = {
    "daphne": ("-b", "127.0.0.1", "-p"),
    "mcp_sessions.daphne": ("--drain-timeout", "60", "-b", "127.0.0.1", "-p"),
    "uvicorn": ("--timeout-graceful-shutdown", "60", "--host", "127.0.0.1", "--port"),
}


@contextmanager
def served_by(
    module: str,
    directory: Path,
    response: str = "auto",
    *,
    application: str = "project.asgi:application",
    **environment: str,
) -> Iterator[Process]:
    """The endpoint with sessions in memory, under that server."""
    port = free_port()
    process = Process(
        name=module,
        command=(sys.executable, "-m", module, *LISTEN[module], str(port), application),
        environment={
            **ENVIRONMENT,
            "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
            "MCP_SERVER": "tests.served.everything.server",
            "MCP_RESPONSE": response,
            **environment,
        },
        port=port,
        log=directory / "server.log",
    )
    with started([process]):
        yield process


class Call:
    """A call of `wait` in a thread of its own: its response, once it is there."""

    def __init__(self, process: Process, gate: Gate) -> None:
        self.client = RawClient(http=httpx2.Client(timeout=STOP_SECONDS))
        self.client.initialize(process.url)
        self._message = self.client.request("tools/call", {"name": "wait", "arguments": {"gate": gate.path}})
        self._url = process.url
        self._responses: list[httpx2.Response] = []
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()
        gate.reached()

    def _call(self) -> None:
        self._responses.append(self.client.post(self._url, self._message))

    def response(self) -> httpx2.Response:
        self._thread.join(STOP_SECONDS)
        self.client.http.close()
        (response,) = self._responses
        return response


@pytest.mark.parametrize("module", ["mcp_sessions.daphne", "daphne"])
def test_a_call_in_flight_is_answered_before_the_lifespan_is_left(
    tmp_path: Path, gate: Gate, module: str
) -> None:
    """Under our command, and under daphne's once `asgi.py` has patched it."""
    with served_by(module, tmp_path, response="json", MCP_DRAIN_TIMEOUT="60") as process:
        call = Call(process, gate)
        process.send_signal(signal.SIGTERM)
        wait_until(process.refuses_connections, seconds=STOP_SECONDS, what="the port to close")
        assert LIFESPAN_LEFT not in process.output()
        gate.open()
        response = call.response()
        assert response.status_code == 200
        assert response.json()["result"]["structuredContent"] == {"result": "passed"}
        assert process.exit_code(seconds=STOP_SECONDS) == 0
        assert LIFESPAN_LEFT in process.output()


def test_an_open_standalone_stream_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    with served_by("mcp_sessions.daphne", tmp_path) as process:
        client = RawClient()
        client.initialize(process.url)
        with client.get(process.url) as response:
            assert response.status_code == 200
            process.send_signal(signal.SIGTERM)
            assert [event for event in events(response) if event.data] == []
        assert process.exit_code(seconds=STOP_SECONDS) == 0
        assert LIFESPAN_LEFT in process.output()


def test_uvicorn_answers_the_call_and_leaves_the_lifespan_too(tmp_path: Path, gate: Gate) -> None:
    with served_by("uvicorn", tmp_path, response="json") as process:
        call = Call(process, gate)
        process.send_signal(signal.SIGTERM)
        wait_until(process.refuses_connections, seconds=STOP_SECONDS, what="the port to close")
        gate.open()
        assert call.response().status_code == 200
        process.exit_code(seconds=STOP_SECONDS)
        assert LIFESPAN_LEFT in process.output()


def test_plain_daphne_cancels_the_call_and_its_client_is_told_to_try_again(
    tmp_path: Path, gate: Gate
) -> None:
    with served_by(
        "daphne", tmp_path, response="json", application="tests.served.unpatched:application"
    ) as process:
        call = Call(process, gate)
        process.send_signal(signal.SIGTERM)
        response = call.response()
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["error"]["code"] == -32603
        assert process.exit_code(seconds=STOP_SECONDS) == 0
        assert "Traceback" not in process.output()
