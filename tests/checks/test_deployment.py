"""The checks before a deployment, some of which ask Redis."""

from typing import Any

import pytest

from tests.checks.configurations import entry, found, ids, only, redis_at, with_tokens
from tests.support.processes import free_port
from tests.support.redis import RedisServer, run_cluster, run_server


def test_an_endpoint_that_authenticates_nobody_is_a_warning_before_a_deployment() -> None:
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    messages = found({"default": entry(PATH="shop")}, caches=caches, deploy=True, DEBUG=False)
    (message,) = [message for message in messages if message.id == "mcp_sessions.W006"]
    assert "has no AUTHENTICATION: everybody who can reach 'shop'" in message.msg
    # What it cannot see.
    assert "mcp_urlpatterns(authenticate=...)" in str(message.hint)
    assert "proxy in front" in str(message.hint)


def test_an_endpoint_that_lets_anonymous_clients_in_on_purpose_is_a_warning_too() -> None:
    messages = found(
        {"default": {**with_tokens(), "REQUIRE_USER": False}}, caches={}, deploy=True, DEBUG=False
    )
    (message,) = [message for message in messages if message.id == "mcp_sessions.W006"]
    assert "has REQUIRE_USER = False" in message.msg


@pytest.mark.parametrize(
    ("values", "settings", "deploy"),
    [
        (with_tokens(), {"DEBUG": False}, True),
        (entry(AUTHENTICATION=["personal-token"]), {"DEBUG": False}, True),
        (entry(REQUIRE_USER=True), {"DEBUG": False}, True),
        (entry(), {"DEBUG": True}, True),
        (entry(), {"DEBUG": False}, False),
    ],
)
def test_missing_authentication_does_not_matter_with_tokens_in_debug_or_without_deploy(
    values: dict[str, Any], settings: dict[str, Any], deploy: bool
) -> None:
    messages = found({"default": values}, caches={}, deploy=deploy, **settings)
    assert "W006" not in ids(messages)


@pytest.mark.parametrize(("hosts", "is_warned_of"), [(["*"], True), (["shop.example.com"], False)])
def test_an_endpoint_for_any_host_is_warned_of(hosts: list[str], is_warned_of: bool) -> None:
    messages = found({"default": with_tokens()}, caches={}, deploy=True, ALLOWED_HOSTS=hosts)
    assert ("mcp_sessions.W031" in {message.id for message in messages}) == is_warned_of


def test_a_project_without_endpoints_may_be_served_under_any_host() -> None:
    assert ids(found({}, deploy=True, ALLOWED_HOSTS=["*"])) == {"W009"}


@pytest.mark.parametrize(
    ("limit", "proxies", "settings", "is_warned_of"),
    [
        ("requests per address", [], {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}, True),
        ("tool look per address", [], {"USE_X_FORWARDED_HOST": True}, True),
        ("requests per address", ["192.0.2.0/24"], {"USE_X_FORWARDED_HOST": True}, False),
        ("requests per address", [], {}, False),
        ("requests per principal", [], {"USE_X_FORWARDED_HOST": True}, False),
    ],
)
def test_a_limit_for_each_address_behind_a_proxy_that_is_not_trusted_is_warned_of(
    limit: str, proxies: list[str], settings: dict[str, Any], is_warned_of: bool
) -> None:
    values = {**with_tokens(), "RATE_LIMITS": {limit: "9/m"}, "TRUSTED_PROXIES": proxies}
    messages = found({"default": values}, caches={}, deploy=True, **settings)
    assert ("mcp_sessions.W032" in {message.id for message in messages}) == is_warned_of


def test_an_endpoint_is_warned_once_of_all_its_limits_for_each_address() -> None:
    limits = {"initialize per principal": "9/m", "requests per address": "9/m", "streams per address": "9/m"}
    values = {**with_tokens(), "RATE_LIMITS": limits}
    messages = found({"default": values}, deploy=True, USE_X_FORWARDED_HOST=True)
    [warning] = [message.msg for message in messages if message.id == "mcp_sessions.W032"]
    assert "has the limit of requests per address, and USE_X_FORWARDED_HOST says" in warning


def test_a_redis_that_may_drop_sessions_is_a_warning_before_a_deployment() -> None:
    with run_server("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as redis:
        caches = {"default": redis_at(redis.url)}
        message = only(found({"default": with_tokens()}, caches=caches, deploy=True), "W007")
    assert "the cache 'default' has maxmemory-policy allkeys-lru" in message.msg
    assert "noeviction" in str(message.hint)


def test_one_node_of_a_cluster_that_may_drop_sessions_is_enough() -> None:
    with run_cluster() as cluster:
        with cluster.nodes[2].client() as node:
            node.config_set("maxmemory-policy", "volatile-ttl")
        options = {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"}
        caches = {"default": redis_at(cluster.url, OPTIONS=options)}
        message = only(found({"default": with_tokens()}, caches=caches, deploy=True), "W007")
    assert "maxmemory-policy volatile-ttl" in message.msg


def test_a_redis_that_refuses_writes_instead_is_silent(redis_server: RedisServer) -> None:
    caches = {"default": redis_at(redis_server.url)}
    assert found({"default": with_tokens()}, caches=caches, deploy=True) == []


def test_a_redis_that_cannot_be_asked_is_said_once_for_all_endpoints() -> None:
    caches = {"default": redis_at(f"redis://127.0.0.1:{free_port()}/0")}
    entries = {"default": with_tokens(), "other": with_tokens(PATH="other")}
    message = only(found(entries, caches=caches, deploy=True), "I001")
    assert message.msg == (
        "The Redis of the cache 'default' did not report its maxmemory-policy: ConnectionError."
    )


def test_nothing_is_asked_of_redis_unless_a_deployment_is_checked() -> None:
    caches = {"default": redis_at(f"redis://127.0.0.1:{free_port()}/0")}
    assert found({"default": entry()}, caches=caches) == []
