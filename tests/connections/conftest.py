"""Servers of a test's own: tests here stop them, or let them hang."""

from collections.abc import Iterator

import pytest

from tests.store.harness import a_fingerprint
from tests.support.redis import RedisServer, SentinelTrio, run_sentinels, run_server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as running:
        yield running


@pytest.fixture
def trio() -> Iterator[SentinelTrio]:
    """Sentinels whose test changes who is primary.

    The service's name is new too, because django-redis keeps one pool per URL for the life of the process.
    """
    with run_sentinels(service=f"sessions-{a_fingerprint()[:8]}") as running:
        yield running
