"""Where sessions live while a client is connected, the clock that can be moved there, and the state that tests see."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from pytest_django import Settings

from mcp_sessions import conf, current_session, current_user
from mcp_sessions.errors import SessionGone
from mcp_sessions.models import MCPSession
from mcp_sessions.records import record_fingerprint
from mcp_sessions.store.calls import queries
from mcp_sessions.store.factory import store_for, sync_store_for
from mcp_sessions.testing import Era, InProcessClient, connect, serving, stores, travel, user_state
from tests.support.asgi import demo_with
from tests.support.processes import free_port
from tests.support.redis import RedisServer

ADA = User(pk=1, username="ada")
served: MCPServer[Any] = MCPServer("remembering")


@served.tool()
async def note(text: str) -> int:
    return await current_session().state.append("notes", text)


@served.tool()
async def move(address: str) -> None:
    await current_user().state.set("address", address)


@pytest.fixture(autouse=True)
def no_redis(settings: Settings) -> None:
    """A project whose Redis does not answer, without settings for its tests."""
    redis = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis}}
    settings.MCP_SESSIONS = {"default": {"SERVER": f"{__name__}.served", "IDLE_TTL": 600}}
    del settings.MCP_SESSIONS_TEST_REDIS


@pytest.mark.parametrize("mcp_state", [{"notes": ["likes tea"]}])
async def test_a_session_begins_with_the_tests_state_and_the_test_sees_what_a_tool_made_of_it(
    mcp_client: InProcessClient,
) -> None:
    result = await mcp_client.call_tool("note", {"text": "likes music"})
    assert result.structured_content == {"result": 2}
    assert await mcp_client.state.get("notes") == ["likes tea", "likes music"]


async def test_the_state_belongs_to_the_clients_own_session() -> None:
    async with connect(state={"notes": [1]}) as one, connect() as other:
        assert await one.state.keys() == ["notes"]
        assert await other.state.keys() == []


@pytest.mark.parametrize("mcp_era", ["modern"])
@pytest.mark.parametrize("mcp_user", [ADA])
async def test_a_client_without_a_session_says_so_when_its_state_is_asked_for(
    mcp_client: InProcessClient, mcp_user: User
) -> None:
    with pytest.raises(RuntimeError, match="has no session"):
        mcp_client.state  # noqa: B018 - reading it raises
    await mcp_client.call_tool("move", {"address": "Main Street"})
    assert await user_state(mcp_user).get("address") == "Main Street"


async def test_a_state_for_a_client_without_a_session_is_refused() -> None:
    with pytest.raises(ValueError, match="user_state"):
        async with connect(era="modern", state={"notes": []}):
            """There is none."""


async def test_a_session_ends_when_the_clock_has_moved_beyond_its_idle_time() -> None:
    async with connect() as client:
        travel(599)
        await client.call_tool("note", {"text": "still there"})
        travel(timedelta(seconds=601))
        with pytest.raises(MCPError, match="Session not found"):
            await client.call_tool("note", {"text": "too late"})
        with pytest.raises(SessionGone):
            await client.state.get("notes")


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_the_state_of_a_user_expires_and_the_clock_is_right_again_afterwards(era: Era) -> None:
    async with connect(era=era, user=ADA):
        await user_state(ADA).set("address", "Main Street")
        travel(timedelta(days=29))
        assert await user_state(ADA).get("address") == "Main Street"
        travel(timedelta(days=31))
        assert await user_state(ADA).get("address") is None
        await user_state(ADA).set("address", "Side Street")
    async with connect(era=era, user=ADA):
        assert await user_state(ADA).get("address") is None
        await user_state(ADA).set("address", "Main Street")
        travel(timedelta(days=29))
        assert await user_state(ADA).get("address") == "Main Street"


async def test_records_are_as_old_as_the_machine_and_what_was_travelled_say(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.MCP_SESSIONS |= {"desk": {"SERVER": f"{__name__}.served", "PATH": "desk"}}
    begun = 1_800_000_000_123
    monkeypatch.setattr(stores, "time", SimpleNamespace(time_ns=lambda: begun * 1_000_000 + 999_999))
    async with serving():
        await user_state(ADA, endpoint="desk").set("address", "Main Street")
        travel(timedelta(seconds=1.5))
        async with serving():
            travel(60)
        travel(0.0016)
        await user_state(ADA, endpoint="desk").set("address", "Side Street")
        assert await user_state(ADA).keys() == []
        limits = conf.endpoint("desk").limits
        known = record_fingerprint("user", "user:1")
        [record] = await store_for("desk").run(queries.find(known, limits=limits, limit=2, kind="user"))
    assert (record.created_ms, record.last_activity_ms) == (begun, begun + 1_500 + 60_000 + 2)
    assert (record.kind, record.principal, record.handshake.client_name) == ("user", "user:1", "a test")
    assert (record.handshake.protocol_version, record.handshake.client_version) == ("", "")


async def test_the_admin_sees_the_sessions_of_a_test_and_nothing_is_left_of_them(settings: Settings) -> None:
    async with connect(), connect(user=ADA):
        assert MCPSession.objects.count() == 2
        settings.MCP_SESSIONS = {"default": {**settings.MCP_SESSIONS["default"], "IDLE_TTL": 300}}
        assert MCPSession.objects.count() == 2
    async with connect():
        assert MCPSession.objects.count() == 1
    assert sync_store_for("default").shared, "the store of the settings is back"


def test_the_clock_stands_without_a_client() -> None:
    with pytest.raises(RuntimeError, match="while a client is connected"):
        travel(1)


async def test_without_lua_the_test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_sessions.engine.lua51", None)
    with pytest.raises(ImproperlyConfigured, match="MCP_SESSIONS_TEST_REDIS = True"):
        async with connect():
            """Nothing can be kept in memory."""
    monkeypatch.undo()
    async with connect() as client:
        await client.call_tool("note", {"text": "the failure left nothing behind"})


async def test_one_setting_takes_the_real_redis(settings: Settings, redis_server: RedisServer) -> None:
    settings.MCP_SESSIONS_TEST_REDIS = True
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": redis_server.url}}
    settings.MCP_SESSIONS = demo_with(SERVER=f"{__name__}.served")
    namespace = settings.MCP_SESSIONS["default"]["NAMESPACE"]
    async with connect(state={"notes": ["likes tea"]}) as client:
        assert await client.state.get("notes") == ["likes tea"]
        with redis_server.client() as redis:
            assert list(redis.scan_iter(f"*{namespace}*"))
        with pytest.raises(RuntimeError, match="A Redis has its own clock"):
            travel(1)
