"""In the place of the store, in requests that are served without it."""

from collections.abc import Iterable
from typing import Final, NoReturn

from mcp.server.mcpserver.exceptions import ResourceError, ToolError

from mcp_sessions.errors import StoreUnavailable

#: What clients are told.
NOT_NOW: Final = (
    "This needs the server's session store, which cannot be reached at the moment. Try again later."
)


class WithoutStore(StoreUnavailable, ToolError, ResourceError):
    """A handler needs the store in a request that is served without it. The SDK sends the text to the client."""

    def __init__(self) -> None:
        super().__init__(NOT_NOW)


class AbsentStore:
    """See `drivers.Store`. It refuses everything at once, even if the store comes back: a request is served with the
    store or without it, from its beginning to its end.
    """

    shared = True

    async def run(self, work: object, /) -> NoReturn:
        raise WithoutStore

    async def run_all(self, calls: Iterable[object], /) -> NoReturn:
        raise WithoutStore

    async def listen(self, node: str, *, after: str, block_ms: int) -> NoReturn:
        raise WithoutStore

    async def aclose(self) -> None:
        """Nothing to close."""
