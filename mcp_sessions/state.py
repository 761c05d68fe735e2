"""Session state: names and JSON values that end with the session, for async and for sync handlers."""

import json
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, overload

from anyio import from_thread

from mcp_sessions.errors import StateError
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import state as calls

T = TypeVar("T")


class Runs(Protocol):
    """Runs calls: a store, or what does more with the record first."""

    async def run(self, work: Call[T], /) -> T: ...


class State:
    """The session's state: names and JSON values. It ends with the session.

    Each method is one atomic operation in the store, whichever processes serve the session at the same time. All raise
    SessionGone once the session has ended, StoreUnavailable if the store cannot be reached, and StateError for values
    that are not JSON, are of the wrong type, or exceed STATE_MAX_BYTES (StateTooLarge).
    """

    def __init__(self, store: Runs, fingerprint: str, *, max_bytes: int) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._max_bytes = max_bytes

    @overload
    async def get(self, name: str, default: None = None) -> Any | None: ...
    @overload
    async def get(self, name: str, default: T) -> T: ...
    async def get(self, name: str, default: Any = None) -> Any:
        """The value, or the default if the name is not set. The value's type is not checked: it is what was stored."""
        [text] = await self._store.run(calls.get(self._fingerprint, [_name(name)]))
        return default if text is None else json.loads(text)

    async def set(self, name: str, value: Any) -> None:
        await self.update({name: value})

    async def update(self, values: Mapping[str, Any]) -> None:
        """Set several values: all or none."""
        texts = {_name(name): _text(value) for name, value in values.items()}
        if texts:
            await self._store.run(calls.set_values(self._fingerprint, texts, max_bytes=self._max_bytes))

    async def delete(self, *names: str) -> int:
        """Delete names; how many of them were set."""
        if not names:
            return 0
        return await self._store.run(calls.delete(self._fingerprint, [_name(name) for name in names]))

    @overload
    async def incr(self, name: str, amount: int = 1) -> int: ...
    @overload
    async def incr(self, name: str, amount: float) -> float: ...
    async def incr(self, name: str, amount: float = 1) -> float:
        """Add to a number, 0 if not set; the sum. It has the type of `amount`, unless the number had another one."""
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise StateError(f"incr() adds numbers, not {amount!r}.")
        text = await self._store.run(
            calls.incr(self._fingerprint, _name(name), amount, max_bytes=self._max_bytes)
        )
        total: float = json.loads(text)
        return total

    async def append(self, name: str, item: Any) -> int:
        """Append to a list, empty if not set; its new length."""
        return await self._store.run(
            calls.append(self._fingerprint, _name(name), _text(item), max_bytes=self._max_bytes)
        )

    async def keys(self) -> list[str]:
        """The names that are set, sorted."""
        return await self._store.run(calls.names(self._fingerprint))


class SyncState:
    """`State` for sync handlers: the same methods, without await."""

    def __init__(self, state: State) -> None:
        self._state = state

    @overload
    def get(self, name: str, default: None = None) -> Any | None: ...
    @overload
    def get(self, name: str, default: T) -> T: ...
    def get(self, name: str, default: Any = None) -> Any:
        return from_thread.run(self._state.get, name, default)

    def set(self, name: str, value: Any) -> None:
        from_thread.run(self._state.set, name, value)

    def update(self, values: Mapping[str, Any]) -> None:
        from_thread.run(self._state.update, values)

    def delete(self, *names: str) -> int:
        return from_thread.run(self._state.delete, *names)

    @overload
    def incr(self, name: str, amount: int = 1) -> int: ...
    @overload
    def incr(self, name: str, amount: float) -> float: ...
    def incr(self, name: str, amount: float = 1) -> float:
        return from_thread.run(self._state.incr, name, amount)

    def append(self, name: str, item: Any) -> int:
        return from_thread.run(self._state.append, name, item)

    def keys(self) -> list[str]:
        return from_thread.run(self._state.keys)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise StateError(f"Names of state values are non-empty strings, not {name!r}.")
    return name


def _text(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StateError(f"State values are JSON; this one is not: {error}") from error
