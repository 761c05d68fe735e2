"""The MCP server that the conformance suite expects to find: `server`."""

from typing import Any, Final

from mcp.server.mcpserver import MCPServer

from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions
from tests.served.conformance.asking import add_asking_tools
from tests.served.conformance.input_required import add_input_required
from tests.served.conformance.readables import add_readables
from tests.served.conformance.tools import add_tools, schema_tool


def _build() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer(
        "conformance",
        version="1.0.0",
        tools=[schema_tool()],
        request_state_security=request_state_security(),
        subscriptions=SharedSubscriptions(),
    )
    add_tools(server)
    add_asking_tools(server)
    add_input_required(server)
    add_readables(server)
    return server


server: Final = _build()
