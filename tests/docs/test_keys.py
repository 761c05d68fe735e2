"""docs/keys.md says which keys there are, and what a session costs."""

import asyncio
import re
import secrets
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis

from mcp_sessions import conf
from mcp_sessions.conf.rates import limits_of
from mcp_sessions.counting import Counts
from mcp_sessions.current import current_request
from mcp_sessions.handles.handle import StateHandle
from mcp_sessions.records import Handshake
from mcp_sessions.store import keys
from mcp_sessions.store.calls import (
    counts,
    endings,
    nodes,
    rates,
    recent,
    requests,
    sessions,
    state,
    streams,
    subscriptions,
    sweeps,
    validity,
)
from mcp_sessions.store.factory import store_for
from tests.docs import markdown
from tests.support.redis import RedisServer, run_server

NAMESPACE = "documented"
ORDINARY = Handshake(
    protocol_version="2025-11-25",
    client_info={"name": "example-agent", "title": "Example Agent", "version": "2.0.31"},
    capabilities={"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}, "url": {}}},
)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """An empty server that holds the sessions of the default endpoint."""
    with run_server() as running:
        caches = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": running.url}}
        entries = {"default": {"SERVER": "shop.mcp.server", "NAMESPACE": NAMESPACE}}
        with override_settings(CACHES=caches, MCP_SESSIONS=entries):
            yield running


def patterns() -> dict[str, str]:
    """Of each key in the table: a regular expression for its name, and its type."""
    found = {}
    for name, kind, *_ in markdown.table(markdown.read("keys.md"), "key"):
        pattern = re.escape(name.strip("`")).replace("<namespace>", NAMESPACE).replace("<shard>", NAMESPACE)
        pattern = pattern.replace("…", "(?:activity|ends|fingerprints|client:<x>|protocol:<x>|principal:<x>)")
        found[":1:" + re.sub("<[a-z]+>", "[^:{}]+", pattern)] = kind
    return found


async def open_session(*, used: bool = True) -> str:
    """Open a session; its fingerprint."""
    store, limits = store_for("default"), conf.endpoint("default").limits
    opened = secrets.token_hex(32)
    await store.run(sessions.create(opened, principal="anonymous", handshake=ORDINARY, limits=limits))
    if used:
        touch = sessions.touch(
            opened, principal="anonymous", limits=limits, call="tools/call:add", initialized=True
        )
        await store.run(touch)
    return opened


class Basket(StateHandle, kind="documented-basket"):
    """For records that are no sessions."""


async def make_a_handle(user: int = 1, **state: str) -> None:
    """As a tool does that a user has called."""
    request: Any = SimpleNamespace(
        conf=conf.endpoint("default"),
        store=store_for("default"),
        principal=f"user:{user}",
        handshake=ORDINARY,
    )
    token = current_request.set(request)
    try:
        basket = await Basket.create()
        if state:
            await basket.update(state)
    finally:
        current_request.reset(token)


async def make_handles(count: int) -> None:
    """Ten for each user."""
    for start in range(0, count, 50):
        await asyncio.gather(*[make_a_handle((start + n) // 10) for n in range(50)])
    await store_for("default").aclose()


async def leave_every_key() -> None:
    store = store_for("default")
    await make_a_handle(size="M")
    kept, ended, _ = await open_session(), await open_session(), await open_session(used=False)
    await store.run(sessions.set_log_level(kept, "info"))
    await store.run(state.set_values(kept, {"size": '"M"'}, max_bytes=100))
    for work in what_leaves_keys(kept):
        await store.run(work)
    await store.run(sessions.end(ended, principal="anonymous", reason="deleted", lasting_ms=86_400_000))
    await store.aclose()


def what_leaves_keys(fingerprint: str) -> Iterator[Any]:
    limits = conf.StreamLimits(max_events=10, max_bytes=1000, ttl_ms=60_000)
    yield validity.end_all_before_now()
    called = Counts({"sessions_opened": 1})
    called.add_call("add", 1, "ok")
    yield counts.add(called, by="node1", batch="1", now_ms=0)
    yield nodes.beat("node1", about="{}", forget_after_ms=60_000)
    yield nodes.report("node1", told="{}")
    yield nodes.notify_all(b"look")
    yield nodes.broadcast(b"hear")
    yield sweeps.over("@0000", node="node1")
    limited = limits_of({"requests per principal": "10/h"})
    yield from rates.spend(rates.buckets(limited, ("requests",), rates.Who("user:1"), shards=1))
    yield endings.begin(endings.Ending(token="a", fingerprints=[fingerprint], reason="deleted", by="ann"))
    for stream, last in (("aa", False), ("bb", True)):
        yield streams.open_stream(fingerprint, stream, node="node1", request_id="1", limits=limits)
        yield streams.append(
            fingerprint, stream, node="a", first=1, payloads=[b"{}"], last=last, limits=limits
        )
    yield streams.finish(fingerprint, "bb", kept=16, kept_bytes=1000, ttl_ms=300_000)
    yield streams.publish(fingerprint, payloads=[b"{}"], key="once", limits=limits)
    yield recent.note(fingerprint, [recent.Past(1, 2, "ok", "node1", "ping")], failed=0, most=50)
    yield requests.register(fingerprint, "q1", node="node1", kept_ms=60_000)
    yield subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=10)


async def open_sessions(count: int) -> None:
    for _ in range(count // 50):
        await asyncio.gather(*[open_session() for _ in range(50)])
    await store_for("default").aclose()


def type_of(client: Redis, key: str) -> str:
    kind = str(client.type(key))
    return "sorted set" if kind == "zset" else kind


def test_the_table_is_that_of_the_code() -> None:
    assert markdown.table(markdown.read("keys.md"), "key") == markdown.table(str(keys.__doc__), "key")


def test_every_key_in_redis_is_in_the_table_and_the_other_way_round(server: RedisServer) -> None:
    asyncio.run(leave_every_key())
    with server.client(decode_responses=True) as client:
        there = {key: type_of(client, key) for key in client.scan_iter()}
    documented = patterns()
    for key, kind in there.items():
        assert [kind] == [documented[each] for each in documented if re.fullmatch(each, key)], key
    unused = [each for each in documented if not any(re.fullmatch(each, key) for key in there)]
    assert not unused, there


def test_a_session_costs_what_the_page_says(server: RedisServer) -> None:
    written = int(re.findall(r"About (\d+) bytes of Redis memory", markdown.read("keys.md"))[0])

    asyncio.run(open_sessions(100))
    with server.client() as client:
        before = client.info("memory")["used_memory_dataset"]
        asyncio.run(open_sessions(1000))
        cost = (client.info("memory")["used_memory_dataset"] - before) / 1000
    assert cost == pytest.approx(written, rel=0.15)
    assert cost < 1280


def test_a_handle_costs_what_the_page_says(server: RedisServer) -> None:
    [written] = map(int, re.findall(r"about (\d+) bytes, if each user has ten", markdown.read("keys.md")))

    asyncio.run(make_handles(100))
    with server.client() as client:
        before = client.info("memory")["used_memory_dataset"]
        asyncio.run(make_handles(1000))
        cost = (client.info("memory")["used_memory_dataset"] - before) / 1000
    assert cost == pytest.approx(written, rel=0.15)
