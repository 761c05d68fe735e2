"""Tools that name a permission or a scope exist only for those who have it, in both eras."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.shared.exceptions import MCPError
from pytest_django import Settings

from mcp_sessions import RestrictedTools
from mcp_sessions.testing import Era, connect

pytestmark = pytest.mark.django_db(transaction=True)
ALL = {"look", "remove", "write", "replace"}


@pytest.fixture(autouse=True)
def served(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {
        "default": {"SERVER": "tests.served.restricted.server", "SUBJECT_TO_USER": "username"},
        "lowlevel": {"SERVER": "tests.served.restricted.lowlevel", "PATH": "lowlevel"},
    }


@sync_to_async
def user(name: str, *permissions: str) -> User:
    made = User.objects.get_or_create(username=name)[0]
    made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return User.objects.get(pk=made.pk)


def token(subject: str, *scopes: str) -> AuthenticatedUser:
    """What authentication makes of a bearer token."""
    return AuthenticatedUser(
        AccessToken(token="t", client_id="c", scopes=list(scopes), subject=subject, claims={"iss": "i"})
    )


async def seen_by(who: Any, era: Era) -> set[str]:
    """What a client has in its list; it can call just that."""
    async with connect(user=who, era=era) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        for name in ALL:
            if name in listed:
                assert not (await client.call_tool(name)).is_error
            else:
                with pytest.raises(MCPError, match=f"Unknown tool: {name}"):
                    await client.call_tool(name)
        return listed


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_tool_exists_only_for_those_who_have_what_it_asks_for(era: Era) -> None:
    assert await seen_by(None, era) == {"look"}
    assert await seen_by(await user("ann"), era) == {"look", "write"}
    assert await seen_by(await user("ann", "delete_book"), era) == ALL
    assert await seen_by(token("ann", "books:read"), era) == {"look", "remove"}
    assert await seen_by(token("ann", "books:write"), era) == ALL
    assert await seen_by(token("nobody", "books:write"), era) == {"look", "write"}


async def test_a_permission_that_is_taken_away_is_missed_from_the_next_request_on() -> None:
    await user("ann", "delete_book")
    async with connect(user=token("ann")) as client:
        assert not (await client.call_tool("remove")).is_error
        await user("ann")
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("remove")
        assert {tool.name for tool in (await client.list_tools()).tools} == {"look"}


async def test_a_low_level_server_names_its_tools() -> None:
    async with connect(user=await user("ann"), endpoint="lowlevel") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["look"]
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("remove")
    async with connect(user=await user("ann", "delete_book"), endpoint="lowlevel") as client:
        assert not (await client.call_tool("remove")).is_error


def test_a_requirement_names_something() -> None:
    with pytest.raises(ValueError, match="needs a permission, a scope, or both"):
        RestrictedTools(MCPServer("x")).tool("y")(len)
