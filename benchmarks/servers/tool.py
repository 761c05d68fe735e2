"""The trivial tool on an MCPServer of the SDK: what is measured is everything around it."""

import time

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("benchmark")


@server.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
async def emit(count: int, per_second: float, ctx: Context, leave: bool = False) -> int:
    """Report progress so often; each report carries the moment at which it was made, in seconds of CLOCK_MONOTONIC.

    `leave` closes the stream first: the client takes it up again, wherever it likes.
    """
    if leave:
        await ctx.close_sse_stream()
        await anyio.sleep(1)
    start = time.monotonic()
    for number in range(count):
        await anyio.sleep(max(0.0, start + number / per_second - time.monotonic()))
        await ctx.report_progress(time.monotonic())
    return count
