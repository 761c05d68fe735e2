"""A server written with FastMCP 4 on two processes, and FastMCP's own client, which reaches them in turn."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.driven import DrivenClient, driven, python_driver
from tests.support import ROOT
from tests.support.mcp_client import RawClient, messages
from tests.support.processes import ENVIRONMENT, Process, daphne, started
from tests.support.programs import python_with
from tests.support.proxies import Switch
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.clients, pytest.mark.slow]


@pytest.fixture(scope="module")
def processes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """A and B, in an environment with FastMCP."""
    directory = tmp_path_factory.mktemp("fastmcp")
    python = str(python_with("clients/requirements-fastmcp-server.txt"))
    # Nothing in there was compiled when it was installed, which takes longer than a server may take to start.
    keeping = {"PYTHONDONTWRITEBYTECODE": ""}
    command = (python, "-c", "import tests.served.unpatched, fastmcp.server.providers.openapi")
    subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT | keeping, check=True, timeout=200)
    running = []
    for name, server in (("A", "server"), ("B", "build")):
        process = daphne(
            name,
            directory,
            REDIS_URL=redis_server.url,
            MCP_SERVER=f"tests.served.with_fastmcp.{server}",
            MCP_NAMESPACE=directory.name,
            MCP_ERAS="handshake",
            MCP_GRACE="10",
            **keeping,
        )
        process.command = (python, *process.command[1:])
        process.forked = False
        running.append(process)
    with ExitStack() as stack:
        for process in running:  # one after the other: they import twice as much as others
            stack.enter_context(started([process]))
        yield running


@pytest.fixture
def fastmcp(tmp_path: Path) -> Iterator[DrivenClient]:
    command = python_driver(str(python_with("clients/requirements-fastmcp-4.txt")), "fast_mcp")
    with driven(command, tmp_path) as client:
        yield client


def result(client: DrivenClient, tool: str, **arguments: Any) -> Any:
    called = client.call(tool, **arguments)
    assert not called.get("isError"), called
    return called["structuredContent"].get("result", called["structuredContent"])


def test_the_state_of_fastmcp_is_in_the_session_whichever_process_serves_it(
    processes: list[Process], fastmcp: DrivenClient
) -> None:
    a, b = processes
    with Switch(a) as switch:
        fastmcp.open(f"{switch.url}/mcp")
        assert result(fastmcp, "put", article="tea") == ["tea"]
        at_a = result(fastmcp, "where")
        switch.to = b
        assert result(fastmcp, "put", article="milk") == ["tea", "milk"]
        at_b = result(fastmcp, "where")
        fastmcp.call("forget")
        switch.to = a
        assert result(fastmcp, "put", article="jam") == ["jam"]
        fastmcp.close()
    assert (at_a["pid"], at_b["pid"]) == (a.pid, b.pid)
    # FastMCP's session is ours, and its middleware sees the calls of each process.
    assert at_a["session"] == at_a["fingerprint"] == at_b["session"]
    assert at_b["seen"] == ["put", "where"]


def test_it_asks_its_client_and_has_resources_and_prompts(processes: list[Process]) -> None:
    a, b = processes
    client = RawClient()
    client.initialize(a.url)
    call = client.request("tools/call", {"name": "ask", "arguments": {}})
    with client.stream(a.url, call) as asking:
        asked = messages(asking)
        question = next(asked)
        answer = {"action": "accept", "content": {"value": "Main Street"}}
        assert (
            client.post(b.url, {"jsonrpc": "2.0", "id": question["id"], "result": answer}).status_code == 202
        )
        assert next(asked)["result"]["structuredContent"] == {"result": "To Main Street."}
    read = client.post(b.url, client.request("resources/read", {"uri": "shop://opening-hours"})).json()
    assert read["result"]["contents"][0]["text"] == "always"
    params = {"name": "recommend", "arguments": {"mood": "sad"}}
    prompt = client.post(a.url, client.request("prompts/get", params)).json()
    assert "somebody who is sad" in prompt["result"]["messages"][0]["content"]["text"]


def test_the_operations_of_an_api_are_tools_that_django_answers(processes: list[Process]) -> None:
    a, b = processes
    client = RawClient()
    client.initialize(a.url)
    called = client.call(b.url, "ask_probe", probe="healthz")
    assert called["result"]["content"][0]["text"] == "ok\n"
