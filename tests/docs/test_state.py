"""Every block of docs/state.md runs, for clients of both eras, and does what the page says."""

import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from mcp_sessions.conf import Endpoint
from mcp_sessions.handles.handle import StateHandle
from mcp_sessions.handles.record import Record
from mcp_sessions.session import MAX_CONVERSATION_CHARS
from mcp_sessions.testing import Era, connect
from tests.docs import markdown
from tests.support.asgi import demo_with, endpoint
from tests.support.tool_calls import value

TEXT = markdown.read("state.md")
MODULE = "documented_state"
ANN = User(pk=1, username="ann")
DEFAULTS = Endpoint(alias="default", server="shop.mcp.server")
both_eras = pytest.mark.parametrize("era", ["handshake", "modern"])


@pytest.fixture(scope="module")
def documented() -> Iterator[ModuleType]:
    """The page's module."""
    module = ModuleType(MODULE)
    code = "\n\n".join(block.code for block in markdown.blocks(TEXT, "python") if not block.title)
    # Another kind, because the tests' own servers have baskets, too.
    sys.modules[MODULE] = module
    exec(code.replace('kind="basket"', 'kind="documented"'), vars(module))  # noqa: S102 - our own document
    yield module
    del sys.modules[MODULE]


@both_eras
@pytest.mark.usefixtures("documented")
async def test_the_handles_of_the_page(era: Era) -> None:
    with endpoint(SERVER=f"{MODULE}.server"):
        async with connect(era=era, user=ANN) as client:
            basket = await value(client, "create_basket")
            assert await value(client, "add", basket=basket, article="tea") == 1
            assert await value(client, "articles", basket=basket.upper()) == ["tea"]
            gift = await value(client, "create_gift_basket", article="jam")
            assert set(await value(client, "list_baskets")) == {basket, gift}
            assert await value(client, "articles", basket=gift) == ["jam", "card"]
            assert await value(client, "check_out", basket=gift) == "2 articles are on their way."
            assert await value(client, "list_baskets") == [basket]
            assert await value(client, "remember_address", address="Main Street") == 1
            assert await value(client, "address") == "Main Street"


@both_eras
@pytest.mark.usefixtures("documented")
async def test_the_low_level_server_of_the_page(era: Era) -> None:
    with endpoint(SERVER=f"{MODULE}.low_level_server"):
        async with connect(era=era, user=ANN) as client:
            [created] = (await client.call_tool("create_basket", {})).content
            basket = created.text  # type: ignore[union-attr]
            [counted] = (await client.call_tool("add", {"basket": basket})).content
            assert counted.text == "1"  # type: ignore[union-attr]
            assert (await client.call_tool("add", {"basket": "nonsense"})).is_error


@pytest.mark.usefixtures("documented")
async def test_the_settings_of_the_page_make_a_conversation() -> None:
    [block] = [block for block in markdown.blocks(TEXT, "python") if block.title == "settings.py"]
    names: dict[str, Any] = {}
    exec(block.code, names)  # noqa: S102 - our own document
    entry = {**names["MCP_SESSIONS"]["default"], "SERVER": f"{MODULE}.server"}
    with override_settings(MCP_SESSIONS=demo_with(**entry)):
        async with connect(era="modern", user=ANN) as client:
            meta: Any = {"threadId": "t-1"}
            result = await client.call_tool("prefer", {"size": "M"}, meta=meta)
            assert not result.is_error
            refused = await client.call_tool("prefer", {"size": "M"})
            assert "This tool needs a client that opens a session" in str(refused.content)


def test_the_texts_of_errors_are_those_of_the_code(documented: ModuleType) -> None:
    record = record_of(documented, "basket-483-920-179")
    said = [
        record.lost(None),
        record.lost("deleted"),
        record.lost("expired_by_operator"),
        str(record._no_room("", per_principal=True)),
        str(record._no_room("", per_principal=False)),
        str(record.unreachable()),
        record_of(documented, "basket-483-902-179").misread(),
        record_of(documented, "basket-483").misread(),
    ]
    written = [row[0] for row in markdown.table(TEXT, "Text")]
    full = f"This basket is full: it holds {DEFAULTS.state_max_bytes:,} bytes at most."
    assert set(written) == {*(str(each).replace("documented", "basket") for each in said), full}


def record_of(documented: ModuleType, text: str) -> Record:
    """As in a tool that Ann has called."""
    found: Record = documented.Basket(text.replace("basket", "documented"))._record
    found.made_by, found.principal = ["create_basket"], "user:1"
    return found


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert DEFAULTS.user_state_ttl == 30 * 86_400
    assert MAX_CONVERSATION_CHARS == 200
    options = [row[0].strip("`") for row in markdown.table(TEXT, "Option of the class")]
    parameters = StateHandle.__init_subclass__.__func__.__kwdefaults__  # type: ignore[attr-defined]
    assert options == ["kind", *parameters]


def test_the_handles_in_the_page_are_well_formed(documented: ModuleType) -> None:
    valid = {
        each: documented.Basket(each.replace("basket", "documented"))._record.text.valid
        for each in set(re.findall(r"basket-\d{3}-\d{3}-\d{3}", TEXT))
    }
    assert sorted(valid.values()) == [False, True]


def test_every_language_of_the_page_is_python() -> None:
    assert {block.language for block in markdown.blocks(TEXT)} == {"python"}
