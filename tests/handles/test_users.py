"""The state of a user, and conversations that a host names, in both eras."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from mcp import Client

from mcp_sessions import conf, current_user, session
from mcp_sessions.errors import NoCurrentUser
from mcp_sessions.records import record_fingerprint
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.factory import store_for
from mcp_sessions.testing import Era, connect
from tests.support.asgi import endpoint

ANN, BEN = User(pk=1, username="ann"), User(pk=2, username="ben")
SERVER = "tests.served.baskets.server"
KEY = "openai/session"
both_eras = pytest.mark.parametrize("era", ["handshake", "modern"])


@asynccontextmanager
async def shop(**keys: Any) -> AsyncIterator[None]:
    with endpoint(SERVER=SERVER, **keys):
        yield


async def value(client: Client, tool: str, *, meta: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments, meta=dict(meta or {}))  # type: ignore[arg-type]
    assert not result.is_error, result
    content = result.structured_content
    assert content is not None
    return content["result"] if set(content) == {"result"} else content


async def said(client: Client, tool: str, *, meta: Mapping[str, Any] | None = None, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments, meta=dict(meta or {}))  # type: ignore[arg-type]
    assert result.is_error, result
    return str(result.content[0].text)  # type: ignore[union-attr]


async def test_a_user_has_one_state_in_both_eras() -> None:
    async with (
        shop(),
        connect(era="handshake", user=ANN) as old,
        connect(era="modern", user=ANN) as new,
        connect(era="modern", user=BEN) as ben,
    ):
        assert await value(new, "preferred") == [None, 0, [], 0]
        assert await value(old, "prefer", size="M") == 1
        assert await value(new, "prefer", size="L") == 2
        assert await value(old, "preferred") == ["L", 2, ["changes", "size"], 0]
        assert await value(ben, "preferred") == [None, 0, [], 0]


async def test_the_state_of_a_user_is_made_by_a_write_and_slid_by_each_use() -> None:
    async with shop(USER_STATE_TTL=1000, STATE_MAX_BYTES=2000), connect(era="modern", user=ANN) as client:
        store, fingerprint = store_for("default"), record_fingerprint("user", "user:1")
        await value(client, "preferred")
        assert await store.run(sessions.get(fingerprint)) is None
        await value(client, "prefer", size="M")
        made = await store.run(sessions.get(fingerprint))
        assert made is not None
        assert (made.kind, made.principal, made.handshake.client_name) == ("user", "user:1", "mcp")
        assert made.expires_ms - made.last_activity_ms == 1_000_000
        await value(client, "preferred")
        slid = await store.run(sessions.get(fingerprint))
        assert slid is not None
        assert slid.requests > made.requests
        assert await store.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))
        assert await value(client, "preferred") == [None, 0, [], 0]
        assert await value(client, "prefer", size="S") == 1
        assert "Error executing tool prefer" in await said(client, "prefer", size="x" * 3000)


async def test_first_writes_at_the_same_moment_all_count() -> None:
    async with shop(), connect(era="modern", user=ANN) as client:
        counts = await asyncio.gather(*[value(client, "count_user") for _ in range(20)])
        assert sorted(counts) == list(range(1, 21))


@both_eras
async def test_without_a_subject_there_is_no_user(era: Era) -> None:
    async with shop(), connect(era=era) as client:
        assert "There is no user here. This tool needs a client that is signed in" in await said(
            client, "preferred"
        )
    with pytest.raises(NoCurrentUser):
        current_user()


async def test_a_conversation_that_the_host_names_is_a_session_in_the_modern_era() -> None:
    one, two = {KEY: "c-1", "threadId": "t"}, {KEY: "c-2"}
    async with (
        shop(CONVERSATION_KEYS=[KEY, "threadId"]),
        connect(era="modern", user=ANN) as ann,
        connect(era="modern", user=BEN) as ben,
    ):
        fingerprint = record_fingerprint("conversation", "user:1", KEY, "c-1")
        seen = await value(ann, "notes", meta=one)
        assert seen == {
            "notes": [],
            "principal": "user:1",
            "client": "mcp",
            "version": "2026-07-28",
            "fingerprint": fingerprint,
            "tools": [],
            "elicits": False,
        }
        assert await store_for("default").run(sessions.get(fingerprint)) is None
        assert await value(ann, "note", meta=one, text="a") == 1
        assert await value(ann, "note", meta=one, text="b") == 2
        assert await value(ann, "note", meta=two, text="c") == 1
        assert await value(ann, "note", meta={"threadId": "c-1"}, text="d") == 1
        assert await value(ben, "note", meta=one, text="e") == 1
        assert (await value(ann, "notes", meta=one))["notes"] == ["a", "b"]
        made = await store_for("default").run(sessions.get(fingerprint))
        assert made is not None
        assert (made.kind, made.label, made.name) == ("conversation", KEY, "c-1")
        limits = conf.endpoint("default").limits
        assert made.expires_ms - made.last_activity_ms == limits.idle_ms
        assert "Tools can only be enabled for a session" in await said(ann, "open_till", meta=one)


@pytest.mark.parametrize("meta", [{}, {KEY: ""}, {KEY: 7}, {KEY: "x" * 201}, {"other": "c-1"}])
async def test_what_names_no_conversation(meta: Mapping[str, Any]) -> None:
    async with shop(CONVERSATION_KEYS=[KEY]), connect(era="modern", user=ANN) as client:
        assert "needs a client that opens a session" in await said(client, "notes", meta=meta)


async def test_an_anonymous_client_has_no_conversation() -> None:
    async with shop(CONVERSATION_KEYS=[KEY]), connect(era="modern") as client:
        assert "needs a client that opens a session" in await said(client, "notes", meta={KEY: "c-1"})


async def test_conversations_of_one_principal_have_a_cap() -> None:
    async with (
        shop(CONVERSATION_KEYS=[KEY], MAX_SESSIONS_PER_PRINCIPAL=2),
        connect(era="modern", user=ANN) as client,
    ):
        for name in ("c-1", "c-2"):
            await value(client, "note", meta={KEY: name}, text="a")
        assert "no room to remember more" in await said(client, "note", meta={KEY: "c-3"}, text="a")
        assert (await value(client, "notes", meta={KEY: "c-3"}))["notes"] == []
        assert await value(client, "note", meta={KEY: "c-1"}, text="b") == 2


async def test_a_session_stays_a_session_whatever_the_host_names() -> None:
    async with shop(CONVERSATION_KEYS=[KEY]), connect(era="handshake", user=ANN) as client:
        assert await value(client, "note", meta={KEY: "c-1"}, text="a") == 1
        assert await value(client, "note", meta={KEY: "c-2"}, text="b") == 2
        assert await value(client, "open_till", meta={KEY: "c-2"}) == ["till"]


async def test_the_operator_is_told_once_that_a_tool_needs_a_session(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_told", set())
    async with shop(), connect(era="modern") as client:
        for _ in range(3):
            text = await said(client, "notes")
            assert text.endswith("There is no session here. This tool needs a client that opens a session.")
    told = [
        each for each in caplog.records if each.levelno == logging.WARNING and "ERAS" in each.getMessage()
    ]
    assert len(told) == 1
    assert "handles" in told[0].getMessage()
