"""Two daphne processes, A and B, that share a Redis and nothing else, and one URL that leads to either."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.known import KNOWN, Known
from tests.support.mcp_client import RawClient
from tests.support.processes import Process, daphnes, wait_until
from tests.support.proxies import Switch, round_robin
from tests.support.redis import RedisServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two processes behind a switch, which leads to A at first."""

    a: Process
    b: Process
    switch: Switch

    @property
    def url(self) -> str:
        """The endpoint, as clients know it."""
        return f"{self.switch.url}/mcp"

    def last_served(self, method: str) -> str:
        """The name of the process that got the last request with this HTTP method."""
        return [request.process for request in self.switch.served if request.method == method][-1]

    def session_id(self) -> str:
        """The session that the client's last request named. Old clients send the first such request a little later."""
        return wait_until(self._session_ids, what="a request with a session")[-1]

    def sessions(self) -> set[str]:
        """Every session that a request named so far."""
        return set(self._session_ids())

    def _session_ids(self) -> list[str]:
        return [request.session for request in self.switch.served if request.session]


def status_of(process: Process, session_id: str) -> int:
    """The HTTP status of a `ping` in that session, asked of that process: client libraries do not show it."""
    client = RawClient(session_id=session_id, version="2025-06-18")
    return client.post(process.url, client.request("ping")).status_code


@pytest.fixture(scope="session")
def processes(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, Process]]:
    """A and B, for the whole run."""
    environment = {
        "REDIS_URL": redis_server.url,
        "MCP_SERVER": "tests.served.clients.server",
        "MCP_NAMESPACE": "clients",
    }
    directory: Path = tmp_path_factory.mktemp("clients")
    with daphnes(2, directory, **environment) as (a, b):
        yield a, b


@pytest.fixture(scope="session")
def round_robin_url(
    processes: tuple[Process, Process], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The endpoint behind an nginx that gives A and B a request each in turn."""
    with round_robin(processes, tmp_path_factory.mktemp("proxy")) as proxy:
        yield f"{proxy.url}/mcp"


@pytest.fixture
def pair(processes: tuple[Process, Process]) -> Iterator[Pair]:
    """Both processes, with a switch of the test's own."""
    a, b = processes
    with Switch(a) as switch:
        yield Pair(a=a, b=b, switch=switch)


@pytest.fixture(
    params=[
        pytest.param(each, id=each.name, marks=pytest.mark.needs("npm") if each.needs_npm else ())
        for each in KNOWN
    ]
)
def known(request: pytest.FixtureRequest) -> Known:
    """Each client that is tested as it is without options."""
    return request.param  # type: ignore[no-any-return]  # one of those above
