"""The same application on another ASGI server, and without Redis."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, messages
from tests.support.processes import Process, daphne, started
from tests.support.redis import RedisServer


@pytest.fixture(params=["uvicorn", "memory"])
def server(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> Iterator[Process]:
    """uvicorn with Redis, and daphne without."""
    process = daphne(
        "server", tmp_path, MCP_SERVER="tests.served.everything.server", MCP_NAMESPACE=tmp_path.name
    )
    if request.param == "uvicorn":
        process.environment["REDIS_URL"] = redis_server.url
        listen = ("--host", "127.0.0.1", "--port", str(process.port))
        process.command = (sys.executable, "-m", "uvicorn", *listen, "project.asgi:application")
    with started([process]):
        yield process


def test_sessions_state_streams_client_requests_and_ends_work_there_too(server: Process, gate: Gate) -> None:
    client, url = RawClient(), server.url
    client.initialize(url)
    client.value(url, "remember", name="note", value=1)
    assert client.call(url, "recall", name="note")["result"]["structuredContent"] == {"value": 1}
    with client.stream(url, client.calling("count_to", number=4, gate=gate.path)) as response:
        received = messages(response)
        assert [next(received)["params"]["progress"] for _ in range(2)] == [0, 1]
        gate.reached()
        gate.open()
        assert [next(received)["params"]["progress"] for _ in range(2)] == [2, 3]
        assert next(received)["result"]["structuredContent"] == {"result": 4}
    with client.stream(
        url, client.request("tools/call", {"name": "ask_age", "arguments": {"name": "Ann"}})
    ) as asking:
        asked = messages(asking)
        answer = {"action": "accept", "content": {"age": 7}}
        reply = {"jsonrpc": "2.0", "id": next(asked)["id"], "result": answer}
        assert client.post(url, reply).status_code == 202
        assert next(asked)["result"]["structuredContent"] == {"result": "Ann is 7"}
    with client.get(url) as listening:
        told = messages(listening)
        client.value(url, "announce")
        assert next(told)["method"] == "notifications/resources/list_changed"
        assert client.delete(url).status_code == 204
        assert list(told) == []
    assert client.post(url, client.request("ping")).status_code == 404
    assert "Traceback" not in server.log.read_text()


@pytest.mark.logs_fault("This process cannot serve, and ends.", "cannot be loaded")
@pytest.mark.parametrize(("server", "status"), [("mcp_sessions.daphne", 1), ("uvicorn", 3)])
@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ("fails", "RuntimeError: no connection to the warehouse"),
        ("nothing", "TypeError: tests.served.broken.nothing is NoneType"),
    ],
)
def test_a_process_whose_server_cannot_be_made_ends_and_says_why(
    server: str, status: int, named: str, problem: str, tmp_path: Path
) -> None:
    process = daphne("ending", tmp_path, MCP_SERVER=f"tests.served.broken.{named}")
    listen = ("--host" if server == "uvicorn" else "-b", "127.0.0.1", "--port", str(process.port))
    ended = subprocess.run(
        [sys.executable, "-m", server, *listen, "project.asgi:application"],
        cwd=ROOT,
        env=os.environ | process.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = f"MCP_SESSIONS['default']['SERVER']: 'tests.served.broken.{named}' cannot be loaded: {problem}"
    assert said in ended.stdout + ended.stderr
    assert ended.returncode == status


def test_without_redis_a_restart_loses_the_sessions_and_the_check_says_so_beforehand(tmp_path: Path) -> None:
    process = daphne("memory", tmp_path, MCP_SERVER="tests.served.everything.server")
    client = RawClient()
    with started([process]):
        client.initialize(process.url)
        process.restart()
        assert client.post(process.url, client.request("ping")).status_code == 404
        client.initialize(process.url)
        assert client.value(process.url, "add", a=1, b=1) == 2
