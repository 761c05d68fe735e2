"""Which tools are hidden from whom: decisions of the middleware, without a server around it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from mcp_sessions import OptInTools, RestrictedTools
from mcp_sessions.current import current_exchange, current_request
from mcp_sessions.store.drivers.absent import NOT_NOW
from mcp_sessions.tools import Requirement


@dataclass(frozen=True)
class Asked:
    """A request, as the SDK's middleware gets it."""

    method: str
    params: dict[str, Any] | None = None


@dataclass
class User:
    permissions: set[str]
    asked: list[str] = field(default_factory=list)

    def has_perm(self, permission: str) -> bool:
        self.asked.append(permission)
        return permission in self.permissions


async def answer(ctx: Any) -> dict[str, Any]:
    """What the server would answer."""
    if ctx.method == "tools/list":
        return {"tools": [{"name": name} for name in ("look", "till", "price")], "cacheScope": "public"}
    name = (ctx.params or {}).get("name")
    return {"content": [{"text": f"{ctx.method} {name}"}, {"data": name}]}


async def ask(layer: Any, method: str, name: Any = None) -> Any:
    return await layer(Asked(method, None if name is None else {"name": name}), answer)


async def listed(layer: Any) -> list[str]:
    return [tool["name"] for tool in (await ask(layer, "tools/list"))["tools"]]


@contextmanager
def a_session(*tools: str, is_stored: bool = True) -> Iterator[None]:
    session = SimpleNamespace(tools=frozenset(tools), is_stored=is_stored, fingerprint="0123456789abcdef")
    token = current_exchange.set(SimpleNamespace(session=session))
    try:
        yield
    finally:
        current_exchange.reset(token)


@contextmanager
def asking(user: User | None, *, scopes: Any = None, principal: str = "user:1") -> Iterator[None]:
    identity = SimpleNamespace(scopes=scopes, find_user=lambda _: user)
    request = SimpleNamespace(principal=principal, identity=identity, conf=None)
    token = current_request.set(request)
    try:
        yield
    finally:
        current_request.reset(token)


async def test_a_session_sees_and_calls_the_opt_in_tools_that_it_has_enabled() -> None:
    layer = OptInTools(Server("low"), names=["till", "price"])
    assert layer.names == {"till", "price"}
    assert await listed(layer) == ["look"]
    with a_session("till"):
        assert await listed(layer) == ["look", "till"]
        assert (await ask(layer, "tools/call", "till"))["content"][0]["text"] == "tools/call till"
        for unhindered in ("look", None, 7):
            assert (await ask(layer, "tools/call", unhindered))["content"]
        assert (await ask(layer, "prompts/get", "price"))["content"][0]["text"] == "prompts/get price"
        with pytest.raises(MCPError, match="Unknown tool: price") as unknown:
            await ask(layer, "tools/call", "price")
        assert unknown.value.error.code == -32602
    with pytest.raises(MCPError, match="Unknown tool: price"):
        await ask(layer, "tools/call", "price")


async def test_without_the_store_nobody_knows_what_a_session_has_enabled() -> None:
    layer = OptInTools(Server("low"), names=["till"])
    with a_session(is_stored=False), pytest.raises(MCPError, match=NOT_NOW) as away:
        await ask(layer, "tools/call", "till")
    assert away.value.error.code == -32603


async def test_a_tool_of_another_release_is_skipped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    layer = OptInTools(Server("low"), names=["till"])
    with a_session("till", "gone"), caplog.at_level(logging.INFO, logger="mcp_sessions.tools"):
        assert await listed(layer) == ["look", "till", "price"]
    assert caplog.messages == [
        "Session 0123456789ab enabled the tool 'gone', which this release does not have."
    ]


def test_a_tool_is_registered_under_its_own_name_or_the_one_that_is_given() -> None:
    server: MCPServer[Any] = MCPServer("shop")
    opt_in, restricted = OptInTools(server), RestrictedTools(server)

    @opt_in.tool()
    def till() -> str:
        raise NotImplementedError

    opt_in.tool("drawer", description="Opens")(till)
    restricted.tool(permission="shop.open")(till)
    restricted.tool("safe", scope="open")(till)
    assert opt_in.names == {"till", "drawer"}
    assert restricted._requirements == {
        "till": Requirement(permission="shop.open"),
        "safe": Requirement(scope="open"),
    }
    for make in (OptInTools, RestrictedTools):
        with pytest.raises(TypeError, match=f"{make.__name__}.tool\\(\\) needs an MCPServer"):
            make(Server("low")).tool()


@pytest.mark.parametrize(
    ("permissions", "scopes", "expected"),
    [
        ({"shop.open", "shop.price"}, None, ["look", "till", "price"]),
        ({"shop.open", "shop.price"}, ["price"], ["look", "till", "price"]),
        ({"shop.open", "shop.price"}, [], ["look", "till"]),
        ({"shop.open"}, ["price"], ["look", "till"]),
        ({"shop.price"}, ["price"], ["look", "price"]),
        (set(), ["price"], ["look"]),
        (None, ["price"], ["look"]),
    ],
)
async def test_a_tool_is_seen_and_called_by_those_who_have_its_permission_and_its_scope(
    permissions: set[str] | None, scopes: list[str] | None, expected: list[str]
) -> None:
    layer = RestrictedTools(
        Server("low"), {"till": Requirement("shop.open"), "price": Requirement("shop.price", "price")}
    )
    with asking(None if permissions is None else User(permissions), scopes=scopes):
        assert await listed(layer) == expected
        assert [name for name in ("look", "till", "price") if not await layer.hides(name)] == expected
        for name in {"till", "price"} - set(expected):
            with pytest.raises(MCPError, match=f"Unknown tool: {name}") as unknown:
                await ask(layer, "tools/call", name)
            assert unknown.value.error.code == -32602
        for name in expected:
            assert (await ask(layer, "tools/call", name))["content"][0]["text"] == f"tools/call {name}"
        assert (await ask(layer, "tools/call", 7))["content"]
        assert (await ask(layer, "prompts/get", "price"))["content"]


@pytest.mark.parametrize("principal", ["anonymous", None])
async def test_whoever_is_nobody_has_no_tool_that_asks_for_something(principal: str | None) -> None:
    layer = RestrictedTools(
        Server("low"), {"till": Requirement("shop.open"), "price": Requirement(scope="p")}
    )
    everything = User({"shop.open"})
    if principal is None:
        assert await listed(layer) == ["look"]
        assert [await layer.hides(name) for name in ("look", "till", "price")] == [False, True, True]
        return
    with asking(everything, principal=principal):
        assert await listed(layer) == ["look"]
        layer.has_tool = lambda name: name == "look"
        hidden = [await layer.hides(name) for name in ("look", "till", "price", "nothing")]
    assert hidden == [False, True, True, False]
    assert everything.asked == []


async def test_a_tool_that_does_not_exist_is_asked_for_as_long_as_one_that_is_hidden() -> None:
    layer = RestrictedTools(
        Server("low"), {"price": Requirement(scope="p"), "till": Requirement("shop.open")}
    )
    layer.has_tool = lambda name: name in {"look", "till", "price"}
    asked = {}
    for name in ("look", "till", "price", "nothing"):
        user = User(set())
        with asking(user, scopes=[]):
            asked[name] = (await layer.hides(name), user.asked)
    permission = ["shop.open"]
    assert asked == {
        "look": (False, []),
        "till": (True, permission),
        "price": (True, permission),
        "nothing": (False, permission),
    }
    with asking(User({"shop.open"}), scopes=[]):
        assert await layer.hides("price"), "a scope is missing, whatever the permissions"


async def test_a_list_that_depends_on_who_asks_is_nobody_elses() -> None:
    layer = RestrictedTools(Server("low"), {"till": Requirement(scope="open")})
    assert (await ask(layer, "tools/list"))["cacheScope"] == "private"


async def test_permissions_are_not_looked_up_where_they_cannot_matter() -> None:
    layer = RestrictedTools(
        Server("low"), {"till": Requirement(scope="open"), "price": Requirement("shop.price", "price")}
    )
    user = User({"shop.price"})
    with asking(user, scopes=[]):
        assert await listed(layer) == ["look"]
    assert user.asked == []


async def test_a_server_with_tools_of_its_own_answers_to_a_hidden_one_as_to_an_unknown_one() -> None:
    layer = RestrictedTools(MCPServer("shop"), {"till": Requirement(scope="open")})
    answered = await ask(layer, "tools/call", "till")
    assert answered["content"] == [{"text": "tools/call till"}, {"data": "till (hidden from this client)"}]

    async def other(ctx: Any) -> Any:
        return ctx.params["name"]

    assert await layer(Asked("tools/call", {"name": "till"}), other) == "till (hidden from this client)"  # type: ignore[arg-type]


def test_a_requirement_names_something() -> None:
    with pytest.raises(ValueError, match="The tool till needs a permission, a scope, or both"):
        RestrictedTools(Server("low"), {"till": Requirement()})
