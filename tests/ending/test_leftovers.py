"""What is left in Redis of a session that used everything, after each way to end: its tombstone, for a while."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import pytest
from django.conf import LazySettings
from django_redis import get_redis_connection

from mcp_sessions import conf
from mcp_sessions.ending import aend_session, end_session
from mcp_sessions.session import Session
from mcp_sessions.store.calls import sessions as session_calls
from mcp_sessions.store.calls import state, streams, subscriptions
from mcp_sessions.store.factory import store_for
from mcp_sessions.sweeping import sweep
from mcp_sessions.transport.event_ids import STANDALONE
from tests.ending.test_deadlines import BOUND, Serving, opened

#: What keeps an id ended.
TOMBSTONE: Final = {"ended", "ended-record"}


@pytest.fixture(autouse=True)
def short(settings: LazySettings) -> None:
    """Sessions last for a moment, and their streams would last for longer."""
    entry = {**settings.MCP_SESSIONS["default"], "IDLE_TTL": 3, "STREAM_TTL": 600}
    settings.MCP_SESSIONS = {"default": entry}


async def that_used_everything() -> Session:
    session, store = await opened(), store_for("default")
    fingerprint, limits = session.fingerprint, conf.endpoint("default").stream_limits
    ttl_ms = limits.ttl_ms
    await store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=100))
    await store.run(session_calls.set_log_level(fingerprint, "debug"))
    await store.run(subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=1))
    await store.run(streams.claim(fingerprint, STANDALONE, node="a", after=None, ttl_ms=ttl_ms))
    await store.run(streams.publish(fingerprint, payloads=[b"{}"], key="once", limits=limits))
    for name in ("0" * 16, "1" * 16):
        await store.run(streams.open_stream(fingerprint, name, node="a", request_id="7", limits=limits))
        append = streams.append(
            fingerprint, name, node="a", first=1, payloads=[b"{}"], last=True, limits=limits
        )
        await store.run(append)
        await store.run(streams.finish(fingerprint, name, kept=256, kept_bytes=1 << 20, ttl_ms=ttl_ms))
    return session


def left_of(session: Session) -> set[str]:
    """The last parts of the keys of a session."""
    found = get_redis_connection("default").keys(f"*{session.fingerprint}*")
    return {key.decode().split("}:")[1] for key in found}


async def until_it_is_over(session: Session) -> None:
    async with asyncio.timeout(BOUND):
        while await store_for("default").run(session_calls.get(session.fingerprint)) is not None:
            await asyncio.sleep(0.01)


async def by_its_client(node: Serving, session: Session) -> None:
    assert await aend_session(node.node, "default", session.fingerprint, reason="deleted", by="test")


async def by_an_operator(_: Serving, session: Session) -> None:
    assert await asyncio.to_thread(end_session, "default", session.fingerprint)


async def by_idling_out(node: Serving, session: Session) -> None:
    await until_it_is_over(session)
    await sweep(node.node, "default")


async def long_ago(node: Serving, session: Session) -> None:
    """Its record has expired before anybody looked."""
    await until_it_is_over(session)
    get_redis_connection("default").delete(
        *get_redis_connection("default").keys(f"*{session.fingerprint}}}:session")
    )
    await sweep(node.node, "default")


WAYS: Final[Mapping[str, tuple[Callable[[Serving, Session], Awaitable[Any]], set[str]]]] = {
    "deleted": (by_its_client, TOMBSTONE),
    "force-expired": (by_an_operator, TOMBSTONE),
    "idle": (by_idling_out, set()),
    "expired": (long_ago, set()),
}


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_but_the_tombstone_is_left_of_a_session(way: str) -> None:
    end, stays = WAYS[way]
    session, node = await that_used_everything(), Serving()
    assert len(left_of(session)) == 12, "of every kind"

    await end(node, session)

    assert left_of(session) == stays
    await store_for("default").aclose()


async def test_a_session_that_lives_loses_nothing() -> None:
    session = await that_used_everything()
    before = left_of(session)
    await store_for("default").run(streams.forget([session.fingerprint]))
    assert left_of(session) == before
    await store_for("default").aclose()
