"""The chaos server in processes whose notifications to each other are all lost on the way: `server`."""

from collections.abc import Mapping, Sequence

from mcp_sessions.store.call import Operation
from mcp_sessions.store.calls import nodes
from tests.served.chaos import server

__all__ = ["server"]


def _lose(_: Mapping[str, Sequence[bytes]]) -> Operation[None]:
    """Notify nobody."""
    yield []


setattr(nodes, "notify", _lose)  # noqa: B010 - mypy lets nobody assign to a function
