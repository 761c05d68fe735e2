"""The same application on another ASGI server, and without Redis."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_without_redis_a_restart_loses_the_sessions_and_the_check_says_so_beforehand(tmp_path: Path) -> None:
    process = daphne("memory", tmp_path, MCP_SERVER="tests.served.everything.server")
    client = RawClient()
    with started([process]):
        client.initialize(process.url)
        process.restart()
        assert client.post(process.url, client.request("ping")).status_code == 404
        client.initialize(process.url)
        assert client.value(process.url, "add", a=1, b=1) == 2
