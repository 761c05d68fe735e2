"""Open streams of those who are blocked end, whichever event loop they are in; and what is read of the database."""

import asyncio
import logging
from contextlib import ExitStack
from functools import partial
from math import inf
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from mcp_sessions.authentication import blocking
from mcp_sessions.authentication.blocking import Asker, Blocks, blocks_of
from mcp_sessions.authentication.blocks import BlockQuerySet
from tests.authentication.test_bounds import at_once

Found = list[tuple[str, str, float]]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    """What there is in the database."""
    found: Found = []
    monkeypatch.setattr(blocking, "_active", lambda _: list(found))
    monkeypatch.setattr(blocking, "in_thread", at_once)
    return found


@pytest.fixture
def closed_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.close()
    return loop


async def test_streams_end_of_those_who_are_blocked_and_of_nobody_else(
    found: Found, closed_loop: asyncio.AbstractEventLoop
) -> None:
    blocks, ended = Blocks("default"), list[str]()
    ann, bob = Asker("user:1", "a client", "192.0.2.1"), Asker("user:2", None, None)
    blocks._open["of a loop that is closed"] = closed_loop, ann, lambda: ended.append("never")
    with ExitStack() as streams:
        for name, asker in (("ann", ann), ("bob", bob), ("ann's other", ann)):
            streams.enter_context(blocks.ending(asker, partial(ended.append, name)))
        found[:] = [("principal", "user:3", inf)]
        await blocks.load()
        await asyncio.sleep(0)
        assert ended == []
        found[:] = [("address", "192.0.2.0/24", inf)]
        await blocks.load()
        assert ended == [], "it is called by the loop of the stream"
        await asyncio.sleep(0)
        assert ended == ["ann", "ann's other"]
        with blocks.ending(ann, lambda: ended.append("at once")):
            assert ended[2:] == ["at once"]
    assert list(blocks._open) == ["of a loop that is closed"]
    found.clear()
    await blocks.load()
    with blocks.ending(ann, lambda: ended.append("no longer")):
        assert (blocks.any, ended[3:]) == (False, [])


@pytest.mark.parametrize(
    ("error", "is_said"), [(ImproperlyConfigured("no database"), False), (OSError(), True)]
)
async def test_requests_go_on_with_what_is_known_where_the_blocks_cannot_be_read(
    found: Found,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    *,
    is_said: bool,
) -> None:
    blocks = Blocks("shop")

    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(blocking, "_active", fail)
    assert (blocks.known, blocks.any, blocks.due) == (False, False, True)
    await blocks.load()
    assert (blocks.known, blocks.any, blocks.due) == (True, False, True)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == (["The blocks of endpoint 'shop' cannot be read: "] if is_said else [])
    assert blocks._failures.lasts is is_said
    monkeypatch.setattr(blocking, "_active", lambda _: [])
    await blocks.load()
    assert (blocks._failures.lasts, blocks.due) == (False, False)


@pytest.mark.usefixtures("found")
async def test_a_read_that_was_asked_for_while_another_one_ran_is_one_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What changed after the first began may not be in it."""
    blocks, may_go_on, reads = Blocks("default"), asyncio.Event(), list[int]()

    async def read(function: Any) -> Any:
        reads.append(len(reads))
        await may_go_on.wait()
        return function()

    monkeypatch.setattr(blocking, "in_thread", read)
    loading = [asyncio.create_task(blocks.load())]
    await asyncio.sleep(0)
    loading += [asyncio.create_task(blocks.load()) for _ in range(3)]
    await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.gather(*loading)
    assert reads == [0, 1]
    await blocks.load()
    assert len(reads) == 3


@pytest.mark.django_db
def test_a_database_that_fails_is_told_from_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: BlockQuerySet) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(BlockQuerySet, "active", lambda self: self.none())
    assert blocking._active("default") == []
    monkeypatch.setattr(BlockQuerySet, "values_list", lambda self, *_: fail(self))
    with pytest.raises(RuntimeError, match=r"^OperationalError: away$"):
        blocking._active("default")


def test_an_endpoint_has_the_same_blocks_for_all_who_ask() -> None:
    assert blocks_of("some endpoint") is blocks_of("some endpoint")
    assert blocks_of("some endpoint") is not blocks_of("another")
