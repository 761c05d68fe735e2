"""What belongs to no call: whom it is put on whose stream, and who is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_sessions.cluster.client_requests import ClientRequest
from mcp_sessions.cluster.notifications import StreamChanged
from mcp_sessions.current import current_exchange
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls import sessions, subscriptions
from mcp_sessions.store.drivers.absent import WithoutStore
from mcp_sessions.streams import standalone
from mcp_sessions.streams.standalone import StandaloneChannel, publish, publish_to_all
from mcp_sessions.transport.event_ids import STANDALONE
from tests.serving.contexts import Process

UPDATED = "notifications/resources/updated"


async def heard(process: Process, fingerprint: str) -> list[bytes]:
    return [payload for _, payload in await process.harness.kept(fingerprint, stream=STANDALONE)]


async def test_a_message_is_put_once_for_each_key_and_who_delivers_it_is_told() -> None:
    process = Process()
    session = await process.harness.open()
    await publish(process.context, session, {"a": 1}, key="k")
    assert process.node.told == [], "nobody listens"
    await process.harness.claim(session, stream=STANDALONE, node="elsewhere", after=None)
    await publish(process.context, session, {"a": 1}, key="k")
    for _ in range(2):
        await publish(process.context, session, {"a": 2})
    changed = ("elsewhere", StreamChanged(fingerprint=session, stream=STANDALONE))
    assert set(process.node.told) == {changed}
    assert await heard(process, session) == [b'{"a":1}', b'{"a":2}', b'{"a":2}']


async def test_a_session_that_has_ended_gets_nothing() -> None:
    process = Process()
    session = await process.harness.open()
    await process.harness.store.run(sessions.end(session, principal=None, reason="deleted"))
    await publish(process.context, session, {"a": 1})
    assert process.node.told == []


@pytest.mark.parametrize(("uri", "expected"), [("a://1", [1, 0]), ("a://2", [0, 0]), (None, [1, 1])])
async def test_an_update_is_only_for_those_who_subscribed_to_it(uri: str | None, expected: list[int]) -> None:
    process = Process()
    both = [await process.harness.open() for _ in range(2)]
    await process.store.run(subscriptions.subscribe(both[0], "a://1", max_subscriptions=9))
    for _ in range(2):
        await publish_to_all(process.context, set(both), UPDATED, uri, key="k")
    assert [len(await heard(process, each)) for each in both] == expected
    if uri == "a://1":
        [message] = await heard(process, both[0])
        assert message == b'{"jsonrpc":"2.0","method":"' + UPDATED.encode() + b'","params":{"uri":"a://1"}}'
    if uri is None:
        assert await heard(process, both[0]) == [b'{"jsonrpc":"2.0","method":"' + UPDATED.encode() + b'"}']


@pytest.mark.parametrize("uri", ["a://1", None])
async def test_an_announcement_that_cannot_be_passed_on_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, uri: str | None
) -> None:
    monkeypatch.setattr("mcp_sessions.streams.retry.GIVE_UP_SECONDS", 0)
    monkeypatch.setattr(standalone, "_dropped", Repeats(standalone.logger, "Messages"))
    process = Process()
    session = await process.harness.open()
    process.store.away = True
    await publish_to_all(process.context, {session}, UPDATED, uri, key="k")
    process.store.away = False
    assert await heard(process, session) == []
    assert caplog.text.count("An announcement was not passed on: away") == 1


async def test_one_session_that_cannot_be_told_keeps_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mcp_sessions.streams.retry.GIVE_UP_SECONDS", 0)
    monkeypatch.setattr(standalone, "_dropped", Repeats(standalone.logger, "Messages"))
    process = Process()
    told, cut_off = [await process.harness.open() for _ in range(2)]
    run = process.store.run

    async def half_away(work: Any) -> Any:
        if work.home == cut_off:
            raise StoreUnavailable("away")
        return await run(work)

    monkeypatch.setattr(process.store, "run", half_away)
    await publish_to_all(process.context, {told, cut_off}, UPDATED, None, key="k")
    assert [len(await heard(process, each)) for each in (told, cut_off)] == [1, 0]
    assert caplog.text.count("An announcement was not passed on: away") == 1


async def test_what_a_handler_sends_apart_from_its_call_is_put_on_the_stream_of_its_session() -> None:
    process = Process()
    found = await process.harness.store.run(sessions.get(await process.harness.open()))
    assert found is not None
    nobody: Any = None
    channel = StandaloneChannel(process.context, nobody, found)
    assert (channel.can_send_request, channel.log_level) == (True, None)
    await channel.notify("x", {"a": 1})
    assert await heard(process, found.fingerprint) == [b'{"jsonrpc":"2.0","method":"x","params":{"a":1}}']


async def test_a_session_without_the_store_has_no_stream_and_nobody_waits_for_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "_dropped", Repeats(standalone.logger, "Messages"))
    process = Process()
    found = await process.harness.store.run(sessions.get(await process.harness.open()))
    assert found is not None
    nobody: Any = None
    channel = StandaloneChannel(process.context, nobody, found._replace(is_stored=False, log_level="error"))
    assert channel.log_level == "error"
    await channel.notify("x", None)
    assert f"x of session {found.fingerprint[:12]} was dropped: This needs the server's" in caplog.text
    with pytest.raises(WithoutStore):
        await channel.send_request(ClientRequest(method="ping", params=None))
    assert process.store.asked == []


@pytest.mark.parametrize("inside", [False, True], ids=["apart from a call", "in a call"])
async def test_a_call_that_asks_its_client_apart_from_its_stream_waits_for_it(inside: bool) -> None:
    process, waited, answer = Process(), [], object()
    found = await process.harness.store.run(sessions.get(await process.harness.open()))
    assert found is not None

    @contextmanager
    def waiting() -> Iterator[None]:
        waited.append("begins")
        yield
        waited.append("ends")

    async def send(fingerprint: str, request: ClientRequest, say: Any) -> Any:
        waited.append("asks")
        await say({"id": request.method, "of": fingerprint})
        return answer

    requests: Any = SimpleNamespace(send=send)
    channel = StandaloneChannel(process.context, requests, found)
    exchange: Any = SimpleNamespace(waiting=waiting)
    token = current_exchange.set(exchange) if inside else None
    reply: Any = await channel.send_request(ClientRequest(method="ping", params=None))
    if token is not None:
        current_exchange.reset(token)
    assert reply is answer
    assert waited == (["begins", "asks", "ends"] if inside else ["asks"])
    assert await heard(process, found.fingerprint) == [
        b'{"id":"ping","of":"%s"}' % found.fingerprint.encode()
    ]
