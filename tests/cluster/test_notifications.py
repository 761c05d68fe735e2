"""The encoding of what nodes tell each other."""

import json
from typing import Any, get_args

import pytest

from mcp_sessions.cluster.notifications import (
    Announced,
    BlocksChanged,
    BroadcastsPosted,
    CallCancelled,
    Cancelled,
    DrainAsked,
    Envelope,
    MinCreatedRaised,
    Notification,
    OperatorActed,
    ReplyArrived,
    SessionsEnded,
    StreamChanged,
    StreamClaimed,
    StreamDisconnected,
    StreamReleased,
    Unreadable,
    decode,
    encode,
)

SESSION = "f" * 64
EACH: tuple[Notification, ...] = (
    StreamChanged(fingerprint=SESSION, stream="standalone"),
    StreamClaimed(fingerprint=SESSION, stream="00112233445566aa", token=7),
    StreamReleased(fingerprint=SESSION, token=7),
    StreamDisconnected(fingerprint=SESSION, stream="00112233445566aa", token=8),
    ReplyArrived(fingerprint=SESSION, request_id="q0123456789abcdef"),
    SessionsEnded(fingerprints=(SESSION, "e" * 64)),
    MinCreatedRaised(min_created_ms=1_796_000_000_000),
    BlocksChanged(),
    CallCancelled(node="0123456789abcdef", number=7, by="olga"),
    DrainAsked(node="0123456789abcdef", drains=True, by="olga"),
    OperatorActed(by="olga", what="Force-expiring 3 sessions"),
    BroadcastsPosted(),
    Cancelled(requests=(f"{SESSION}:00", f"{SESSION}:01")),
    Announced(method="notifications/tools/list_changed", uri=None),
    Announced(method="notifications/resources/updated", uri="book://1"),
)


def test_every_type_has_an_example() -> None:
    assert {type(each) for each in EACH} == set(get_args(Notification))


@pytest.mark.parametrize("notification", EACH, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", ["", "0011"])
def test_what_is_encoded_is_decoded(notification: Notification, name: str) -> None:
    assert decode(encode(notification, name=name)) == Envelope(notification, name)


def test_the_encoded_form_is_what_another_release_reads() -> None:
    encoded = encode(StreamClaimed(fingerprint=SESSION, stream="standalone", token=7), name="0011")
    assert json.loads(encoded) == {
        "version": 1,
        "type": "StreamClaimed",
        "name": "0011",
        "fields": {"fingerprint": SESSION, "stream": "standalone", "token": 7},
    }


@pytest.mark.parametrize("notification", EACH, ids=lambda each: type(each).__name__)
def test_every_type_is_described_by_one_sentence(notification: Notification) -> None:
    said = type(notification).__doc__ or ""
    assert "\n" not in said
    assert said.endswith(".")


def told(**changes: Any) -> bytes:
    """An encoded notification with something else in it; None leaves it out."""
    good = {"version": 1, "type": "StreamReleased", "fields": {"fingerprint": SESSION, "token": 7}}
    return json.dumps({key: value for key, value in (good | changes).items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("encoded", "kind"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a notification"),
        (b'{"t":"ended"}', "not a notification"),
        (told(version="1"), "not a notification"),
        (told(version=None), "not a notification"),
        (told(fields=None), "not a notification"),
        (told(type=None), "not a notification"),
        (told(version=0), "version 0"),
        (told(version=2), "version 2"),
        (told(version=2, fields=None), "version 2"),
        (told(version=10**1000), "version 1" + 59 * "0"),
        (told(type="SessionMoved"), "type 'SessionMoved'"),
        (told(type="x" * 1000), f"type '{60 * 'x'}'"),
        (told(type="\n"), r"type '\n'"),
        (told(type="Envelope"), "type 'Envelope'"),
        (told(name=7), "StreamReleased with other fields"),
        (told(fields={}), "StreamReleased with other fields"),
        (told(fields={"fingerprint": SESSION, "token": None}), "StreamReleased with values of another type"),
        (told(fields={"fingerprint": SESSION, "tokens": 7}), "StreamReleased with other fields"),
        (told(fields={"fingerprint": 7, "token": 7}), "StreamReleased with values of another type"),
        (
            told(type="SessionsEnded", fields={"fingerprints": [7]}),
            "SessionsEnded with values of another type",
        ),
        (
            told(type="SessionsEnded", fields={"fingerprints": "f"}),
            "SessionsEnded with values of another type",
        ),
    ],
)
def test_what_cannot_be_read_says_what_it_is(encoded: bytes, kind: str) -> None:
    with pytest.raises(Unreadable) as raised:
        decode(encoded)
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    "more", [{"sent_at": 1}, {"fields": {"fingerprint": SESSION, "token": 7, "reason": "moved"}}]
)
def test_what_a_newer_release_adds_is_no_reason_to_skip_it(more: dict[str, Any]) -> None:
    assert decode(told(**more)) == Envelope(StreamReleased(fingerprint=SESSION, token=7))
