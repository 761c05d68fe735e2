"""Connections that Redis closed while nobody used them are not noticed; of those that break, only what may not be
repeated and may have been done fails."""

import asyncio
from typing import Any

import pytest

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import indexes, sessions, state
from tests.store.harness import Harness, gather
from tests.support.lossy import LossyProxy
from tests.support.redis import RedisServer

MAX_BYTES = 1_000
TIMES = 5


def close_idle(server: RedisServer) -> None:
    """As Redis does after `timeout`, or when it restarts."""
    with server.client() as redis:
        redis.client_kill_filter(_type="normal", skipme=True)


async def known(harness: Harness) -> None:
    """Redis knows the scripts, and nothing is under way: the next reply is that to the next call."""
    other = await harness.open()
    await harness.store.run(state.incr(other, "count", 1, max_bytes=MAX_BYTES))
    await harness.store.run(sessions.get(other))
    await harness.store.run(sessions.end_many([other], reason="expired_by_operator", token="known", shards=1))
    await harness.settled()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_may_not_be_repeated_is_done_after_redis_closed_idle_connections(
    harness: Harness, proxy: LossyProxy, server: RedisServer
) -> None:
    opened = [await harness.open() for _ in range(TIMES)]
    run = harness.store.run
    for fingerprint in opened:
        for call in (
            lambda each=fingerprint: state.incr(each, "count", 1, max_bytes=MAX_BYTES),
            lambda each=fingerprint: state.append(each, "list", "1", max_bytes=MAX_BYTES),
            lambda each=fingerprint: sessions.end(each, principal=None, reason="deleted"),
        ):
            # Several at a time leave several connections, all of which are closed.
            await gather(*[run(sessions.get(fingerprint)) for _ in range(3)])
            close_idle(server)
            await until(lambda: proxy.connections == 0)

            assert await run(call()) is not None


@pytest.mark.parametrize("harness", ["standalone"], indirect=True)
async def test_what_may_not_be_repeated_fails_alone_when_the_connection_breaks(
    harness: Harness, proxy: LossyProxy
) -> None:
    """It was done once, but its reply is lost. The calls beside it are sent again."""
    fingerprint = await harness.open()
    await known(harness)
    run = harness.store.run
    for attempt in range(1, TIMES + 1):
        calls = [
            run(sessions.get(fingerprint)),
            run(state.incr(fingerprint, "count", 1, max_bytes=MAX_BYTES)),
        ]
        proxy.lose = 1
        got, counted = await asyncio.gather(*calls, return_exceptions=True)

        assert getattr(got, "fingerprint", got) == fingerprint
        assert isinstance(counted, StoreUnavailable)
        assert await run(state.get(fingerprint, ["count"])) == [str(attempt)]


async def test_a_bulk_end_whose_replies_are_lost_still_returns_each_session(
    harness: Harness, proxy: LossyProxy
) -> None:
    opened = [await harness.open() for _ in range(3)]
    await known(harness)
    proxy.lose = 1

    end = sessions.end_many(opened, reason="expired_by_operator", token="bulk", shards=1)
    ends = await harness.store.run(end)

    assert [each.fingerprint for each in ends.ended] == opened
    assert ends.failure is None
    assert [await harness.store.run(sessions.get(each)) for each in opened] == [None] * 3


async def test_an_index_update_whose_reply_is_lost_is_sent_again(harness: Harness, proxy: LossyProxy) -> None:
    session = await harness.store.run(sessions.get(await harness.open()))
    assert session is not None
    await known(harness)
    [update] = indexes.update(session, limits=harness.limits)
    proxy.lose = 1

    await harness.store.run(update)

    assert proxy.lose == 0


async def test_a_connection_that_breaks_twice_is_unavailable(harness: Harness, proxy: LossyProxy) -> None:
    fingerprint = await harness.open()
    await known(harness)
    proxy.lose = 2

    with pytest.raises(StoreUnavailable):
        await harness.store.run(sessions.get(fingerprint))
    assert await harness.store.run(sessions.get(fingerprint)) is not None


@pytest.mark.parametrize("harness", ["standalone"], indirect=True)
async def test_calls_survive_connections_that_are_closed_all_the_time(
    harness: Harness, server: RedisServer
) -> None:
    """Every count that was acknowledged was done; none was done twice; nobody got another's reply."""
    opened = [await harness.open() for _ in range(10)]
    acknowledged, failed = dict.fromkeys(opened, 0), dict.fromkeys(opened, 0)

    async def count(fingerprint: str) -> None:
        for _ in range(100):
            try:
                session = await harness.store.run(sessions.get(fingerprint))
                assert session is not None
                assert session.fingerprint == fingerprint
                await harness.store.run(state.incr(fingerprint, "count", 1, max_bytes=MAX_BYTES))
                acknowledged[fingerprint] += 1
            except StoreUnavailable:
                failed[fingerprint] += 1

    counting = asyncio.gather(*[count(each) for each in opened])
    kills = 0
    while not counting.done():
        await asyncio.to_thread(close_idle, server)
        kills += 1
    await counting

    assert kills > TIMES
    for fingerprint in opened:
        [counted] = await harness.store.run(state.get(fingerprint, ["count"]))
        assert (
            acknowledged[fingerprint] <= int(counted or 0) <= acknowledged[fingerprint] + failed[fingerprint]
        )
