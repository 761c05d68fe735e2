"""Records that are no sessions end in the same way; tools learn of the end of what is a session to them."""

from collections.abc import Callable
from typing import Any

import pytest

from mcp_sessions.ending import end_session, end_sessions
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import sessions, state
from mcp_sessions.store.factory import sync_store_for
from tests.support.sessions import Opened, open_sessions


def of_each_kind() -> dict[Kind, Opened]:
    opened = [Opened(kind=kind, state={"articles": [1]}) for kind in KINDS]
    return dict(zip(KINDS, open_sessions(opened), strict=True))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("session", "Session"),
        ("handle", "Handle"),
        ("user", "User state"),
        ("conversation", "Conversation"),
        ("caller", "Caller"),
        ("listener", "Listener"),
    ],
)
def test_the_log_says_what_ended(kind: Kind, words: str, log: Callable[[], list[str]]) -> None:
    record = of_each_kind()[kind]
    ended = end_session("default", record.fingerprint, by="ada")
    assert ended is not None
    assert ended.kind == kind
    assert log() == [f"{words} {record.fingerprint[:12]} ended: expired_by_operator, by 'ada'."]
    store = sync_store_for("default")
    assert store.run(sessions.get(record.fingerprint)) is None
    assert store.run(state.texts(record.fingerprint)) == {}


def test_the_ends_of_sessions_and_of_conversations_are_signalled(log: Callable[[], list[str]]) -> None:
    records = of_each_kind()
    received: dict[str, tuple[str, str]] = {}

    def receive(fingerprint: str, kind: str, reason: str, **_: Any) -> None:
        received[fingerprint] = (kind, reason)

    session_ended.connect(receive)
    try:
        ended = end_sessions("default", [each.fingerprint for each in records.values()])
    finally:
        session_ended.disconnect(receive)
    assert len(ended) == len(log()) == len(KINDS)
    assert received == {
        records[kind].fingerprint: (kind, "expired_by_operator") for kind in ("session", "conversation")
    }
