"""The official suite, one run per revision of the specification, against one process and against two.

Two processes stand behind an nginx that hands each request to the next of them, whatever session it belongs to.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.expectations import SCENARIOS, expected_failures, surprises
from tests.conformance.suite import LEGS, run
from tests.support.processes import daphnes
from tests.support.proxies import round_robin
from tests.support.redis import RedisServer

SERVER = "tests.served.conformance.server"

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.slow,
    pytest.mark.needs("npm"),
]


@pytest.fixture(scope="module")
def one(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one process."""
    directory = tmp_path_factory.mktemp("one")
    with daphnes(1, directory, **_environment(redis_server, "conformance-one")) as (process,):
        yield process.url


@pytest.fixture(scope="module")
def two(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the proxy before two processes."""
    directory = tmp_path_factory.mktemp("two")
    environment = _environment(redis_server, "conformance-two")
    with daphnes(2, directory, **environment) as processes, round_robin(processes, directory) as proxy:
        yield proxy.url


def _environment(redis_server: RedisServer, namespace: str) -> dict[str, str]:
    return {"REDIS_URL": redis_server.url, "MCP_SERVER": SERVER, "MCP_NAMESPACE": namespace}


@pytest.mark.parametrize("leg", LEGS)
def test_one_process_conforms(leg: str, one: str, tmp_path: Path) -> None:
    check(leg, "one", one, tmp_path)


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("leg", LEGS)
def test_two_processes_behind_round_robin_conform(leg: str, two: str, tmp_path: Path) -> None:
    check(leg, "two", two, tmp_path)


def check(leg: str, topology: str, url: str, directory: Path) -> None:
    """Run the leg and compare, in both directions."""
    outcomes = run(leg, f"{url}/mcp", directory / leg)
    assert len(outcomes) == SCENARIOS[leg]
    found = surprises(outcomes, expected_failures(leg, topology))
    assert not found, "\n".join(found)
