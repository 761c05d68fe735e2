"""Two processes over one store, and a session."""

import pytest

from tests.cluster.processes import Process, Store
from tests.store.harness import Harness, embedded_harness


@pytest.fixture
def harness() -> Harness:
    return embedded_harness()


@pytest.fixture
def store(harness: Harness) -> Store:
    return Store(harness)


@pytest.fixture
def one(store: Store) -> Process:
    return Process(store)


@pytest.fixture
def other(store: Store) -> Process:
    return Process(store)


@pytest.fixture
async def session(harness: Harness) -> str:
    return await harness.open()
