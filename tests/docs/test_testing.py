"""Every test on docs/testing.md passes, run as its reader would run it."""

import inspect
import os
import re
import sys

import pytest

from mcp_sessions import pytest_plugin
from mcp_sessions.testing import connect
from tests.docs import markdown
from tests.support import ROOT

SHOP = """
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

from mcp_sessions import StateHandle, current_session, current_user

server = MCPServer("shop")


class Address(BaseModel):
    street: str


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


@server.tool()
async def put(article: str) -> int:
    return await current_session().state.append("articles", article)


class Items(StateHandle, kind="items"):
    pass


@server.tool()
async def new_list() -> Items:
    return await Items.create()


@server.tool()
async def length(items: Items) -> int:
    return len(await items.get("items", []))


@server.tool()
async def address() -> str | None:
    return await current_user().state.get("address")


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
#: A Redis that does not answer: the tests are to do without.
SETTINGS = """
from tests.settings import *

CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
MCP_SESSIONS = {"default": {"SERVER": "shop.server"}}
MCP_SESSIONS_TEST_REDIS = False
"""
INI = "[pytest]\nasyncio_mode = auto\npythonpath = .\n"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A reader's project with the tests on the page."""
    for name, code in {"shop.py": SHOP, "shop_settings.py": SETTINGS, **on_the_page()}.items():
        (pytester.path / name).write_text(code)
    pytester.makeini(INI)
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}{os.pathsep}{ROOT}")
    return pytester


def on_the_page() -> dict[str, str]:
    found = markdown.blocks(markdown.read("testing.md"), "python")
    return {block.title: block.code for block in found if block.title}


def test_every_test_on_the_page_passes_under_pytest(project: pytest.Pytester) -> None:
    plugins = ("-p", "no:cacheprovider", "-p", "mcp_sessions.pytest_plugin")
    result = project.runpytest_subprocess(*plugins, "--ds=shop_settings")
    # Each file has one test, but for that about fixtures: one in two eras, and another one.
    result.assert_outcomes(passed=len(on_the_page()) + 2)


def test_every_test_case_on_the_page_passes_under_djangos_test_runner(project: pytest.Pytester) -> None:
    cases = [code for code in on_the_page().values() if "TestCase" in code]
    result = project.run(sys.executable, "-m", "django", "test", "--settings=shop_settings")
    result.stderr.fnmatch_lines([f"Ran {len(cases)} tests in *", "OK"])
    assert result.ret == 0


@pytest.mark.parametrize(("test", "most"), [("test_with_pytest.py", 5), ("test_with_django.py", 10)])
def test_a_tool_is_tested_in_a_few_lines(test: str, most: int) -> None:
    assert len([line for line in on_the_page()[test].splitlines() if line]) <= most


def test_the_page_has_every_argument_and_every_fixture() -> None:
    rows = markdown.table(markdown.read("testing.md"), "Argument of `connect`")
    named = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows))
    fixtures = re.findall(r"`(mcp_\w+)`", " ".join(row[1] for row in rows))
    assert sorted(named) == sorted(set(inspect.signature(connect).parameters) - {"options"})
    taken = inspect.signature(inspect.unwrap(pytest_plugin.mcp_client)).parameters
    assert sorted(fixtures) == sorted(taken)
