"""What a process does for clients that listen: what they are sent, when they end, and what is recorded of them."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from math import inf
from typing import Any
from unittest.mock import Mock

import pytest
from mcp.server.subscriptions import PromptsListChanged, ToolsListChanged

from mcp_sessions import counting
from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.records import Handshake, Session
from mcp_sessions.serving import listeners as serving_listeners
from mcp_sessions.serving.listeners import RENEWED_AFTER_MS, TTL_MS, Listener, Listeners, limits_of
from mcp_sessions.store.calls import looks, sessions
from mcp_sessions.store.calls.indexes import LONGEST_MS
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.asgi import Message
from mcp_sessions.transport.event_stream import EventStream
from tests.serving.contexts import Process

BOUND = 10.0
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"_meta": {}}}
MODERN = Handshake(
    protocol_version="2026-07-28",
    client_info={"name": "modern", "version": "1"},
    capabilities={"experimental": {"x": {}}},
)


class Client:
    """One that listens for changes of the tools, until it leaves."""

    def __init__(self, hosting: "Hosting", **options: Any) -> None:
        self.sent: list[Message] = []
        self._left = asyncio.Event()
        identity = options.pop("identity", None) or Identity(principal="user:1")
        params = {"notifications": {"toolsListChanged": True}}
        self.serving = asyncio.create_task(
            hosting.listeners.serve(
                jsonrpc.Request(id=7, method="subscriptions/listen", params=params),
                RESULT,
                self._receive,
                self._send,
                **{
                    "identity": identity,
                    "asker": Asker("user:1", "modern", "10.0.0.9"),
                    "handshake": MODERN,
                    "max_bytes": inf,
                    **options,
                },
            )
        )

    async def _receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def heard(self) -> list[str]:
        """The methods of what it was sent; "result" for the end."""
        lines = b"".join(each.get("body", b"") for each in self.sent).splitlines()
        found = [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: {")]
        return [each.get("method", "result").rpartition("/")[2] for each in found]

    async def leaves(self) -> None:
        self._left.set()
        await asyncio.wait([self.serving], timeout=BOUND)


class Hosting(Process):
    """A process with clients that listen, and what announces to them."""

    def __init__(self, **conf: Any) -> None:
        super().__init__(**conf)
        self.hearing: dict[object, Callable[[Any], None]] = {}
        self.bus: Any = Mock(subscribe=self._subscribe)
        self.listeners = Listeners(self.context, self.bus)

    def _subscribe(self, hear: Callable[[Any], None]) -> Callable[[], None]:
        key = object()
        self.hearing[key] = hear

        def unsubscribe() -> None:
            del self.hearing[key]

        return unsubscribe

    def announce(self, event: Any) -> None:
        for hear in self.hearing.values():
            hear(event)

    async def listens(self, **options: Any) -> Client:
        """A client that has been told that it listens."""
        client = Client(self, **options)
        async with asyncio.timeout(BOUND):
            while not client.heard() and not client.serving.done():
                await asyncio.sleep(0)
        return client

    async def record(self, fingerprint: str) -> Session | None:
        return await self.harness.store.run(sessions.get(fingerprint))

    async def lose(self, fingerprint: str) -> None:
        """The store loses a record, and does not remember that it had one."""
        self.harness.advance(TTL_MS + 1)
        assert await self.record(fingerprint) is None


@pytest.fixture
def hosting() -> Hosting:
    return Hosting()


async def test_a_client_hears_what_it_asked_for_and_leaves_nothing(hosting: Hosting) -> None:
    client = await hosting.listens()
    [listener] = hosting.listeners
    assert (len(hosting.listeners), hosting.listeners.accepts) == (1, True)
    hosting.announce(PromptsListChanged())
    hosting.announce(ToolsListChanged())
    recorded = await hosting.record(listener.fingerprint)
    assert recorded is not None
    assert (recorded.principal, recorded.handshake.name) == ("user:1", "tools")
    said = recorded.handshake
    assert (said.kind, said.client_info) == ("listener", MODERN.client_info)
    assert said.capabilities == MODERN.capabilities
    assert recorded.expires_ms - hosting.harness.clock.now == TTL_MS
    await asyncio.sleep(0)
    await client.leaves()
    assert client.heard() == ["acknowledged", "list_changed"]
    assert (len(hosting.listeners), hosting.hearing) == (0, {})
    await hosting.settle()
    assert await hosting.record(listener.fingerprint) is None
    assert await hosting.harness.store.run(sessions.end_reason(listener.fingerprint)) == "deleted"


async def test_it_ends_gracefully_and_once_alone_or_with_all(hosting: Hosting) -> None:
    one, other = await hosting.listens(), await hosting.listens()
    first, _ = hosting.listeners
    hosting.listeners.end("unknown")
    hosting.listeners.end(first.fingerprint)
    hosting.listeners.end(first.fingerprint)
    await asyncio.wait([one.serving], timeout=BOUND)
    assert one.heard() == ["acknowledged", "result"]
    assert not other.serving.done()
    hosting.listeners.close()
    await asyncio.wait([other.serving], timeout=BOUND)
    assert other.heard() == ["acknowledged", "result"]


async def test_its_stream_lasts_until_its_credentials_expire(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasts: list[Any] = []
    run = EventStream.run

    async def running(stream: EventStream, *about: Any, **options: Any) -> None:
        lasts.append(options)
        await run(stream, *about, **options)

    monkeypatch.setattr(EventStream, "run", running)
    loop = asyncio.get_running_loop()
    expires = Identity(principal="user:1", expires_at=time.time() + 500)
    client = await hosting.listens(identity=expires, max_bytes=10_000)
    [listener] = hosting.listeners
    timers = [each for each in loop._scheduled if "Listener.end" in repr(each)]  # type: ignore[attr-defined]
    [timer] = timers
    assert 400 < timer.when() - loop.time() <= 501, "to the end of that second"
    assert lasts == [{"max_seconds": inf, "max_bytes": 10_000}]
    assert timer._callback == listener.end
    await client.leaves()
    assert timer.cancelled()
    gone = await hosting.listens(identity=Identity(principal="user:1", expires_at=1.0))
    await asyncio.wait([gone.serving], timeout=BOUND)
    assert gone.heard() == ["acknowledged", "result"]


async def test_it_ends_when_its_client_is_blocked_or_its_credentials_are_revoked(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Any] = []

    class Within:
        def __init__(self, who: Any, end: Callable[[], None]) -> None:
            ends.append((who, end))

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            ends.append("over")

    monkeypatch.setattr(serving_listeners, "ended_with", Within)
    monkeypatch.setattr(hosting.listeners, "_blocks", Mock(ending=Within))
    identity = Identity(principal="user:1")
    for number in range(2):
        ends.clear()
        client = await hosting.listens(identity=identity)
        assert [who for who, _ in ends] == [identity, Asker("user:1", "modern", "10.0.0.9")]
        ends[number][1]()
        await asyncio.wait([client.serving], timeout=BOUND)
        assert client.heard() == ["acknowledged", "result"]
        assert ends[2:] == ["over", "over"]


async def test_beyond_the_cap_of_its_principal_nothing_is_sent_recorded_or_forgotten() -> None:
    hosting = Hosting(max_listeners_per_principal=1)
    stays = await hosting.listens()
    [listener] = hosting.listeners
    refused = await hosting.listens()
    assert isinstance(refused.serving.exception(), TooManySessions)
    assert (refused.sent, list(hosting.listeners), len(hosting.hearing)) == ([], [listener], 1)
    assert not hosting.tasks
    await stays.leaves()


async def test_where_the_server_has_a_handler_of_its_own_none_is_accepted() -> None:
    hosting = Hosting()
    hosting.listeners = Listeners(hosting.context, None)
    assert not hosting.listeners.accepts
    client = await hosting.listens()
    assert hosting.hearing == {}
    await client.leaves()


async def test_while_the_store_is_away_it_listens_and_is_recorded_when_it_is_back(
    hosting: Hosting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="mcp_sessions.serving.listeners")
    hosting.store.away = True
    client = await hosting.listens()
    assert caplog.messages == ["A listener is recorded later: away"]
    [listener] = hosting.listeners
    assert not listener.is_new
    with pytest.raises(StoreUnavailable):
        await hosting.listeners.keep()
    hosting.store.away = False
    await hosting.listeners.keep()
    assert await hosting.record(listener.fingerprint) is not None
    hosting.store.away = True
    await client.leaves()
    await hosting.settle()
    assert caplog.messages[-1] == "The record of a listener is left to its TTL: away"


async def test_a_heartbeat_renews_the_records_that_are_due_and_no_others(hosting: Hosting) -> None:
    clients = [await hosting.listens()]
    hosting.harness.advance(RENEWED_AFTER_MS - 1)
    clients.append(await hosting.listens())
    asked = len(hosting.store.asked)
    await hosting.listeners.keep()
    assert len(hosting.store.asked) == asked + 1, "it only looks"
    hosting.harness.advance(1)
    await hosting.listeners.keep()
    records = [await hosting.record(each.fingerprint) for each in hosting.listeners]
    now = hosting.harness.clock.now
    assert [each.expires_ms - now for each in records if each] == [TTL_MS, TTL_MS - 1]
    for client in clients:
        await client.leaves()


async def test_a_heartbeat_looks_at_all_in_parts_but_at_none_whose_first_record_is_being_made(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "TOGETHER", 2)
    clients = [await hosting.listens() for _ in range(4)]
    listeners = list(hosting.listeners)
    listeners[1].is_new = True
    seen: list[list[str]] = []

    async def keep(some: list[Listener]) -> None:
        seen.append([each.fingerprint for each in some])

    monkeypatch.setattr(hosting.listeners, "_keep", keep)
    await hosting.listeners.keep()
    fingerprints = [each.fingerprint for each in listeners]
    assert seen == [[fingerprints[0], fingerprints[2]], [fingerprints[3]]]
    for client in clients:
        await client.leaves()


async def test_a_heartbeat_makes_no_record_that_is_being_made(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_record, run = [], asyncio.Event(), hosting.store.run

    async def slowly(work: Any) -> Any:
        asked.append(work)
        await may_record.wait()
        return await run(work)

    monkeypatch.setattr(hosting.store, "run", slowly)
    client = Client(hosting)
    await asyncio.sleep(0)
    await hosting.listeners.keep()
    assert (len(asked), client.heard()) == (1, [])
    may_record.set()
    await client.leaves()


async def test_a_heartbeat_ends_who_was_ended_and_records_anew_whose_record_is_lost(
    hosting: Hosting,
) -> None:
    lost = await hosting.listens()
    [loses] = hosting.listeners
    await hosting.lose(loses.fingerprint)
    ended, kept = await hosting.listens(), await hosting.listens()
    _, ends, keeps = hosting.listeners
    await hosting.harness.store.run(sessions.end(ends.fingerprint, principal=None, reason="deleted"))
    await hosting.listeners.keep()
    await asyncio.wait([ended.serving], timeout=BOUND)
    assert ended.heard() == ["acknowledged", "result"]
    assert not lost.serving.done()
    assert not kept.serving.done()
    for each, exists in ((loses, True), (ends, False), (keeps, True)):
        assert (await hosting.record(each.fingerprint) is not None) is exists
    for client in (lost, kept):
        await client.leaves()


@pytest.mark.parametrize("how", ["has ended", "has left"])
async def test_who_goes_while_a_heartbeat_looks_is_not_recorded_anew(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    client = await hosting.listens()
    [listener] = hosting.listeners
    await hosting.lose(listener.fingerprint)
    run_all = hosting.store.run_all

    async def goes_meanwhile(calls: Any) -> Any:
        if how == "has ended":
            listener.end()
        else:
            del hosting.listeners._open[listener.fingerprint]
        return await run_all(calls)

    monkeypatch.setattr(hosting.store, "run_all", goes_meanwhile)
    await hosting.listeners.keep()
    assert await hosting.record(listener.fingerprint) is None
    hosting.listeners._open[listener.fingerprint] = listener
    await client.leaves()


async def test_a_record_that_cannot_be_made_anew_ends_nobody_but_beyond_the_cap(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="mcp_sessions.serving.listeners")
    hosting = Hosting(max_listeners_per_principal=1, alias="records anew")
    one = await hosting.listens(identity=Identity(principal="user:\x1b"))
    [listener] = hosting.listeners
    await hosting.listeners._record_anew(listener)
    assert caplog.messages == [f"A listener is not recorded: {caplog.records[0].args[0]}"]  # type: ignore[index]
    assert not one.serving.done()
    await hosting.lose(listener.fingerprint)
    other = await hosting.listens(identity=Identity(principal="user:\x1b"))
    await hosting.listeners.keep()
    await asyncio.wait([one.serving], timeout=BOUND)
    assert one.heard() == ["acknowledged", "result"]
    assert caplog.messages[-1] == r"A listener of 'user:\x1b' has no record: it has too many."
    numbers = counting.since_the_start("records anew").numbers
    assert numbers == {"limited:MAX_LISTENERS_PER_PRINCIPAL": 1}
    await other.leaves()


def test_records_of_listeners_have_limits_of_their_own() -> None:
    hosting = Hosting(max_sessions=5, max_sessions_per_principal=6, max_listeners_per_principal=7)
    limits = limits_of(hosting.conf)
    assert (limits.idle_ms, limits.first_ms, limits.max_age_ms) == (TTL_MS, TTL_MS, LONGEST_MS)
    assert (limits.max_sessions, limits.max_sessions_per_principal) == (None, 7)
