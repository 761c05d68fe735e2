"""A DELETE, step by step: whose session it ends, what is buried without a record, and what it waits for."""

import asyncio
import logging
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import ids
from mcp_sessions.cluster.notifications import SessionsEnded
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import closing
from mcp_sessions.ids import SignedId
from mcp_sessions.serving.outage import Outage
from mcp_sessions.store.calls import sessions
from mcp_sessions.transport import rejections
from mcp_sessions.transport.asgi import Message
from tests.serving.contexts import Alone, Process
from tests.store.harness import CLAUDE, START


class Telling(Alone):
    """A node that remembers what it would tell the others."""

    async def notify_others(self, notification: Any) -> None:
        await self.broadcast(notification)


class Deleting(Process):
    """A process whose client deletes its session; by the store's clock it is START."""

    def __init__(self, *, unwritten: bool = False, **conf: Any) -> None:
        super().__init__(**conf)
        self.node = Telling()
        self.node.validity = mock.Mock(min_created_ms=0, now_ms=lambda: START)
        self.context = self.context.__class__(
            store=self.context.store,
            node=self.node,  # type: ignore[arg-type]
            conf=self.context.conf,
            spawn=self.spawn,
        )
        self.session_id = ids.mint(
            CLAUDE,
            principal="user:1",
            namespace=self.conf.namespace,
            created_ms=START,
            max_age_ms=self.conf.limits.max_age_ms,
            unwritten=unwritten,
        )
        self.fingerprint = self.session_id.fingerprint
        self.sent: list[Message] = []
        self.readers: list[Any] = []
        self.ends: list[Any] = []
        self.runtime: Any = mock.Mock(context=self.context, outage=mock.Mock(spec=Outage), spawn=self.spawn)
        self.runtime.open_streams.of = lambda fingerprint: (
            self.readers if fingerprint == self.fingerprint else []
        )

    async def open(self) -> None:
        await self.harness.open(principal="user:1", fingerprint=self.fingerprint)

    async def end(self, *about: Any, **how: Any) -> Any:
        """In the place of `aend_session`."""
        self.ends.append((*about, how))
        end = sessions.end(about[2], principal=how["principal"], reason=how["reason"])
        return await self.store.run(end)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def come(self, patch: pytest.MonkeyPatch, header: bytes | None = b"its own") -> int:
        """The status of the answer."""
        patch.setattr(closing, "aend_session", self.end)
        self.sent.clear()
        own = self.session_id.text.encode() if header == b"its own" else header
        await closing.delete(self.runtime, own, "user:1", self._send)
        return int(self.sent[0]["status"])

    async def reason(self) -> str | None:
        return await self.harness.store.run(sessions.end_reason(self.fingerprint))


async def test_a_client_ends_its_own_session_once(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Deleting()
    await process.open()
    assert await process.come(monkeypatch) == 204
    how = {"reason": "deleted", "by": "user:1", "principal": "user:1", "spawn": process.spawn}
    assert process.ends == [(process.node, "default", process.fingerprint, how)]
    assert await process.reason() == "deleted"
    assert await process.come(monkeypatch) == 404
    assert process.node.broadcasts == []
    assert not process.runtime.outage.end.called


@pytest.mark.parametrize(
    ("header", "rejection"), [(None, rejections.NO_SESSION_ID), (b"x", rejections.SESSION_NOT_FOUND)]
)
async def test_what_is_no_id_of_ours_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, header: bytes | None, rejection: Any
) -> None:
    process = Deleting()
    assert await process.come(monkeypatch, header) == rejection.status
    assert process.sent[1]["body"] == rejection.body
    assert process.ends == []


async def test_an_end_that_misses_the_store_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Deleting()
    process.store.away = True
    with pytest.raises(StoreUnavailable):
        await process.come(monkeypatch)
    process.runtime.outage.end.assert_called_once_with(process.session_id, "user:1")
    assert process.sent == []


@pytest.mark.parametrize(
    ("conf", "unwritten", "status"),
    [({}, False, 404), ({"on_miss": "revive"}, False, 204), ({}, True, 204)],
)
async def test_an_id_that_could_open_its_session_again_is_buried_and_all_are_told(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    conf: dict[str, str],
    unwritten: bool,
    status: int,
) -> None:
    caplog.set_level(logging.INFO)
    process = Deleting(unwritten=unwritten, **{key: "".join(value) for key, value in conf.items()})
    assert await process.come(monkeypatch) == status
    ended = SessionsEnded(fingerprints=(process.fingerprint,))
    buried = status == 204
    assert await process.reason() == ("deleted" if buried else None)
    assert process.node.told == ([(process.node.id, ended)] if buried else [])
    assert process.node.broadcasts == ([ended] if buried else [])
    line = f"Session {process.fingerprint[:12]} ended: deleted, after its record was gone."
    assert (line in caplog.messages) is buried
    process.node.told.clear()
    assert await process.come(monkeypatch) == 404
    assert process.node.told == []


async def test_an_id_that_does_not_carry_enough_cannot_be_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Deleting(on_miss="revive")
    with mock.patch.object(SignedId, "handshake", None):
        assert await process.come(monkeypatch) == 404
    assert await process.reason() is None


async def test_a_session_that_is_opened_again_at_that_moment_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Deleting(on_miss="revive")
    end = process.end

    async def end_and_open(*about: Any, **how: Any) -> Any:
        ended = await end(*about, **how)
        if len(process.ends) == 1:
            await process.open()
        return ended

    monkeypatch.setattr(process, "end", end_and_open)
    assert await process.come(monkeypatch) == 204
    assert len(process.ends) == 2
    assert await process.reason() == "deleted"


async def test_the_answer_waits_for_the_streams_of_the_session_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process, waited = Deleting(), []

    async def wait(streams: Any, *, timeout: float) -> None:  # noqa: ASYNC109 - that of asyncio
        waited.append((streams, timeout, process.sent[:]))

    await process.open()
    process.readers = [mock.Mock(), mock.Mock()]
    with monkeypatch.context() as playing:
        playing.setattr(asyncio, "wait", wait)
        assert await process.come(playing) == 204
    gone = [each.event_stream.gone.return_value for each in process.readers]
    assert waited == [(gone, 1.0, [])]
