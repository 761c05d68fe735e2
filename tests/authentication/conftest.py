"""An identity provider, and every way to authenticate as an endpoint in this process."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.authentication.ways import Way, all_ways, in_memory
from tests.support.provider import Provider
from tests.support.provider import provider as running_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture
def ways(provider: Provider, settings: Settings) -> dict[str, Way]:
    """All ways, by their names; each is served at the path of its name, from memory."""
    every = all_ways(provider)
    for name, value in in_memory(every).items():
        setattr(settings, name, value)
    return {way.name: way for way in every}
