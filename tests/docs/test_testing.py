"""Every test on docs/testing.md passes, run as its reader would run it."""

import pytest

from tests.docs import markdown
from tests.support import ROOT

SHOP = """
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

from mcp_sessions import current_session

server = MCPServer("shop")


class Address(BaseModel):
    street: str


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


@server.tool()
async def order(ctx: Context) -> str:
    answer = await ctx.elicit("Where shall we deliver?", Address)
    assert answer.action == "accept"
    return f"On its way to {answer.data.street}."


@server.tool()
def my_first_name() -> str:
    from django.contrib.auth.models import User

    return User.objects.get(pk=current_session().user.pk).first_name
"""
SETTINGS = """
from tests.settings import *

MCP_SESSIONS = {"default": {"SERVER": "shop.server"}}
"""
INI = "[pytest]\nasyncio_mode = auto\npythonpath = .\n"


def test_every_test_on_the_page_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = {
        block.title: block.code
        for block in markdown.blocks(markdown.read("testing.md"), "python")
        if block.title
    }
    settings = "".join(
        block.code for block in markdown.blocks(markdown.read("testing.md"), "python") if not block.title
    )
    for name, code in {"shop.py": SHOP, "shop_settings.py": SETTINGS + settings, **tests}.items():
        (pytester.path / name).write_text(code)
    pytester.makeini(INI)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--ds=shop_settings")

    result.assert_outcomes(passed=len(tests))
    assert len(tests) == 5


def test_a_tool_is_tested_in_five_lines() -> None:
    [first, *_] = markdown.blocks(markdown.read("testing.md"), "python")
    lines = [line for line in first.code.splitlines() if line]
    assert len(lines) == 5
