"""The MCP server that the conformance suite expects to find: `server`."""

from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp_types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from mcp_sessions.security import request_state_security
from tests.conformance.asking import add_asking_tools
from tests.conformance.input_required import add_input_required
from tests.conformance.readables import add_readables
from tests.conformance.tools import add_tools, schema_tool


async def _accept(
    _: ServerRequestContext[Any, Any], params: SubscribeRequestParams | UnsubscribeRequestParams
) -> EmptyResult:
    """Accept a subscription or its end. The resources here never change, so there is nothing to remember."""
    return EmptyResult()


def _build() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer(
        "conformance",
        version="1.0.0",
        tools=[schema_tool()],
        request_state_security=request_state_security(),
    )
    add_tools(server)
    add_asking_tools(server)
    add_input_required(server)
    add_readables(server)
    # Called for the session manager that it makes, which is the public way to the low-level Server.
    server.streamable_http_app(stateless_http=True)
    low_level = server.session_manager.app
    low_level.add_request_handler("resources/subscribe", SubscribeRequestParams, _accept)
    low_level.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, _accept)
    return server


server: Final = _build()
