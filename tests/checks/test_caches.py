"""The checks of the caches that sessions are in."""

from typing import Any

import pytest
from django.test import override_settings

from tests.checks.configurations import IN_REDIS, REDIS, entry, found, ids, only, redis_at


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


@pytest.mark.parametrize(
    "other",
    [
        redis_at("redis://127.0.0.1:6379/1"),
        redis_at("redis://localhost/1"),
        redis_at("redis://user:secret@localhost:6379?db=1"),
        redis_at(["redis://cache.example.com/0", "redis://localhost/1"]),
        redis_at("redis://cache.example.com/0,redis://localhost/1"),
        redis_at("redis://cache.example.com/0, redis://localhost/1,"),
        redis_at("redis:///1"),
        redis_at("redis://localhost", OPTIONS={"CONNECTION_POOL_KWARGS": {"db": 1}}),
        redis_at("redis://localhost", OPTIONS={"CONNECTION_POOL_KWARGS": {"db": 1}, "db": 2}),
        redis_at("redis://localhost", OPTIONS={"db": 1}),
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
        redis_at("redis://127.0.0.1:6379"),
        redis_at("redis://localhost/2", OPTIONS={"db": 1}),
        redis_at("redis://cache.example.com/1"),
        redis_at("unix:///run/redis.sock?db=1"),
        {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "redis://localhost/1"},
        {"BACKEND": "no_such_package.Cache", "LOCATION": "redis://localhost/1"},
        {"BACKEND": REDIS},
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


def test_caches_whose_urls_name_no_database_are_in_the_first_one() -> None:
    caches = {"default": redis_at("redis://localhost"), "a cache": redis_at("redis://127.0.0.1:6379")}
    message = only(found({"default": entry()}, caches=caches), "W004")
    assert "in database 0 of 127.0.0.1:6379, which the cache 'a cache' also uses" in message.msg


def test_a_comma_at_the_end_names_no_database() -> None:
    caches = {"default": redis_at("redis://localhost/1,"), "pages": redis_at("redis://localhost/2, ,")}
    assert found({"default": entry()}, caches=caches) == []


def test_no_other_cache_flushes_sessions_in_memory() -> None:
    django = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://localhost/1"}
    assert ids(found({"default": entry()}, caches={"default": django, "pages": django})) == {"W001"}
