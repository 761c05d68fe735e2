"""What is recognized as a FastMCP, without the package: tests/clients/test_fastmcp_servers.py has real ones."""

import re
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from mcp.server.lowlevel.server import Server

from mcp_sessions.current import current_exchange
from mcp_sessions.sdk import fastmcp
from mcp_sessions.sdk.server import import_server, load_server


def old_fastmcp(package: str) -> type:
    """The class of a release before 4, whose server inside is of another SDK."""
    return type("FastMCP", (), {"__module__": f"{package}.server.server", "_mcp_server": object()})


@pytest.mark.parametrize("load", [import_server, load_server])
def test_an_old_fastmcp_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    package: Any = ModuleType("fastmcp")
    package.__version__ = "3.4.11"
    package.server = old_fastmcp("fastmcp")()
    monkeypatch.setitem(sys.modules, "fastmcp", package)
    said = "fastmcp.server is a FastMCP of fastmcp 3.4.11, which cannot be served: fastmcp 4 is needed"
    with pytest.raises(TypeError, match=re.escape(said)):
        load("fastmcp.server")


@pytest.mark.parametrize(
    ("name", "module", "expected"),
    [
        ("FastMCP", "fastmcp", True),
        ("FastMCP", "fastmcp.server.server", True),
        ("FastMCP", "mcp.server.fastmcp", True),
        ("FastMCP", "shop.fastmcp", False),
        ("FastMCP", "fastmcpx", False),
        ("Client", "fastmcp.client", False),
        ("Zone", "mcp.server", False),
    ],
)
def test_a_fastmcp_is_known_by_the_name_and_the_package_of_its_class(
    name: str, module: str, expected: bool
) -> None:
    made = type(name, (), {"__module__": module})
    assert fastmcp.is_fastmcp(made()) is expected
    assert fastmcp.is_fastmcp(type("Shop", (made,), {"__module__": "shop"})()) is expected


def new_fastmcp(**attributes: Any) -> Any:
    """A FastMCP as release 4 has it, with these attributes besides the server inside."""
    made = type("FastMCP", (), {"__module__": "fastmcp.server.server"})()
    vars(made).update({"_mcp_server": Server("inside"), **attributes})
    return made


@pytest.fixture
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("key_value.aio.stores.memory")
    module.MemoryStore = Memory
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("_memory")
def test_the_server_inside_is_served_with_a_state_in_the_session_unless_it_has_a_store() -> None:
    plain, mine = new_fastmcp(_state_storage=None), new_fastmcp(_state_storage="its own")
    for each in (plain, mine):
        inside = fastmcp.lowlevel_of(each)
        assert inside is each._mcp_server
        assert vars(inside)["_fastmcp"] is each, "nothing else may hold it"
    assert isinstance(plain._state_storage, fastmcp.SessionStorage)
    assert mine._state_storage == "its own"


def test_a_fastmcp_that_keeps_its_state_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastmcp", raising=False)
    with pytest.raises(TypeError, match="a FastMCP of fastmcp of an unknown version, which cannot be served"):
        fastmcp.lowlevel_of(new_fastmcp())


class Memory:
    """What stands in for the MemoryStore of the package key_value."""

    def __init__(self) -> None:
        self.kept: dict[Any, tuple[Any, Any]] = {}

    async def get(self, key: str, *, collection: str | None = None) -> Any:
        return self.kept.get((collection, key), (None, None))[0]

    async def ttl(self, key: str, *, collection: str | None = None) -> Any:
        return self.kept.get((collection, key), (None, None))

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: Any = None) -> None:
        self.kept[collection, key] = value, ttl

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        return self.kept.pop((collection, key), None) is not None


class SessionState(dict[str, Any]):
    """What stands in for the state of a session."""

    async def get(self, name: str) -> Any:  # type: ignore[override]  # as State has it
        return dict.get(self, name)

    async def set(self, name: str, value: Any) -> None:
        self[name] = value

    async def delete(self, name: str) -> int:
        return 0 if self.pop(name, None) is None else 1


@pytest.fixture
def session() -> Iterator[Any]:
    """That of the request that is being answered."""
    of: Any = SimpleNamespace(
        session=SimpleNamespace(fingerprint="f" * 64), store="the store", state_max_bytes=100
    )
    token = current_exchange.set(of)
    yield of
    current_exchange.reset(token)


def test_a_key_of_the_session_is_one_that_begins_with_its_id(session: Any) -> None:
    found = fastmcp._in_session("f" * 64 + ":a:b")
    assert found is not None
    state, name = found
    assert (name, state._fingerprint) == ("fastmcp:a:b", "f" * 64)
    assert fastmcp._in_session("f" * 64 + ":") is not None
    for other in ("f" * 64, "e" * 64 + ":a", "f" * 63 + ":a", ":a", ""):
        assert fastmcp._in_session(other) is None


def test_outside_of_a_session_no_key_is_one_of_a_session() -> None:
    assert fastmcp._in_session("f" * 64 + ":a") is None


@pytest.mark.usefixtures("_memory")
async def test_several_keys_at_once_are_those_of_the_session_and_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = SessionState()
    monkeypatch.setattr(
        fastmcp, "_in_session", lambda key: (state, key[2:]) if key.startswith("s:") else None
    )
    storage = fastmcp.SessionStorage()
    keys = ["s:a", "other:b"]

    await storage.put_many(keys, [{"n": 1}, {"n": 2}], collection="c", ttl=5)

    assert state == {"a": {"n": 1}}
    assert await storage.get_many([*keys, "s:c"], collection="c") == [{"n": 1}, {"n": 2}, None]
    assert await storage.get_many(keys) == [{"n": 1}, None], "only the process has collections"
    assert await storage.ttl_many(keys, collection="c") == [({"n": 1}, None), ({"n": 2}, 5)]
    assert await storage.delete_many([*keys, "s:c", "s:d", "other:e"], collection="c") == 2
    assert await storage.get_many(keys, collection="c") == [None, None]
    with pytest.raises(ValueError, match="shorter"):
        await storage.put_many(keys, [{}])
