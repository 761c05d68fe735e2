"""Servers for requests of the modern era: one of each kind, with something for every check."""

import asyncio
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ClientCapabilities,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from pydantic import Field

from mcp_sessions.security import request_state_security

server = MCPServer("modern", request_state_security=request_state_security())
#: What `wait` has seen: "began", "cancelled". For tests in the server's own process.
seen: "asyncio.Queue[str]" = asyncio.Queue()


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


@server.tool()
def in_a_thread(text: str) -> str:
    return text.upper()


@server.tool()
async def numbers() -> dict[str, Any]:
    return {"none": None, "float": 1.5, "large": 2**70, "text": "Zoë ☃"}


@server.tool()
async def fail(text: str) -> str:
    raise RuntimeError(text)


@server.tool()
async def refuse(text: str) -> str:
    raise ToolError(text)


@server.tool()
async def protest(code: int, data: Any = None) -> str:
    raise MCPError(code=code, message="I protest", data=data)


@server.tool()
async def report(times: int, ctx: Context, error: int = 0) -> str:
    """Report progress, then answer or fail."""
    for n in range(times):
        await ctx.report_progress(n, times, f"step {n}")
    if error:
        raise MCPError(code=error, message="after all")
    return "reported"


@server.tool()
async def log(text: str, ctx: Context) -> str:
    await ctx.log("warning", text)
    return "logged"


@server.tool()
async def announce(ctx: Context) -> str:
    """Send what belongs to no request."""
    await ctx.session.send_resource_list_changed()
    return "announced"


@server.tool()
async def ask(ctx: Context) -> str:
    """Send a request, which this era forbids."""
    return str(await ctx.session.list_roots())


@server.tool()
async def describe(ctx: Context) -> dict[str, Any]:
    """What a handler knows of its client and of its request."""
    connection, request = ctx.request_context.session, ctx.request_context.request
    params, capabilities = connection.client_params, connection.client_capabilities
    has = ClientCapabilities(elicitation={})  # type: ignore[arg-type] # parsed
    return {
        "params": None if params is None else params.model_dump(mode="json", exclude_none=True),
        "capabilities": None
        if capabilities is None
        else capabilities.model_dump(mode="json", exclude_none=True),
        "elicits": connection.check_client_capability(has),
        "can send": connection.can_send_request,
        "version": connection.protocol_version,
        "header": request.headers.get("x-own") if request else None,
        "id": ctx.request_id,
    }


@server.tool()
async def confirm(ctx: Context) -> str | InputRequiredResult:
    """Ask, and answer when the same state comes back."""
    if ctx.request_state == "asked":
        return f"confirmed {ctx.input_responses is not None}"
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    question = ElicitRequest(params=ElicitRequestFormParams(message="Sure?", requested_schema=schema))
    return InputRequiredResult(input_requests={"ok": question}, request_state="asked")


@server.tool()
async def wait(ctx: Context, report: bool = False) -> str:
    """Wait to be cancelled."""
    try:
        if report:
            await ctx.report_progress(1)
        seen.put_nowait("began")
        await asyncio.Event().wait()
    finally:
        seen.put_nowait("cancelled")
    return "never"


@server.tool()
async def change_tools(ctx: Context) -> str:
    await ctx.notify_tools_changed()
    return "told"


@server.tool()
async def leave() -> str:
    raise SystemExit("I am gone.")


@server.tool()
async def routed(
    region: Annotated[
        str | None, Field(json_schema_extra={"type": "string", "x-mcp-header": "Region"})
    ] = None,
    count: Annotated[
        int | None, Field(json_schema_extra={"type": "integer", "x-mcp-header": "Count"})
    ] = None,
) -> str:
    """Its parameters travel in headers, too."""
    return f"{region} {count}"


@server.resource("modern://greeting")
def greeting() -> str:
    return "Hello"


@server.resource("modern://broken")
def broken() -> str:
    raise RuntimeError("a secret")


@server.prompt()
def introduce(name: str) -> str:
    return f"Introduce {name}"


REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


#: What the list of tools does, other than end: "cycle", "fail", or be "endless". For tests in the server's own process.
pages = ""


async def _list(_: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
    """Two pages; the tool with headers is on the second."""
    cursor = None if params is None else params.cursor
    if pages == "fail":
        raise RuntimeError("no list today")
    if pages:
        return ListToolsResult(tools=[], next_cursor="1" if pages == "cycle" else f"{cursor}1")
    if cursor is None:
        tools = [Tool(name="plain", input_schema={"type": "object"})]
        return ListToolsResult(tools=tools, next_cursor="2")
    return ListToolsResult(tools=[Tool(name="routed", input_schema=REGION)])


async def _call(_: Any, params: CallToolRequestParams) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=f"{params.name} {params.arguments}")])


lowlevel: Server[Any] = Server("lowlevel", on_list_tools=_list, on_call_tool=_call)
