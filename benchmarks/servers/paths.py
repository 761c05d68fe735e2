"""Tools that do next to nothing, each on a path of its own through this app."""

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

from mcp_sessions import current_session

server = MCPServer("paths", log_level="WARNING")


class Name(BaseModel):
    """What `greet` asks its user for."""

    name: str


@server.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers: no state, one JSON object for an answer."""
    return a + b


@server.tool()
async def note(text: str) -> int:
    """Append to the session's state."""
    return await current_session().state.append("notes", text)


@server.tool()
async def count(ctx: Context) -> str:
    """Report progress, so that the answer is an event stream that can be resumed."""
    await ctx.report_progress(1)
    return "counted"


@server.tool()
async def greet(ctx: Context) -> str:
    """Ask the user something, and wait for the answer."""
    answer = await ctx.elicit("What is your name?", Name)
    return f"Hello {answer.data.name}" if answer.action == "accept" else "Hello"
