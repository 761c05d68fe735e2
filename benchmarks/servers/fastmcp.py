"""FastMCP, stateless, with one JSON object as the answer: its fastest set-up for clients without a session."""

from fastmcp import FastMCP

from benchmarks.servers.lifespan import WithLifespan

server = FastMCP("benchmark")


@server.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


_app = server.http_app(path="/mcp", json_response=True, stateless_http=True)
application = WithLifespan(_app, lambda: _app.router.lifespan_context(_app))
