"""Fixtures that several suites share."""

from collections.abc import Iterator

import pytest

from tests.servers import RedisServer, run_server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real server for the whole run; use namespaces or databases of your own, or flush it."""
    with run_server() as server:
        yield server
