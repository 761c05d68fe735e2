"""The same server in processes whose doorbells are all lost on the way: `server`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_sessions.store.redis_streams import RedisStreams
from tests.served.chaos import server

__all__ = ["server"]


async def _lose(_: RedisStreams, __: Mapping[str, Sequence[bytes]]) -> None:
    """Ring at nobody."""


def _deafen(streams: Any) -> None:
    streams.ring = _lose


_deafen(RedisStreams)
