"""What CACHES says about the Redis of an endpoint."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from redis.cluster import RedisCluster


def is_cluster(alias: str) -> bool:
    """Whether a cache of django-redis is on a Redis Cluster: by its connection factory, or by its client's class."""
    cache: Mapping[str, Any] = settings.CACHES.get(alias, {})
    options = cache.get("OPTIONS") or {}
    factory = options.get("CONNECTION_FACTORY") or getattr(settings, "DJANGO_REDIS_CONNECTION_FACTORY", None)
    if getattr(_imported(factory), "is_for_cluster", False):
        return True
    client = _imported(options.get("REDIS_CLIENT_CLASS"))
    return isinstance(client, type) and issubclass(client, RedisCluster)


def _imported(path: str | None) -> Any:
    """What a dotted path names; None if it names nothing, which is reported where it is used."""
    try:
        return None if path is None else import_string(path)
    except ImportError:
        return None
