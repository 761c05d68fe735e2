"""Two processes of one service on one Redis, for the tests that ask any of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gates import Gate
from tests.support.gates import gate as opened_gate
from tests.support.mcp_client import RawClient
from tests.support.processes import Process, daphnes
from tests.support.redis import RedisServer


@pytest.fixture(scope="module")
def processes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Two daphne processes of tests/integration/everything.py, with a namespace of their own."""
    directory: Path = tmp_path_factory.mktemp("processes")
    with daphnes(
        2,
        directory,
        REDIS_URL=redis_server.url,
        MCP_SERVER="tests.served.everything.server",
        MCP_NAMESPACE=directory.name,
        MCP_ALLOWED_ORIGINS="https://app.example.com",
    ) as running:
        yield running


@pytest.fixture
def a(processes: list[Process]) -> str:
    """The URL of one process."""
    return processes[0].url


@pytest.fixture
def b(processes: list[Process]) -> str:
    """The URL of the other."""
    return processes[1].url


@pytest.fixture
def client(a: str) -> RawClient:
    """A client with a session that process A initialized."""
    client = RawClient()
    client.initialize(a)
    return client


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for one handler."""
    with opened_gate(tmp_path) as opened:
        yield opened
