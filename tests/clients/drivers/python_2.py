"""Release 2.x of the official Python client; its argument is the mode: "legacy" for the handshake, or a version.

Without an argument, the library decides.
"""

import sys
from contextlib import AsyncExitStack
from typing import Any

import anyio
from mcp import Client as OfficialClient
from mcp_types import CreateMessageResult, ElicitResult, TextContent

from tests.clients.drivers.lines import Progress, converse, say


class Client:
    """Leaving the official client sends DELETE when there is a session."""

    def __init__(self, mode: str | None = None) -> None:
        self._options: dict[str, Any] = {} if mode is None else {"mode": mode}
        self._stack = AsyncExitStack()
        self._client: OfficialClient | None = None

    async def open(self, url: str) -> str:
        if self._options.get("mode") == "legacy":
            self._options |= {"elicitation_callback": _elicited, "sampling_callback": _sampled}
        self._client = await self._stack.enter_async_context(OfficialClient(url, **self._options))
        return self._client.protocol_version

    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self._opened.list_tools()).tools]

    async def call(self, tool: str, arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        result = await self._opened.call_tool(tool, arguments, progress_callback=progress)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def close(self) -> None:
        await self._stack.aclose()

    @property
    def _opened(self) -> OfficialClient:
        if self._client is None:
            raise RuntimeError("not opened")
        return self._client


async def _elicited(_: Any, params: Any) -> ElicitResult:
    say("asked", value=params.message)
    return ElicitResult(action="accept", content={"age": 33})


async def _sampled(_: Any, params: Any) -> CreateMessageResult:
    say("asked", value=params.messages[0].content.text)
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="42"), model="m")


if __name__ == "__main__":
    anyio.run(converse, Client(*sys.argv[1:]))
