"""What the tools of a client's server return, and what they say when they fail."""

from typing import Any

from mcp import Client


async def value(client: Client, tool: str, **arguments: Any) -> Any:
    """The result of a call that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    assert result.structured_content is not None
    return result.structured_content["result"]


async def said(client: Client, tool: str, **arguments: Any) -> str:
    """The error that the model reads."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result
    [block] = result.content
    assert block.type == "text"
    prefix = f"Error executing tool {tool}: "
    assert block.text.startswith(prefix)
    return block.text.removeprefix(prefix)
