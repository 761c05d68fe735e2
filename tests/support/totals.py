"""What the processes of a namespace have counted together, read from Redis."""

from collections.abc import Callable
from typing import Any

from mcp_sessions.counting import Counts
from mcp_sessions.store.calls import counts
from mcp_sessions.store.clients import make_key_of, sync_client
from mcp_sessions.store.drivers.synchronous import SyncRedisStore
from mcp_sessions.store.keys import Keys
from tests.support.redis import RedisServer


def totals_of(namespace: str, redis: RedisServer, settings: Any) -> Callable[[], Counts]:
    """Reads what they have counted."""
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}}
    store = SyncRedisStore(Keys(namespace, make_key_of("default")), lambda: sync_client("default"))
    return lambda: store.run(counts.totals())


def limited(counted: Counts) -> dict[str, int]:
    """How often each limit has refused."""
    return {
        name.removeprefix("limited:"): number
        for name, number in counted.numbers.items()
        if name.startswith("limited:")
    }
