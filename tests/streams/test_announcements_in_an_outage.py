"""Announcements made while the store is away for a moment still reach the streams."""

from types import SimpleNamespace
from typing import Any

import pytest

from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import sessions, streams, subscriptions
from mcp_sessions.streams.standalone import publish_to_all
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import Harness, embedded_harness

URI = "book://1"


@pytest.fixture
def harness() -> Harness:
    return embedded_harness()


async def test_an_update_is_announced_again_when_the_store_was_away_once(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(subscriptions.subscribe(fingerprint, URI, max_subscriptions=1))
    failures = [StoreUnavailable("away")]

    async def run(work: Any) -> Any:
        if not failures:
            return await harness.store.run(work)
        # As a driver does: the error is thrown into the operation, which ends with it.
        next(work)
        return work.throw(failures.pop())

    context: Any = SimpleNamespace(
        store=SimpleNamespace(run=run), conf=lambda: Endpoint(alias="default", server="no.server")
    )
    await publish_to_all(context, {fingerprint}, "notifications/resources/updated", URI, key="k")

    taken = await harness.store.run(streams.claim(fingerprint, STANDALONE, node="n", after=0, ttl_ms=300_000))
    assert taken is not None
    batch = await harness.store.run(
        streams.read(fingerprint, STANDALONE, claim=taken.claim, after=0, max_bytes=1000)
    )
    assert batch is not None
    assert [URI.encode() in event.payload for event in batch.events] == [True]


async def test_an_operation_that_ran_before_is_refused(harness: Harness) -> None:
    operation = sessions.keep([], limits=harness.limits)
    assert await harness.store.run(operation) == {}
    with pytest.raises(RuntimeError, match="runs once"):
        await harness.store.run(operation)
    with pytest.raises(RuntimeError, match="runs once"):
        harness.sync.run(operation)
