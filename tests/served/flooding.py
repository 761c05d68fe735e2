"""An MCP server whose tools say far more than anybody wants to read."""

import gc
from collections import Counter

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from mcp_sessions import current_session
from mcp_sessions.messages import asend
from tests.support.gates import passes

server = MCPServer("flooding")

#: What is kept for a stream, and for a send that waits.
KEPT = (
    ("mcp_sessions", "Room"),
    ("daphne", "WebRequest"),
    ("mcp_sessions", "EventStream"),
    ("mcp_sessions", "StreamReader"),
    ("mcp_sessions", "StreamWriter"),
)


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


@server.tool()
async def flood(number: int, size: int, gate: str, ctx: Context) -> int:
    """Report so many times with messages of so many characters; then stand at a gate."""
    for n in range(number):
        await ctx.report_progress(n, number, "x" * size)
    await passes(gate)
    return number


@server.tool()
async def speak(number: int, size: int) -> int:
    """Send so many messages of so many characters on the standalone stream."""
    for n in range(number):
        params = {"level": "info", "data": {"n": n, "text": "x" * size}}
        await asend(current_session().fingerprint, "notifications/message", params)
    return number


@server.tool()
async def held() -> dict[str, int]:
    """How many objects there are of what is kept for streams, and for sends that wait."""
    gc.collect()
    # By module as well: asyncio, too, has a StreamReader and a StreamWriter.
    kinds = Counter(
        (type(thing).__module__.partition(".")[0], type(thing).__name__) for thing in gc.get_objects()
    )
    return {name: kinds[module, name] for module, name in KEPT}
