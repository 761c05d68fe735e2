"""Every system check: it fires, it stays silent, and it says what is wrong, where, and what to do."""

from collections.abc import Mapping
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.test import override_settings
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateSecurity

from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions
from tests.support.processes import free_port
from tests.support.redis import RedisServer, run_cluster, run_server

HERE = "tests.unit.test_checks"
REDIS = "django_redis.cache.RedisCache"

server = MCPServer("shop", request_state_security=request_state_security())
heard = [SharedSubscriptions(alias) for alias in ("default", "other", "shop", "stock")]
lowlevel = Server("shop")
process_local = MCPServer("shop")
foreign_keys = MCPServer("shop", request_state_security=RequestStateSecurity(keys=["k" * 32]))
not_a_server = {"name": "shop"}


def build() -> MCPServer[Any]:
    return server


def build_nothing() -> None:
    return None


def fail() -> MCPServer[Any]:
    raise RuntimeError("no connection to the warehouse")


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        return None


verifier = Verifier()


def redis_at(url: str | list[str], **config: Any) -> dict[str, Any]:
    return {"BACKEND": REDIS, "LOCATION": url, **config}


IN_REDIS = {"default": redis_at("redis://127.0.0.1:6379/1")}


def entry(**values: Any) -> dict[str, Any]:
    return {"SERVER": f"{HERE}.server", **values}


def found(
    entries: object, *, caches: Mapping[str, Any] = IN_REDIS, deploy: bool = False, **settings: Any
) -> list[CheckMessage]:
    """What the checks say about MCP_SESSIONS = entries."""
    with override_settings(MCP_SESSIONS=entries, CACHES=caches, **settings):
        return run_checks(tags=["mcp_sessions"], include_deployment_checks=deploy)


def only(messages: list[CheckMessage], identifier: str) -> CheckMessage:
    """The single message of that id; any other message is a failure, too."""
    assert [message.id for message in messages] == [f"mcp_sessions.{identifier}"], messages
    return messages[0]


def ids(messages: list[CheckMessage]) -> set[str]:
    return {str(message.id).removeprefix("mcp_sessions.") for message in messages}


def test_a_good_configuration_is_silent() -> None:
    assert found({"default": entry(), "other": entry(PATH="other")}) == []


def test_a_project_without_endpoints_is_told_so_and_nothing_else() -> None:
    message = only(found({}, deploy=True, DEBUG=False), "W009")
    assert message.msg == "MCP_SESSIONS is missing or empty: there is no endpoint."
    assert '{"default": {"SERVER"' in str(message.hint)


def test_every_hint_ends_with_the_anchor_of_its_id() -> None:
    for message in found({"default": {"SEVER": "shop.mcp"}, "other": 3}):
        number = str(message.id).split(".")[1].lower()
        assert str(message.hint).endswith(f"docs/checks.md#{number}")


@pytest.mark.parametrize("entries", [["default"], None, "shop.mcp.server"])
def test_mcp_sessions_must_be_a_dictionary(entries: object) -> None:
    message = only(found(entries), "E001")
    assert message.msg == f"MCP_SESSIONS must be a dictionary, not {entries!r}."
    assert '{"default": {"SERVER"' in str(message.hint)


def test_an_entry_must_be_a_dictionary() -> None:
    message = only(found({"default": "shop.mcp.server"}), "E001")
    assert message.msg == "MCP_SESSIONS['default'] must be a dictionary, not 'shop.mcp.server'."


def test_an_unknown_key_is_named_beside_the_known_ones() -> None:
    message = only(found({"default": entry(IDLE_TIMEOUT=3)}), "E002")
    assert message.msg.startswith(
        "MCP_SESSIONS['default'] has the unknown key 'IDLE_TIMEOUT'. The known keys are "
    )
    assert "IDLE_TTL" in message.msg


def test_a_value_of_the_wrong_type_is_named_with_what_fits() -> None:
    message = only(found({"default": entry(IDLE_TTL="1h")}), "E003")
    assert (
        message.msg == "MCP_SESSIONS['default']['IDLE_TTL'] must be seconds above 0 or a timedelta, not '1h'."
    )


def test_an_entry_without_a_server_is_an_error() -> None:
    message = only(found({"default": {"PATH": "mcp"}}), "E004")
    assert message.msg == "MCP_SESSIONS['default'] needs SERVER, the dotted path of an MCP server."
    assert "shop.mcp.server" in str(message.hint)


@pytest.mark.parametrize("name", ["server", "lowlevel", "build"])
def test_both_kinds_of_server_and_a_callable_are_servers(name: str) -> None:
    assert found({"default": entry(SERVER=f"{HERE}.{name}")}) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_package.mcp.server", "ModuleNotFoundError"),
        (f"{HERE}.no_such_server", "ImportError"),
        ("server", "ImportError"),
        (f"{HERE}.not_a_server", "TypeError"),
        (f"{HERE}.build_nothing", "TypeError"),
        (f"{HERE}.fail", "RuntimeError: no connection to the warehouse"),
    ],
)
def test_a_server_that_cannot_be_had_is_an_error_that_says_why(path: str, reason: str) -> None:
    message = only(found({"default": entry(SERVER=path)}), "E005")
    assert message.msg.startswith("MCP_SESSIONS['default']['SERVER']: ")
    assert path in message.msg
    assert reason in message.msg
    assert "MCPServer" in str(message.hint)


def test_two_endpoints_at_one_path_are_an_error_however_the_slashes_are() -> None:
    message = only(found({"shop": entry(PATH="/mcp/"), "stock": entry()}), "E006")
    assert "'shop' and 'stock' have the same PATH 'mcp'" in message.msg


def test_two_endpoints_under_one_namespace_of_one_cache_are_an_error() -> None:
    message = only(found({"shop": entry(), "stock": entry(NAMESPACE="shop", PATH="stock")}), "E007")
    assert "'shop' and 'stock' have the same NAMESPACE 'shop'" in message.msg


def test_one_namespace_on_two_databases_is_silent() -> None:
    caches = {**IN_REDIS, "second": redis_at("redis://127.0.0.1:6379/2")}
    entries = {
        "shop": entry(NAMESPACE="both"),
        "stock": entry(NAMESPACE="both", PATH="stock", CACHE="second"),
    }
    assert found(entries, caches=caches) == []


def test_one_namespace_on_two_aliases_of_one_database_is_an_error() -> None:
    caches = {**IN_REDIS, "second": redis_at("redis://localhost/1")}
    entries = {
        "shop": entry(NAMESPACE="both"),
        "stock": entry(NAMESPACE="both", PATH="stock", CACHE="second"),
    }
    assert "E007" in ids(found(entries, caches=caches))


def test_one_namespace_under_two_key_prefixes_is_silent_about_namespaces() -> None:
    caches = {**IN_REDIS, "second": redis_at("redis://localhost/1", KEY_PREFIX="second")}
    entries = {
        "shop": entry(NAMESPACE="both"),
        "stock": entry(NAMESPACE="both", PATH="stock", CACHE="second"),
    }
    assert "E007" not in ids(found(entries, caches=caches))


def test_one_namespace_of_two_endpoints_in_memory_is_an_error() -> None:
    entries = {"shop": entry(NAMESPACE="both"), "stock": entry(NAMESPACE="both", PATH="stock", CACHE="other")}
    assert ids(found(entries, caches={})) == {"E007", "W001"}


def with_tokens(verifier: str = f"{HERE}.Verifier", **values: Any) -> dict[str, Any]:
    urls = {"ISSUER_URL": "https://id.example.com", "RESOURCE_URL": "https://shop.example.com/mcp"}
    return entry(**{"TOKEN_VERIFIER": verifier, **urls, **values})


@pytest.mark.parametrize("name", ["Verifier", "verifier"])
def test_a_class_and_an_instance_are_verifiers(name: str) -> None:
    assert found({"default": with_tokens(f"{HERE}.{name}")}) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_package.Verifier", "cannot be imported: ModuleNotFoundError"),
        (f"{HERE}.not_a_server", "has no method verify_token"),
    ],
)
def test_a_verifier_that_cannot_be_had_is_an_error_that_says_why(path: str, reason: str) -> None:
    message = only(found({"default": with_tokens(path)}), "E008")
    assert message.msg.startswith(f"MCP_SESSIONS['default']['TOKEN_VERIFIER']: {path!r}")
    assert reason in message.msg
    assert "verify_token" in str(message.hint)


@pytest.mark.parametrize("key", ["ISSUER_URL", "RESOURCE_URL"])
def test_a_verifier_without_its_url_is_an_error(key: str) -> None:
    message = only(found({"default": {**with_tokens(), key: None}}), "E009")
    assert message.msg == f"MCP_SESSIONS['default'] has TOKEN_VERIFIER but no {key}."
    assert "RFC 9728" in str(message.hint)


@pytest.mark.parametrize(
    ("caches", "what"),
    [
        (
            {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
            "not a django-redis cache",
        ),
        ({"default": {"BACKEND": "no_such_package.Cache"}}, "not a django-redis cache"),
        ({"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache"}}, "not a django-redis cache"),
        ({}, "not in CACHES"),
    ],
)
def test_sessions_in_memory_are_a_warning_that_says_what_is_lost(caches: dict[str, Any], what: str) -> None:
    with override_settings(CACHES=caches):
        message = only(found({"default": entry()}, caches=caches), "W001")
    assert f"the cache 'default' is {what}" in message.msg
    assert "lost when it ends" in message.msg
    assert "django_redis.cache.RedisCache" in str(message.hint)


def test_sessions_in_memory_without_lua_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_sessions.engine.lua51", None)
    messages = found({"default": entry()}, caches={})
    assert ids(messages) == {"E010", "W001"}
    [error] = [message for message in messages if message.id == "mcp_sessions.E010"]
    assert "the package lupa, which is missing" in error.msg
    assert 'pip install "mcp-sessions[memory]"' in str(error.hint)
    assert found({"default": entry()}) == []


def test_an_idle_time_longer_than_the_maximum_age_is_a_warning() -> None:
    message = only(found({"default": entry(IDLE_TTL=7200, MAX_AGE=3600)}), "W002")
    assert "IDLE_TTL (7200 s) is longer than MAX_AGE (3600 s)" in message.msg


def test_an_idle_time_of_exactly_the_maximum_age_is_silent() -> None:
    assert found({"default": entry(IDLE_TTL=3600, MAX_AGE=3600)}) == []


def test_a_first_time_longer_than_the_idle_time_is_a_warning() -> None:
    message = only(found({"default": entry(FIRST_TTL=60, IDLE_TTL=30)}), "W003")
    assert "FIRST_TTL (60 s) is longer than IDLE_TTL (30 s)" in message.msg


@pytest.mark.parametrize(
    "other",
    [
        redis_at("redis://127.0.0.1:6379/1"),
        redis_at("redis://localhost/1"),
        redis_at("redis://user:secret@localhost:6379?db=1"),
        redis_at(["redis://cache.example.com/0", "redis://localhost/1"]),
        redis_at("redis://cache.example.com/0,redis://localhost/1"),
        redis_at("redis://localhost", OPTIONS={"CONNECTION_POOL_KWARGS": {"db": 1}}),
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://localhost/1"},
        {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://localhost;redis://localhost/1",
        },
    ],
)
def test_a_cache_in_the_sessions_database_is_a_warning(other: dict[str, Any]) -> None:
    message = only(found({"default": entry()}, caches={**IN_REDIS, "pages": other}), "W004")
    assert "database 1 of 127.0.0.1:6379" in message.msg
    assert "caches['pages'].clear() is FLUSHDB" in message.msg
    assert "secret" not in message.msg


@pytest.mark.parametrize(
    "other",
    [
        redis_at("redis://127.0.0.1:6379/2"),
        redis_at("redis://127.0.0.1:6380/1"),
        redis_at("redis://cache.example.com/1"),
        redis_at("unix:///run/redis.sock?db=1"),
        {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "redis://localhost/1"},
    ],
)
def test_a_cache_somewhere_else_is_silent(other: dict[str, Any]) -> None:
    assert found({"default": entry()}, caches={**IN_REDIS, "pages": other}) == []


def test_a_cache_behind_the_sessions_socket_is_a_warning() -> None:
    caches = {
        "default": redis_at("unix:///run/redis.sock?db=1"),
        "pages": redis_at("unix:///run/redis.sock", OPTIONS={"CONNECTION_POOL_KWARGS": {"db": 1}}),
    }
    message = only(found({"default": entry()}, caches=caches), "W004")
    assert "database 1 of /run/redis.sock" in message.msg


@pytest.mark.parametrize("name", ["process_local", "foreign_keys"])
def test_request_state_keys_that_are_not_the_deployments_are_a_warning(name: str) -> None:
    message = only(found({"default": entry(SERVER=f"{HERE}.{name}")}), "W005")
    assert f"the request-state keys of '{HERE}.{name}' do not come from SECRET_KEY" in message.msg
    assert "request_state_security=" in str(message.hint)


def test_request_state_keys_of_one_process_are_no_matter_while_sessions_are() -> None:
    assert ids(found({"default": entry(SERVER=f"{HERE}.process_local")}, caches={})) == {"W001"}


def test_announcements_that_other_processes_would_not_hear_are_a_warning() -> None:
    message = only(found({"unheard": entry()}), "W008")
    assert (
        f"MCP_SESSIONS['unheard']: '{HERE}.server' was built without SharedSubscriptions('unheard')"
        in message.msg
    )
    assert "subscriptions=mcp_sessions.subscriptions.SharedSubscriptions('unheard')" in str(message.hint)


def test_announcements_are_no_matter_in_one_process_or_from_a_low_level_server() -> None:
    assert ids(found({"unheard": entry()}, caches={})) == {"W001"}
    assert found({"unheard": entry(SERVER=f"{HERE}.lowlevel")}) == []


def test_an_endpoint_that_authenticates_nobody_is_a_warning_before_a_deployment() -> None:
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    messages = found({"default": entry(PATH="shop")}, caches=caches, deploy=True, DEBUG=False)
    (message,) = [message for message in messages if message.id == "mcp_sessions.W006"]
    assert "has no TOKEN_VERIFIER: everybody who can reach 'shop'" in message.msg
    assert "TOKEN_VERIFIER" in str(message.hint)


@pytest.mark.parametrize(
    ("values", "settings", "deploy"),
    [
        (with_tokens(), {"DEBUG": False}, True),
        (entry(), {"DEBUG": True}, True),
        (entry(), {"DEBUG": False}, False),
    ],
)
def test_authentication_is_no_matter_with_tokens_in_debug_or_before_no_deployment(
    values: dict[str, Any], settings: dict[str, Any], deploy: bool
) -> None:
    messages = found({"default": values}, caches={}, deploy=deploy, **settings)
    assert "W006" not in ids(messages)


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
