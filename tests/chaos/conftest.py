"""Processes on a Redis, for tests that end them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.harness import Serve, Service, serving
from tests.support.mcp_client import RawClient, connected
from tests.support.redis import RedisServer


@pytest.fixture
def serve(tmp_path: Path, redis_server: RedisServer) -> Iterator[Serve]:
    """`serve(3, MCP_GRACE="0.1")` starts processes with a namespace of their own; see `serving`."""
    with ExitStack() as stack:

        def make(count: int, *, redis: RedisServer = redis_server, **options: object) -> Service:
            return stack.enter_context(serving(tmp_path, redis, count, **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def client(service: Service) -> RawClient:
    """A client with a session that the first process of the module's `service` initialized."""
    return connected(service.urls[0])
