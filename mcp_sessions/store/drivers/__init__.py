"""What runs calls: on Redis from event loops, on Redis from any thread, and in this process without Redis."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from mcp_sessions.store.call import Call, Operation

T = TypeVar("T")


class Store(Protocol):
    """The sessions and streams of one endpoint, for code in an event loop; any number of calls may run at a time."""

    #: Whether they are shared with other processes.
    shared: bool

    async def run(self, work: Call[T] | Operation[T], /) -> T:
        """The result of a call, or of an operation of several round trips. Raises: StoreUnavailable, and what the call
        says."""
        ...

    async def run_all(self, calls: Iterable[Call[Any]], /) -> list[Any]:
        """The results of independent calls, which share a round trip where they can."""
        ...

    async def listen(self, node: str, *, after: str, block_ms: int) -> tuple[str, Sequence[bytes]]:
        """Wait for notifications of a node on a connection of its own. `after="0-0"`: for all that its inbox holds.

        Returns where to go on, and the notifications; none if nothing came within `block_ms`. A server that hangs is
        noticed shortly after `block_ms`. After StoreUnavailable, call again with the same `after`: what came meanwhile
        is not lost; if the server lost its data, everything that the inbox holds comes (again).
        """
        ...

    async def aclose(self) -> None:
        """Finish what has begun, and close the connections that belong to the running event loop."""
        ...


class SyncStore(Protocol):
    """The same sessions and streams for code in any thread: the admin, commands, tasks, signal handlers."""

    #: Whether they are shared with other processes.
    shared: bool

    def run(self, work: Call[T] | Operation[T], /) -> T:
        """As `Store.run`."""
        ...

    def run_all(self, calls: Iterable[Call[Any]], /) -> list[Any]:
        """As `Store.run_all`."""
        ...
