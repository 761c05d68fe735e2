"""The conversation that the package describes, for the clients in Python. Old releases of `mcp` run it too."""

import json
import sys
from typing import Any, Protocol

import anyio.to_thread


class Progress(Protocol):
    """What a client library calls with each progress notification."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


class Client(Protocol):
    """One client library."""

    async def open(self, url: str) -> str:
        """Connect; return the protocol version that was agreed on."""
        ...

    async def tools(self) -> list[str]:
        """The names in `tools/list`."""
        ...

    async def call(self, tool: str, arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Call a tool; return the result as JSON, with the specification's names."""
        ...

    async def close(self) -> None:
        """Leave; the library ends the session if that is its habit."""
        ...


async def converse(client: Client) -> None:
    """Run commands until standard input ends or the client is closed."""
    while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        command = json.loads(line)
        try:
            value = await _obey(client, command)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is what the test wants to know
            say("error", message=f"{type(error).__name__}: {error}")
        else:
            say("answer", value=value)
        if command["do"] == "close":
            return


async def _obey(client: Client, command: dict[str, Any]) -> Any:
    match command:
        case {"do": "open", "url": url}:
            return await client.open(url)
        case {"do": "tools"}:
            return await client.tools()
        case {"do": "call", "tool": tool, "arguments": arguments}:
            return await client.call(tool, arguments, _report)
        case {"do": "close"}:
            return await client.close()
    raise ValueError(f"not a command: {command}")


async def _report(progress: float, total: float | None, message: str | None) -> None:
    say("progress", value=[progress, total, message])


def say(event: str, **content: Any) -> None:
    """One line for the test, at once."""
    print(json.dumps({"event": event, **content}), flush=True)  # noqa: T201 - it is the conversation
