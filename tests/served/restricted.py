"""An MCP server with tools that ask for a permission or a scope, a low-level one with the same, and one whose tool
sessions enable."""

from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool
from pydantic import Field

from mcp_sessions import OptInTools, RestrictedTools
from mcp_sessions.security import request_state_security
from mcp_sessions.tools import Requirement

server = MCPServer("restricted", request_state_security=request_state_security())
restricted = RestrictedTools(server)


@server.tool()
def look() -> str:
    return "seen"


@restricted.tool(permission="catalogue.delete_book")
def remove(title: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Title"})] = "") -> str:
    return "removed"


@restricted.tool("write", scope="books:write")
def write_a_book() -> str:
    return "written"


@restricted.tool(permission="catalogue.delete_book", scope="books:write")
async def replace() -> str:
    return "replaced"


async def _list(ctx: Any, params: Any) -> ListToolsResult:
    schema = {"type": "object"}
    return ListToolsResult(tools=[Tool(name=name, input_schema=schema) for name in ("look", "remove")])


async def _call(ctx: Any, params: Any) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=params.name)])


lowlevel = Server("restricted", on_list_tools=_list, on_call_tool=_call)
RestrictedTools(lowlevel, {"remove": Requirement(permission="catalogue.delete_book")})

optional = MCPServer("optional", request_state_security=request_state_security())


@OptInTools(optional).tool()
def rename(title: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Title"})] = "") -> str:
    return "renamed"
