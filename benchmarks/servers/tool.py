"""The trivial tool on an MCPServer of the SDK: what is measured is everything around it."""

from mcp.server import MCPServer

server = MCPServer("benchmark")


@server.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
