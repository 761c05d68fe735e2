"""Releases 1.x of the official Python client: 1.9.4 speaks 2025-03-26, 1.13.1 2025-06-18, and 1.30.0 2025-11-25."""

from contextlib import AsyncExitStack
from typing import Any

import anyio
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client  # type: ignore[attr-defined]  # gone since 2.0

from tests.clients.drivers.lines import Progress, converse


class Client:
    """Leaving `streamablehttp_client` sends DELETE."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._session: Any = None

    async def open(self, url: str) -> str:
        read, write, _ = await self._stack.enter_async_context(streamablehttp_client(url))
        self._session = await self._stack.enter_async_context(ClientSession(read, write))
        return str((await self._session.initialize()).protocolVersion)

    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self._session.list_tools()).tools]

    async def call(self, tool: str, arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        result = await self._session.call_tool(tool, arguments, progress_callback=progress)
        return dict(result.model_dump(mode="json", by_alias=True, exclude_none=True))

    async def close(self) -> None:
        await self._stack.aclose()


if __name__ == "__main__":
    anyio.run(converse, Client())
