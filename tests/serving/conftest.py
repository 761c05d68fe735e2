"""Two processes of one service for the whole suite."""

from collections.abc import Iterator

import pytest

from tests.support.processes import Process, serving_everything
from tests.support.redis import RedisServer


@pytest.fixture(scope="package")
def processes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    with serving_everything(tmp_path_factory.mktemp("serving"), redis_server.url) as running:
        yield running
