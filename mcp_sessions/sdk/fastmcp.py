"""Servers written with FastMCP: what is served is the SDK's low-level server inside, and the session keeps their state.

FastMCP is not needed to import this module; its objects are recognized by the name of their class.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, SupportsFloat

from mcp.server.lowlevel.server import Server

from mcp_sessions.current import current_exchange
from mcp_sessions.session import current_session
from mcp_sessions.state import State

#: In front of the names that FastMCP gives, in the state of the session.
_PREFIX: Final = "fastmcp:"
#: Where FastMCP keeps the server inside, and the store that its user gave it.
_INSIDE, _STORAGE = "_mcp_server", "_state_storage"


def is_fastmcp(value: Any) -> bool:
    """Whether it is a FastMCP server: of the package fastmcp, or of the first version of the SDK."""
    return any(
        each.__name__ == "FastMCP" and each.__module__.split(".")[0] in ("fastmcp", "mcp")
        for each in type(value).__mro__
    )


def lowlevel_of(value: Any) -> Server[Any]:
    """The low-level server inside a FastMCP. Its `ctx.set_state` writes into the session, unless it was given a store.

    Raises: TypeError for a version that is built on another one of the SDK.
    """
    inside = getattr(value, _INSIDE, None)
    if not isinstance(inside, Server) or not hasattr(value, _STORAGE):
        package = type(value).__module__.split(".")[0]
        version = getattr(sys.modules.get(package), "__version__", "of an unknown version")
        raise TypeError(f"a FastMCP of {package} {version}, which cannot be served: fastmcp 4 is needed")
    if getattr(value, _STORAGE) is None:
        setattr(value, _STORAGE, SessionStorage())
    inside.__dict__["_fastmcp"] = (
        value  # FastMCP's own reference to it is weak, and a callable may have made it
    )
    return inside


class SessionStorage:
    """The state of the session as FastMCP wants it: an `AsyncKeyValue` of the package key_value.

    FastMCP's keys begin with the id of the session, which is its fingerprint here. Anything else, such as the sessions
    that FastMCP itself makes for clients of the modern era, goes into the memory of this process, as FastMCP has it
    without a store.
    """

    def __init__(self) -> None:
        from key_value.aio.stores.memory import MemoryStore  # type: ignore[import-not-found,unused-ignore]

        self._memory: Any = MemoryStore()

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        found = _in_session(key)
        if found is None:
            value: dict[str, Any] | None = await self._memory.get(key, collection=collection)
            return value
        state, name = found
        return await state.get(name)

    async def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """`ttl` does not count for what ends with the session."""
        found = _in_session(key)
        if found is None:
            await self._memory.put(key, value, collection=collection, ttl=ttl)
        else:
            state, name = found
            await state.set(name, dict(value))

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        found = _in_session(key)
        if found is None:
            return bool(await self._memory.delete(key, collection=collection))
        state, name = found
        return await state.delete(name) > 0

    async def ttl(
        self, key: str, *, collection: str | None = None
    ) -> tuple[dict[str, Any] | None, float | None]:
        if _in_session(key) is not None:
            return await self.get(key), None
        found: tuple[dict[str, Any] | None, float | None] = await self._memory.ttl(key, collection=collection)
        return found

    async def get_many(
        self, keys: Sequence[str], *, collection: str | None = None
    ) -> list[dict[str, Any] | None]:
        return [await self.get(key, collection=collection) for key in keys]

    async def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None
    ) -> list[tuple[dict[str, Any] | None, float | None]]:
        return [await self.ttl(key, collection=collection) for key in keys]

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        for key, value in zip(keys, values, strict=True):
            await self.put(key, value, collection=collection, ttl=ttl)

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return sum([await self.delete(key, collection=collection) for key in keys])


def _in_session(key: str) -> tuple[State, str] | None:
    """The state and the name there, for a key of the session that is being served."""
    if current_exchange.get(None) is None:
        return None
    session = current_session()
    owner, colon, name = key.partition(":")
    return (session.state, _PREFIX + name) if colon and owner == session.fingerprint else None
