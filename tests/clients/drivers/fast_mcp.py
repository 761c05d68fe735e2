"""FastMCP's client, releases 2 to 4, as it is without options."""

from contextlib import AsyncExitStack
from typing import Any

import anyio
from fastmcp import Client as FastMCPClient  # type: ignore[import-not-found]  # in an environment of its own

from tests.clients.drivers.lines import Progress, converse


class Client:
    """Leaving FastMCP's client sends DELETE when there is a session."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def open(self, url: str) -> str:
        self._client = await self._stack.enter_async_context(FastMCPClient(url))
        version = getattr(self._client, "protocol_version", None)  # since release 4
        return str(version or self._client.initialize_result.protocolVersion)

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self._client.list_tools()]

    async def call(self, tool: str, arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        result = await self._client.call_tool_mcp(tool, arguments, progress_handler=progress)
        return dict(result.model_dump(mode="json", by_alias=True, exclude_none=True))

    async def close(self) -> None:
        await self._stack.aclose()


if __name__ == "__main__":
    anyio.run(converse, Client())
