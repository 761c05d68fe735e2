"""A primary that became a replica behind the same address: the address leads to another server now.

So do managed services, DNS names and virtual addresses. The old server still answers on the connections that it has.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from mcp_sessions.errors import StoreUnavailable
from tests.store.harness import Harness
from tests.support.lossy import LossyProxy, lossy_proxy
from tests.support.processes import HOST
from tests.support.redis import RedisServer, run_server


@pytest.fixture
def promoted() -> Iterator[RedisServer]:
    with run_server() as running:
        yield running


@pytest.fixture
async def proxy(server: RedisServer, promoted: RedisServer) -> AsyncIterator[LossyProxy]:
    """Closed before either of the servers stops."""
    async with lossy_proxy(server) as running:
        yield running


async def test_connections_to_a_server_that_is_no_primary_any_more_are_used_once(
    harness: Harness, proxy: LossyProxy, server: RedisServer, promoted: RedisServer
) -> None:
    opened = await harness.open()
    await asyncio.gather(*[harness.touch(opened) for _ in range(3)])
    await harness.settled()
    with server.client() as old:
        old.replicaof(HOST, promoted.port)
    proxy.server = promoted
    with pytest.raises(StoreUnavailable, match="read only replica"):
        await harness.open()
    assert await harness.open(), "on a new connection, to the primary"
