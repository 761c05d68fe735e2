"""Bounds of the requests in flight: work goes on after its client has left, and must not pile up without limit."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.support.gates import Gate, gate
from tests.support.mcp_client import RawClient, connected, messages
from tests.support.processes import serving_everything, wait_until
from tests.support.redis import RedisServer
from tests.support.totals import limited, totals_of

PER_SESSION = 2
IN_ALL = 3


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its name is the namespace."""
    return tmp_path_factory.mktemp("request-caps")


@pytest.fixture(scope="module")
def url(redis_server: RedisServer, directory: Path) -> Iterator[str]:
    """A process with small caps."""
    caps = {"MCP_MAX_REQUESTS": str(IN_ALL), "MCP_MAX_REQUESTS_PER_SESSION": str(PER_SESSION)}
    with serving_everything(directory, redis_server.url, count=1, **caps) as (process,):
        yield process.url


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[list[Gate]]:
    """One for each request that stays in flight."""
    with ExitStack() as stack:
        yield [stack.enter_context(gate(_made(tmp_path / str(n)))) for n in range(IN_ALL)]


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def leave_behind(client: RawClient, url: str, at: Gate) -> None:
    """Begin a request that waits at a gate, and drop the connection."""
    with client.stream(url, client.calling("report", gate=at.path)) as response:
        assert next(messages(response))["method"] == "notifications/progress"
    at.reached()


def test_requests_that_were_left_behind_are_bounded(
    url: str, gates: list[Gate], directory: Path, redis_server: RedisServer, settings: LazySettings
) -> None:
    client, other, third = (connected(url) for _ in range(3))
    leave_behind(client, url, gates[0])
    leave_behind(client, url, gates[1])
    refused = client.post(url, client.request("ping"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert refused.json()["error"]["message"]

    assert other.value(url, "add", a=1, b=1) == 2
    leave_behind(other, url, gates[2])
    assert third.post(url, third.request("ping")).status_code == 503
    assert (
        third.post(url, {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).status_code == 202
    )

    for each in gates:
        each.open()
    wait_until(lambda: client.post(url, client.request("ping")).status_code == 200, what="room for a request")
    assert third.value(url, "add", a=1, b=1) == 2
    totals = totals_of(directory.name, redis_server, settings)
    wait_until(
        lambda: limited(totals()).keys() == {"MAX_REQUESTS_PER_SESSION", "MAX_REQUESTS"},
        what="both caps to be counted",
    )
