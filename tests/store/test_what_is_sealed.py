"""Which arguments of calls are encrypted, what becomes of them, and which calls do without what no key opens."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from mcp_sessions.errors import RecordSealed
from mcp_sessions.records import ANONYMOUS, Handshake
from mcp_sessions.store.call import SEALED, Call
from mcp_sessions.store.calls import requests, revival, sessions, state, streams, subscriptions, sweeps
from mcp_sessions.store.calls.validity import Moment
from mcp_sessions.store.sealing import Sealer
from tests.store.harness import LIMITS, MINUTE, STREAM_LIMITS, Harness, embedded_harness
from tests.store.test_revival import an_id

KEY, OTHER = "a key " * 8, "another key " * 4
FINGERPRINT = "ab" * 32
SECRET = "quicksilver"
SAID = SECRET.encode()
HANDSHAKE = Handshake(
    protocol_version="2025-11-25", client_info={"name": "a", "title": SECRET}, capabilities={}
)


@pytest.fixture
def harness() -> Harness:
    return embedded_harness()


def seal(harness: Harness, *keys: str) -> None:
    """From here on, what the store holds is read and written with these keys."""
    store: Any = harness.sync
    store._sealer = Sealer(keys)


def last_call(operation: Any, *answers: Sequence[Any]) -> Call[Any]:
    """What an operation does when it has got these answers."""
    calls = next(operation)
    for answer in answers:
        calls = operation.send(answer)
    [call] = calls
    found: Call[Any] = call
    return found


def calls_with_secrets(harness: Harness) -> list[Call[Any]]:
    create = sessions.create(FINGERPRINT, principal=ANONYMOUS, handshake=HANDSHAKE, limits=LIMITS)
    revive = revival.revive(
        an_id(harness), principal=ANONYMOUS, handshake=HANDSHAKE, limits=LIMITS, call="ping", flags="ai"
    )
    return [
        last_call(create, [None]),
        last_call(revive, [False, None, Moment(0, 0)], [None]),
        streams.open_stream(FINGERPRINT, "aa", node="n", request_id=f'"{SECRET}"', limits=STREAM_LIMITS),
        streams.append(
            FINGERPRINT, "aa", node="n", first=1, payloads=[SAID] * 3, last=True, limits=STREAM_LIMITS
        ),
        streams.publish(FINGERPRINT, payloads=[SAID] * 2, key="k", limits=STREAM_LIMITS),
        streams.close_orphan(
            FINGERPRINT, "aa", origin="n", after=0, payload=SAID, limits=STREAM_LIMITS
        ),
        requests.answer(FINGERPRINT, "q", payload=SAID),
        requests.progress(FINGERPRINT, "q", payload=SAID),
        subscriptions.subscribe(FINGERPRINT, f"{SECRET}://1", max_subscriptions=1),
        state.set_values(FINGERPRINT, {"a": f'"{SECRET}"', "b": f'"{SECRET}"'}, max_bytes=9),
        state.append(FINGERPRINT, "a", f'"{SECRET}"', max_bytes=9),
    ]  # fmt: skip


def test_each_call_seals_what_somebody_said_and_nothing_else(harness: Harness) -> None:
    sealer = Sealer([KEY])
    for call in calls_with_secrets(harness):
        sealed = sealer.arguments(call)
        said = [SECRET in str(each) for each in call.arguments]
        assert any(said)
        assert [isinstance(each, bytes) and SEALED in each for each in sealed] == said, call.script.name
        for was, each, is_secret in zip(call.arguments, sealed, said, strict=True):
            opened = sealer.opened(call, each)
            assert opened == (was.encode() if is_secret and isinstance(was, str) else was)


@pytest.mark.parametrize("value", ["", "0", "-7", "1.5e3", b"12", bytearray(b"5")])
def test_numbers_and_nothing_stay_as_they_are(value: Any) -> None:
    [kept] = Sealer([KEY]).arguments(requests.answer(FINGERPRINT, "q", payload=value))
    assert kept == (value.encode() if isinstance(value, str) else value)


def test_a_list_is_sealed_item_by_item() -> None:
    sealer = Sealer([KEY])
    call = requests.answer(FINGERPRINT, "q", payload=b'[1, "two", [3], {"a": 4}]')
    [sealed] = sealer.arguments(call)
    assert sealed.startswith(b"[" + SEALED)
    assert sealed.count(SEALED) == 4
    assert sealer.opened(call, sealed) == b'[1,"two",[3],{"a":4}]'
    [empty] = sealer.arguments(requests.answer(FINGERPRINT, "q", payload=b"[]"))
    assert empty == b"[]"


def test_what_no_key_opens_is_said_with_a_short_fingerprint(caplog: pytest.LogCaptureFixture) -> None:
    call = requests.answer(FINGERPRINT, "q", payload=SAID)
    sealed = Sealer([KEY]).arguments(call)
    with pytest.raises(RecordSealed, match=rf"^Record {FINGERPRINT[:12]} is sealed with a key"):
        Sealer([OTHER]).opened(call, list(sealed))

    caplog.set_level(logging.DEBUG, "mcp_sessions")
    assert Sealer([OTHER]).opened(call._replace(skips_sealed=True), list(sealed)) == sealed
    assert FINGERPRINT[:13] not in caplog.text
    # The same text, again, with a key that opens it.
    assert Sealer([OTHER, KEY]).opened(call, list(sealed)) == [SAID]


async def test_a_session_that_no_key_opens_is_an_error_only_for_its_client(harness: Harness) -> None:
    seal(harness, KEY)
    readable, fingerprint = await harness.open(), await harness.open()
    seal(harness, OTHER)
    run = harness.store.run
    readable = await harness.open()
    with pytest.raises(RecordSealed):
        await run(sessions.get(fingerprint))
    with pytest.raises(RecordSealed):
        await harness.touch(fingerprint)
    assert await run(sessions.get(fingerprint, skips_sealed=True)) is None
    assert set(await run(sessions.keep([fingerprint, readable], limits=harness.limits))) == {readable}
    assert await run(sessions.end(fingerprint, principal=None, reason="deleted")) is None


async def test_a_session_that_no_key_opens_is_swept_with_the_others(harness: Harness) -> None:
    seal(harness, KEY)
    fingerprint = await harness.open(active=False)
    seal(harness, OTHER)
    readable = await harness.open(active=False)
    harness.advance(MINUTE)
    work = sweeps.sweep([fingerprint, readable], token="t", limits=harness.limits)
    swept = await harness.store.run(work)
    assert [each.fingerprint for each in swept.ended] == [readable]
    assert (list(swept.lost), list(swept.foreign), swept.complete) == ([fingerprint], [], True)
