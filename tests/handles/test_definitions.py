"""Kinds of handles as authors define them: what is refused, what type checkers see, and low-level servers."""

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent
from mcp_types import Tool as ToolType

from mcp_sessions import StateHandle
from mcp_sessions.errors import NoCurrentRequest
from mcp_sessions.handles.record import Spec
from mcp_sessions.testing import Era, connect
from tests.served.baskets import Basket
from tests.support import ROOT
from tests.support.asgi import endpoint


def named(kind: Any = "something", **options: Any) -> Callable[[], type]:
    return lambda: type("Something", (StateHandle,), {}, kind=kind, **options)


def annotated() -> type:
    class Something(StateHandle, kind="something"):
        owner: str

    return Something


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("define", "problem"),
    [
        (named("Basket"), "lower-case letters"),
        (named("basket_2"), "lower-case letters"),
        (named("a" * 33), "32 characters"),
        (named("basket"), "tests.served.baskets.Basket has the kind 'basket' already"),
        (named(idle=2 * DAY, max_age=DAY), "0 < idle <= max_age <= 365 days"),
        (named(idle=timedelta(0)), "0 < idle"),
        (named(max_age=366 * DAY), "365 days"),
        (named(max_per_principal=0), "max_per_principal above 0"),
        (named(max_bytes=0), "max_bytes above 0"),
        (annotated, "annotates owner, but a handle has no fields"),
    ],
)
def test_a_kind_that_does_not_fit_is_refused(define: Callable[[], type], problem: str) -> None:
    assert Basket._spec.kind == "basket"
    with pytest.raises((TypeError, ValueError)) as refused:
        define()
    assert problem in str(refused.value)


def test_a_kind_that_just_fits_is_taken() -> None:
    class Longest(
        StateHandle,
        kind="a" * 32,
        idle=365 * DAY,
        max_age=365 * DAY,
        max_per_principal=1,
        max_bytes=1,
    ):
        _cached: str

    assert Longest._spec == Spec(
        kind="a" * 32,
        idle_ms=365 * 86_400_000,
        max_age_ms=365 * 86_400_000,
        max_per_principal=1,
        max_bytes=1,
    )
    moment = timedelta(microseconds=1)
    shortest: Any = named("shortest", idle=moment, max_age=moment, max_per_principal=None)()
    assert shortest._spec == Spec(
        kind="shortest", idle_ms=1, max_age_ms=1, max_per_principal=None, max_bytes=None
    )


def test_a_kind_needs_a_name_and_the_base_is_no_kind() -> None:
    with pytest.raises(TypeError, match="kind"):
        type("Something", (StateHandle,), {})
    with pytest.raises(TypeError, match="derive a class"):
        StateHandle("basket-000-000-000")


def test_a_module_that_is_loaded_again_defines_its_kinds_again() -> None:
    first, second = (type("Again", (StateHandle,), {}, kind="again") for _ in range(2))
    assert first is not second


async def test_outside_a_handler_a_handle_is_a_text_and_nothing_else() -> None:
    basket = Basket("Basket 000 000 000")
    assert basket == basket.result == "basket-000-000-000"
    assert json.dumps([basket]) == '["basket-000-000-000"]'
    for again in (copy.deepcopy(basket), pickle.loads(pickle.dumps(basket))):  # noqa: S301 - our own
        assert (again, type(again)) == (basket, Basket)
    assert not basket._record.store
    for use in (basket.get("a"), basket.append("a", 1), basket.end(), Basket.create(), Basket.mine()):
        with pytest.raises(NoCurrentRequest, match="no request here"):
            await use


async def call_tool(_: Any, params: CallToolRequestParams) -> CallToolResult:
    arguments = params.arguments or {}
    if params.name == "create_basket":
        text: str = await Basket.create()
    else:
        basket = await Basket.resolve(arguments["basket"])
        text = str(await basket.append("articles", arguments["article"]))
    return CallToolResult(content=[TextContent(type="text", text=text)])


async def list_tools(*_: Any) -> ListToolsResult:
    schema = {"type": "object", "properties": {"basket": Basket.schema(made_by="create_basket")}}
    return ListToolsResult(tools=[ToolType(name="add", input_schema=schema)])


low: Server[Any] = Server("low", on_call_tool=call_tool, on_list_tools=list_tools)
templates: MCPServer[Any] = MCPServer("templates")


@templates.resource("basket://{basket}")
async def contents(basket: Basket) -> str:
    return str(await basket.incr("reads"))


@templates.prompt()
async def shop_for(basket: Basket) -> str:
    return str(await basket.incr("reads"))


@templates.tool()
async def create_basket() -> Basket:
    return await Basket.create()


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_low_level_server_resolves_handles_itself(era: Era) -> None:
    with endpoint(SERVER="tests.handles.test_definitions.low"):
        async with connect(era=era, user=User(pk=1)) as client:
            [tool] = (await client.list_tools()).tools
            described = tool.input_schema["properties"]["basket"]
            assert described["type"] == "string"
            assert described["description"].startswith("A basket handle, as create_basket returned it.")
            [block] = (await client.call_tool("create_basket", {})).content
            assert block.type == "text"
            basket = block.text
            added = await client.call_tool("add", {"basket": basket.upper(), "article": "tea"})
            assert added.content == [TextContent(type="text", text="1")]
            refused = await client.call_tool("add", {"basket": "basket-000-000-000", "article": "tea"})
            assert refused.is_error
            text = "There is no such basket, or it expired after 24 hours without use."
            assert refused.content == [TextContent(type="text", text=text)]
    assert low.get_request_handler("tools/call").handler is call_tool  # type: ignore[union-attr]


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_resources_and_prompts_check_a_handle_when_they_use_it(
    era: Era, caplog: pytest.LogCaptureFixture
) -> None:
    with endpoint(SERVER="tests.handles.test_definitions.templates"):
        async with connect(era=era, user=User(pk=1)) as client:
            content = (await client.call_tool("create_basket", {})).structured_content
            assert content is not None
            basket = content["result"]
            [text] = (await client.read_resource(f"basket://{basket}")).contents
            assert text.text == "1"  # type: ignore[union-attr]
            [message] = (await client.get_prompt("shop_for", {"basket": basket})).messages
            assert message.content.text == "2"  # type: ignore[union-attr]
            with pytest.raises(MCPError, match="There is no such basket"):
                await client.read_resource("basket://basket-000-000-000")
            with pytest.raises(MCPError):
                await client.get_prompt("shop_for", {"basket": "basket-000-000-000"})
    assert not [each for each in caplog.records if each.exc_info]


USERS_MODULE = '''
from datetime import timedelta
from typing import Any, assert_type

from mcp.server import MCPServer

from mcp_sessions import StateHandle, current_session, current_user

server: MCPServer[Any] = MCPServer("shop")


class Basket(StateHandle, kind="typed-basket", idle=timedelta(hours=1), max_age=timedelta(days=3), max_bytes=1000):
    """A shopping basket."""


@server.tool()
async def create_basket() -> Basket:
    return await Basket.create()


@server.tool()
async def add(basket: Basket, article: str) -> int:
    assert_type(await Basket.mine(), list[Basket])
    assert_type(await basket.end(), bool)
    assert_type(basket.upper(), str)
    await current_user().state.set("last", basket)
    await current_session().state.set("last", basket)
    return await basket.append("articles", article)


@server.tool()
def add_in_a_thread(basket: Basket, article: str) -> int:
    assert_type(Basket.sync.create(), Basket)
    assert_type(Basket.sync.mine(), list[Basket])
    assert_type(basket.sync.end(), bool)
    return basket.sync.append("articles", article)


async def wrong(basket: Basket) -> None:
    await basket.append("articles")  # type: ignore[call-arg]
    await basket.nonsense()  # type: ignore[attr-defined]
'''


@pytest.mark.slow
def test_a_strict_type_checker_accepts_what_users_write(tmp_path: Path) -> None:
    """With this repository's strict settings, which refuse an ignored error that is none."""
    (tmp_path / "users_module.py").write_text(USERS_MODULE)
    command = [sys.executable, "-m", "mypy", str(tmp_path / "users_module.py")]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert checked.returncode == 0, checked.stdout + checked.stderr
