"""What CACHES says about the Redis of an endpoint."""

from typing import Any

import pytest
from pytest_django import Settings

from mcp_sessions.conf.caches import is_cluster

CLUSTER = "mcp_sessions.store.clients.ClusterConnectionFactory"
SENTINEL = "django_redis.pool.SentinelConnectionFactory"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        (None, False),
        ({"CONNECTION_FACTORY": CLUSTER}, True),
        ({"CONNECTION_FACTORY": SENTINEL}, False),
        ({"CONNECTION_FACTORY": "nowhere.to.be.Found"}, False),
        ({"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}, True),
        ({"REDIS_CLIENT_CLASS": "redis.client.StrictRedis"}, False),
    ],
)
def test_a_cluster_is_known_by_its_factory_or_its_client(
    settings: Settings, options: dict[str, Any] | None, expected: bool
) -> None:
    settings.CACHES = {"sessions": {"BACKEND": "django_redis.cache.RedisCache", "OPTIONS": options}}
    assert is_cluster("sessions") is expected


def test_the_factory_of_all_caches_counts_where_a_cache_names_none(settings: Settings) -> None:
    settings.CACHES = {"one": {}, "other": {"OPTIONS": {"CONNECTION_FACTORY": SENTINEL}}}
    settings.DJANGO_REDIS_CONNECTION_FACTORY = CLUSTER
    assert is_cluster("one")
    assert not is_cluster("other")
