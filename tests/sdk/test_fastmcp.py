"""What is recognized as a FastMCP, without the package: tests/clients/test_fastmcp_servers.py has real ones."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest

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


async def test_several_keys_at_once_are_those_of_the_session_and_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module: Any = ModuleType("key_value.aio.stores.memory")
    module.MemoryStore = Memory
    monkeypatch.setitem(sys.modules, module.__name__, module)
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
    assert await storage.delete_many([*keys, "s:c", "other:d"], collection="c") == 2
    assert await storage.get_many(keys, collection="c") == [None, None]
    with pytest.raises(ValueError, match="shorter"):
        await storage.put_many(keys, [{}])
