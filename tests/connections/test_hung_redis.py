"""A Redis that accepts connections and answers nothing: callers wait at most for the timeout, and soon not at all."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import pytest
from pytest_django import Settings

from mcp_sessions import repeats
from mcp_sessions.connections import breaker, pipelines
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.drivers.asynchronous import RedisStore
from tests.store.harness import Harness, redis_harness
from tests.support.caches import default_cache, standalone_cache, with_timeouts
from tests.support.redis import RedisServer

#: Seconds: the socket timeout of these tests, what a caller may wait beyond it, and what "at once" may take.
TIMEOUT, MARGIN, AT_ONCE = 0.5, 0.3, 0.1
#: More calls than three round trips carry.
CROWD = 600
#: Calls that one round trip carries.
BATCH = 256


@pytest.fixture
def caches(server: RedisServer, settings: Settings) -> Iterator[None]:
    with default_cache(settings, with_timeouts(standalone_cache(server), TIMEOUT)):
        yield


@pytest.fixture
async def harness(caches: None) -> AsyncIterator[Harness]:
    made = redis_harness("standalone")
    yield made
    await made.aclose()


@pytest.fixture
async def opened(harness: Harness, server: RedisServer) -> AsyncIterator[str]:
    """A session on a server that hangs from here on."""
    fingerprint = await harness.open()
    await harness.settled()
    server.pause()
    yield fingerprint
    server.resume()


async def failing(harness: Harness, fingerprint: str) -> float:
    """After how many seconds a call fails."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await harness.touch(fingerprint)
    return time.monotonic() - begun


async def given_up(harness: Harness, fingerprint: str) -> None:
    """Wait until nobody waits for the server any more."""
    async with asyncio.timeout(2 * (TIMEOUT + MARGIN)):
        while await failing(harness, fingerprint) > AT_ONCE:
            pass


async def test_the_time_in_the_queue_counts(harness: Harness, opened: str) -> None:
    took = await asyncio.gather(*[failing(harness, opened) for _ in range(CROWD)])

    assert max(took) < 2 * TIMEOUT, "the last ones did not wait for those before them"


async def test_a_process_that_stalls_again_and_again_gives_up_all_the_same(
    harness: Harness, opened: str
) -> None:
    """Its timers are late each time. Replies that nobody has read yet are waited for once."""
    call, stalls = asyncio.create_task(failing(harness, opened)), 0
    await asyncio.sleep(0)
    while not call.done() and stalls < 6:
        time.sleep(TIMEOUT + 2 * pipelines.STALL)  # noqa: ASYNC251 - the loop stands still
        stalls += 1
        for _ in range(10):
            await asyncio.sleep(0)

    assert call.done()
    assert stalls <= 3


async def test_nobody_waits_after_the_first_timeout_until_redis_answers(
    harness: Harness, server: RedisServer, opened: str
) -> None:
    await given_up(harness, opened)

    begun = time.monotonic()
    for _ in range(CROWD):
        await failing(harness, opened)
    assert time.monotonic() - begun < TIMEOUT

    server.resume()
    await harness.recovered()
    assert await harness.touch(opened) is not None


async def test_callers_who_wait_when_redis_is_given_up_fail_at_that_moment(
    harness: Harness, opened: str
) -> None:
    """They do not wait for timeouts of their own."""
    first = asyncio.create_task(failing(harness, opened))
    await asyncio.sleep(0)
    later = []
    while not first.done():
        later.append(asyncio.create_task(failing(harness, opened)))
        await asyncio.wait([first], timeout=TIMEOUT / 50)
    took = await asyncio.gather(*later)

    assert took[-1] < breaker.PATIENCE + AT_ONCE


async def test_calls_beyond_the_bound_of_the_queue_fail_at_once(harness: Harness, opened: str) -> None:
    with mock.patch.object(pipelines, "MOST_WAITING", 5):
        took = sorted(await asyncio.gather(*[failing(harness, opened) for _ in range(20)]))

    assert took[14] < AT_ONCE
    assert took[15] >= TIMEOUT - AT_ONCE


async def test_a_call_that_was_given_up_in_the_queue_is_never_sent(
    harness: Harness, server: RedisServer, opened: str
) -> None:
    await asyncio.gather(*[failing(harness, opened) for _ in range(CROWD)])
    await given_up(harness, opened)

    server.resume()
    await harness.recovered()
    session = await harness.touch(opened)
    assert session is not None
    assert session.requests <= 2 + BATCH, "one when it was opened, this one, and what was on its way"


async def test_a_redis_that_is_busy_for_a_moment_is_not_an_outage(
    harness: Harness, server: RedisServer, opened: str
) -> None:
    """Because of one slow script. The caller that was waiting fails; the next one waits, and is answered."""
    back = threading.Timer(TIMEOUT + breaker.PATIENCE / 2, server.resume)
    back.start()

    assert await failing(harness, opened) > TIMEOUT - AT_ONCE
    assert await harness.touch(opened) is not None
    back.join()


async def test_cancelled_callers_leave_nothing_behind(harness: Harness, opened: str) -> None:
    assert isinstance(harness.store, RedisStore)
    [loop] = harness.store._loops.values()
    callers = [asyncio.create_task(harness.touch(opened)) for _ in range(CROWD)]
    await asyncio.wait(callers, timeout=AT_ONCE)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)

    await given_up(harness, opened)

    touches: Any = loop.pipelines.by_name["touches"]
    await touches.drain()
    assert (len(touches), touches._trips) == (0, set())


def test_a_loop_that_ends_in_an_outage_ends_at_once_and_quietly(
    caches: None, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> tuple[list[BaseException | None], float]:
        harness = redis_harness("standalone")
        fingerprint = await harness.open()
        await harness.settled()
        server.pause()
        calls = [asyncio.create_task(harness.touch(fingerprint)) for _ in range(CROWD)]
        await asyncio.wait(calls, timeout=TIMEOUT + breaker.PATIENCE / 5)
        more = [asyncio.create_task(harness.touch(fingerprint)) for _ in range(CROWD)]
        for (
            call
        ) in more:  # nobody waits for these: whether they still fail or are cancelled is not to be logged
            call.add_done_callback(lambda call: call.cancelled() or call.exception())
        await asyncio.wait(calls)
        assert not any(call.done() for call in more), "a probe is under way"
        return [call.exception() for call in calls], time.monotonic()

    failed, left = asyncio.run(leave())

    assert time.monotonic() - left < 10 * TIMEOUT  # seconds, on cores that others use too
    assert all(isinstance(error, StoreUnavailable) for error in failed)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    server.resume()


async def test_every_loop_finds_out_for_itself(harness: Harness, server: RedisServer, opened: str) -> None:
    """Two event loops in one process, with one store."""

    async def elsewhere() -> float:
        try:
            return max([await failing(harness, opened) for _ in range(3)])
        finally:
            await harness.store.aclose()

    await given_up(harness, opened)

    assert await asyncio.to_thread(asyncio.run, elsewhere()) > TIMEOUT - MARGIN
    server.resume()
    await harness.recovered()


async def test_an_outage_is_logged_at_its_begin_and_at_its_end(
    harness: Harness, server: RedisServer, opened: str, caplog: pytest.LogCaptureFixture
) -> None:
    with mock.patch.object(repeats, "QUIET_SECONDS", 4 * TIMEOUT):
        await asyncio.gather(*[failing(harness, opened) for _ in range(CROWD)])
        for _ in range(CROWD):
            await failing(harness, opened)
        server.resume()
        await harness.recovered()
        async with asyncio.timeout(6 * TIMEOUT + MARGIN):
            while len(caplog.records) < 2:
                await asyncio.sleep(0.01)

    begin, end = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"Redis at 127.0.0.1:{server.port} cannot be reached: TimeoutError" in begin.getMessage()
    said = re.search(r"Calls that failed on Redis at .+: (\d+) in \d\.\d s", end.getMessage())
    assert said is not None
    assert 2 * CROWD <= int(said[1]) <= 2 * CROWD + 200, "those of `recovered` included"


async def test_calls_that_redis_refuses_are_logged_once_too(
    harness: Harness, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = await harness.open()
    await harness.settled()
    with server.client() as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 1)
    for _ in range(3):
        await failing(harness, fingerprint)
    await harness.store.aclose()

    begin, end = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert begin.startswith(f"Redis at 127.0.0.1:{server.port} refuses calls: ")
    assert end == f"Calls that failed on Redis at 127.0.0.1:{server.port}: 3 in 0.0 s. That is over."
