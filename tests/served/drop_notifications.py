"""The chaos server in processes whose notifications to each other are all lost on the way: `server`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_sessions.store.redis_streams import RedisStreams
from tests.served.chaos import server

__all__ = ["server"]


async def _lose(_: RedisStreams, __: Mapping[str, Sequence[bytes]]) -> None:
    """Notify nobody."""


def _drop_notifications(streams: Any) -> None:
    streams.ring = _lose


_drop_notifications(RedisStreams)
