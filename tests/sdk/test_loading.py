"""What SERVER may name: a server, or something that makes one when it is called without arguments."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server

from mcp_sessions.sdk.server import HostedServer, import_server, load_server

HIGH, LOW = MCPServer("high"), Server[Any]("low")


class Served:
    """A class is a callable, too; this one needs something."""

    def __init__(self, name: str) -> None:
        raise AssertionError(name)


async def build_later() -> Any:
    raise AssertionError


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("shop")
    module.high, module.low, module.nothing = HIGH, LOW, 7
    module.make_high, module.make_low = lambda: HIGH, lambda of=LOW: of
    module.make_nothing, module.makes_of, module.build_later = lambda: 7, Served, build_later
    module.unknown = dict  # nobody knows its signature
    monkeypatch.setitem(sys.modules, "shop", module)


@pytest.mark.parametrize(("name", "server"), [("high", HIGH), ("low", LOW)])
def test_a_server_is_named_or_made_anew_each_time(name: str, server: Any) -> None:
    assert import_server(f"shop.{name}") is load_server(f"shop.{name}") is server
    make = import_server(f"shop.make_{name}")
    assert make is not server
    assert make() is load_server(f"shop.make_{name}") is server


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("shop.nothing", "shop.nothing is int, neither an MCPServer, a low-level Server, nor a FastMCP"),
        ("shop.build_later", "shop.build_later is no callable that returns a server: it is async"),
        ("shop.makes_of", "no callable that returns a server: missing a required argument: 'name'"),
    ],
)
def test_anything_else_is_refused_before_it_is_called(path: str, said: str) -> None:
    for load in (import_server, load_server):
        with pytest.raises(TypeError, match=re.escape(said)):
            load(path)


@pytest.mark.parametrize(("path", "kind"), [("shop.make_nothing", "int"), ("shop.unknown", "dict")])
def test_what_a_callable_returns_is_only_known_when_it_is_called(path: str, kind: str) -> None:
    assert callable(import_server(path))
    with pytest.raises(TypeError, match=f"{path} is {kind}, neither"):
        load_server(path)


@pytest.mark.parametrize("path", ["shop.other", "no_such_module.server", "shop"])
def test_what_does_not_exist_cannot_be_imported(path: str) -> None:
    with pytest.raises(ImportError):
        import_server(path)


def hosted(lifespan: Any = None) -> HostedServer:
    return HostedServer(MCPServer("shop", lifespan=lifespan), json_only=False, max_body=1_000)


async def test_a_server_that_never_started_can_be_stopped() -> None:
    await hosted().stop()


async def test_a_lifespan_that_raises_when_it_is_left_is_heard_of() -> None:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[str]:
        yield "state"
        raise RuntimeError("on purpose")

    server = hosted(lifespan)
    await server.start()
    assert server.kernel.lifespan_state == "state"
    with pytest.raises((RuntimeError, ExceptionGroup)):
        await server.stop()
    await server.start()  # it was entered, and is not entered again
