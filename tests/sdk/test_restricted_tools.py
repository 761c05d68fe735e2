"""Tools that name a permission or a scope exist only for those who have it, in both eras."""

from typing import Any

import httpx2
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.shared.exceptions import MCPError
from pytest_django import Settings

from mcp_sessions import RestrictedTools, tools
from mcp_sessions.testing import Era, connect, http_client, serving, url_of
from tests.support.asgi import opened
from tests.support.mcp_client import META, MODERN, RawClient

pytestmark = pytest.mark.django_db(transaction=True)
ALL = {"look", "remove", "write", "replace"}


@pytest.fixture(autouse=True)
def served(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {
        "default": {"SERVER": "tests.served.restricted.server", "SUBJECT_TO_USER": "username"},
        "lowlevel": {"SERVER": "tests.served.restricted.lowlevel", "PATH": "lowlevel"},
        "optional": {"SERVER": "tests.served.restricted.optional", "PATH": "optional"},
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
                assert said(await client.call_tool(name)) == f"Unknown tool: {name}"
        return listed


def said(result: Any) -> str:
    """What a tool that failed said."""
    assert result.is_error
    return str(result.content[0].text)


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
        assert said(await client.call_tool("remove")) == "Unknown tool: remove"
        assert {tool.name for tool in (await client.list_tools()).tools} == {"look"}


async def test_a_low_level_server_names_its_tools() -> None:
    async with connect(user=await user("ann"), endpoint="lowlevel") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["look"]
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("remove")
    async with connect(user=await user("ann", "delete_book"), endpoint="lowlevel") as client:
        assert not (await client.call_tool("remove")).is_error


#: Arguments of a call, other members of its parameters, and headers. With `remove`, those of its parameter are wrong.
CALLS: tuple[tuple[Any, dict[str, Any], dict[str, str]], ...] = (
    ({}, {}, {}),
    ({"title": "Emma"}, {}, {}),
    ({"title": "Emma"}, {}, {"mcp_param_title": "Persuasion"}),
    ({"titel": 7}, {}, {}),
    ([], {}, {}),
    ({}, {"task": {"ttl": 3}}, {}),
    ({}, {"task": 3}, {}),
)


@pytest.mark.parametrize("who", ["nobody", "a user", "a token without the scope", "a subject without a user"])
@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_tool_that_is_hidden_answers_to_the_byte_as_one_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, era: Era, who: str
) -> None:
    """And the database is asked as often, so that the answer takes as long."""
    asked: list[Any] = []
    permitted = tools._permitted

    def ask(*about: Any) -> frozenset[str]:
        asked.append(about)
        return permitted(*about)

    monkeypatch.setattr(tools, "_permitted", ask)
    ann = await user("ann")
    users = {
        "a user": ann,
        "a token without the scope": token("ann"),
        "a subject without a user": token("bob"),
    }

    async def answer(
        http: httpx2.AsyncClient, client: RawClient, name: str, case: int
    ) -> tuple[int, str, int]:
        arguments, more, headers = CALLS[case]
        before, meta = len(asked), {"_meta": META} if era == "modern" else {}
        call = client.request("tools/call", {"name": name, "arguments": arguments, **more, **meta})
        if era == "modern":
            headers = {
                **headers,
                "mcp_protocol_version": MODERN,
                "mcp_method": "tools/call",
                "mcp_name": name,
            }
        got = await http.post(url_of(), json={**call, "id": 7}, headers=client.headers(**headers))
        return got.status_code, got.text.replace(name, "NAME"), min(1, len(asked) - before)

    async with serving(), http_client(user=users.get(who)) as http:
        client = await opened(http) if era == "handshake" else RawClient()
        for case in range(len(CALLS)):
            nothing = await answer(http, client, "nothing", case)
            for hidden in {"remove", "write", "replace"} - ({"write"} if who == "a user" else set()):
                assert await answer(http, client, hidden, case) == nothing, (hidden, CALLS[case])


@pytest.mark.parametrize("title", ["Emma", "Persuasion", None])
async def test_a_tool_that_sessions_enable_is_unknown_without_one_whatever_the_headers_of_its_parameters(
    title: str | None,
) -> None:
    client = RawClient()
    call = client.request("tools/call", {"name": "rename", "arguments": {"title": "Emma"}, "_meta": META})
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "rename"}
    if title is not None:
        headers["mcp_param_title"] = title
    async with serving(), http_client() as http:
        got = await http.post(url_of("optional"), json=call, headers=client.headers(**headers))
    assert (got.status_code, got.json()["error"]["message"]) == (400, "Unknown tool: rename")


def test_a_requirement_names_something() -> None:
    with pytest.raises(ValueError, match="needs a permission, a scope, or both"):
        RestrictedTools(MCPServer("x")).tool("y")(len)
