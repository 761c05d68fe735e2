"""An MCP server whose tools show what a tool gets to see, and keep what they are told."""

import os
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from mcp_sessions import StateHandle, current_session
from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions

server = MCPServer(
    "curious", request_state_security=request_state_security(), subscriptions=SharedSubscriptions()
)


class Box(StateHandle, kind="box"):
    """Something with an owner."""


@server.tool()
async def keep(what: str) -> str:
    await current_session().state.set("kept", what)
    return "kept"


@server.tool()
async def make_box() -> Box:
    return await Box.create()


@server.tool()
async def look(ctx: Context) -> dict[str, Any]:
    """The session as the app describes it, the headers of the request, and the process."""
    session = current_session()
    said = {
        name: str(getattr(session, name))
        for name in dir(session)
        if not name.startswith("_") and name != "user"
    }
    request: Any = ctx.request_context.request
    return {"session": str(said) + repr(session), "headers": dict(request.headers), "process": os.getpid()}


@server.tool()
async def open_box(box: Box) -> str:
    return "opened"
