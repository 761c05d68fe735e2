"""An MCP server with a tool for everything that the protocol tests look at."""

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ToolAnnotations,
)

from mcp_sessions import OptInTools, current_session
from mcp_sessions.errors import NoCurrentSession
from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions
from tests.served import asking
from tests.support.gates import passes

#: How often the lifespan was entered in this process.
entered = 0


@asynccontextmanager
async def lifespan(_: MCPServer[Any]) -> AsyncIterator[dict[str, int]]:
    global entered
    entered += 1
    try:
        yield {"entered": entered}
    finally:
        print("the lifespan was left", flush=True)  # noqa: T201 - the tests read it in the process's log


server = MCPServer(
    "everything",
    lifespan=lifespan,
    request_state_security=request_state_security(),
    subscriptions=SharedSubscriptions(),
)
opt_in = OptInTools(server)
for tool in asking.TOOLS:
    server.add_tool(tool)


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


@server.tool()
async def lifespans() -> int:
    """How often the lifespan was entered."""
    return entered


@server.tool()
async def who(ctx: Context) -> dict[str, Any]:
    """What the handler sees of its client."""
    session = current_session()
    params = ctx.session.client_params
    assert params is not None
    return {
        "client": dict(session.client_info),
        "version": session.protocol_version,
        "principal": session.principal,
        "fingerprint": session.fingerprint,
        "sdk_client": params.client_info.name,
        "sdk_version": ctx.session.protocol_version,
        "sampling": params.capabilities.sampling is not None,
        "roots": params.capabilities.roots is not None,
    }


@server.tool()
async def report(gate: str, ctx: Context) -> str:
    """Report progress before and after a gate."""
    await ctx.report_progress(1, 2, "waiting")
    await passes(gate)
    await ctx.report_progress(2, 2, "passed")
    return "passed"


@server.tool()
async def wait(gate: str) -> str:
    """Say nothing, and wait at a gate."""
    await passes(gate)
    return "passed"


@server.tool()
def block(gate: str) -> str:
    """Wait at a gate in a thread, which nobody can cancel."""
    with socket.socket(socket.AF_UNIX) as handler:
        handler.connect(gate)
        handler.recv(1)
    return "passed"


@server.tool()
async def log(level: Any, text: str, ctx: Context) -> str:
    """Send one log entry on the request's stream."""
    await ctx.log(level, text)
    return "logged"


@server.tool()
async def announce(ctx: Context) -> str:
    """Send a notification that belongs to no request."""
    await ctx.session.send_resource_list_changed()
    return "announced"


@server.tool()
async def fail(message: str) -> str:
    raise RuntimeError(message)


@server.tool()
async def confirm(ctx: Context) -> str | InputRequiredResult:
    """Ask, and answer when the same state comes back (modern era)."""
    if ctx.request_state == "asked":
        return "confirmed"
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    question = ElicitRequest(params=ElicitRequestFormParams(message="Sure?", requested_schema=schema))
    return InputRequiredResult(input_requests={"ok": question}, request_state="asked")


@server.tool()
def query() -> int:
    """Ask the database from a sync tool, which runs in a worker thread."""
    return _query()


@server.tool()
async def aquery() -> int:
    """Ask the database from an async tool, as the ORM's async methods do."""
    return await sync_to_async(_query)()


def _query() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 42")
        return int(cursor.fetchone()[0])


@server.tool()
async def meet(parties: int) -> int:
    """Wait, where the async ORM runs its queries, until so many calls are there at the same time."""
    barrier = barriers.setdefault(parties, threading.Barrier(parties, timeout=30))
    return await sync_to_async(barrier.wait)()


barriers: dict[int, threading.Barrier] = {}


@server.tool()
async def leave_and_come_back(gate: str, ctx: Context) -> str:
    """Close the stream in the middle of the call, so that the client polls."""
    await ctx.report_progress(1, 3)
    await ctx.close_sse_stream()
    await passes(gate)
    await ctx.report_progress(2, 3)
    return "came back"


@server.tool()
async def leave_often(times: int, gate: str, ctx: Context) -> str:
    """Close the stream again and again, however the client comes back."""
    for n in range(times):
        await ctx.report_progress(n, times)
        await ctx.close_sse_stream()
        await passes(gate)
    return "came back"


@server.tool()
async def leave_the_listener(ctx: Context) -> str:
    """Close the connection on which the client listens."""
    await ctx.close_standalone_sse_stream()
    return "left"


@server.tool()
async def count_to(number: int, gate: str, ctx: Context) -> int:
    """Report every number, the second half after a gate."""
    for n in range(number // 2):
        await ctx.report_progress(n, number)
    await passes(gate)
    for n in range(number // 2, number):
        await ctx.report_progress(n, number)
    return number


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def look(gate: str, ctx: Context) -> str:
    """Like `wait`, but it may be run again."""
    await ctx.report_progress(1, 2)
    await passes(gate)
    return "looked"


@server.tool()
async def update(uri: str, ctx: Context) -> str:
    """Tell everybody who subscribed that a resource changed."""
    await ctx.notify_resource_updated(uri)
    return "told"


@server.tool()
async def change_tools(ctx: Context) -> str:
    """Tell every listener that the tools changed."""
    await ctx.notify_tools_changed()
    return "told"


@server.tool()
async def session_or_none() -> str:
    """Whether there is a session here."""
    try:
        return current_session().fingerprint
    except NoCurrentSession:
        return "none"


@server.tool()
async def leave() -> str:
    raise SystemExit("I am gone.")


@server.tool()
def leave_in_a_thread() -> str:
    raise SystemExit("I am gone.")


@server.tool()
async def remember(name: str, value: Any) -> None:
    await current_session().state.set(name, value)


@server.tool()
async def recall(name: str) -> dict[str, Any]:
    return {"value": await current_session().state.get(name)}


@server.tool()
async def names() -> list[str]:
    return await current_session().state.keys()


@server.tool()
async def count(name: str = "counter") -> int:
    return int(await current_session().state.incr(name))


@server.tool()
def count_in_a_thread(name: str = "counter") -> int:
    assert threading.current_thread() is not threading.main_thread()
    return int(current_session().state_sync.incr(name))


@server.tool()
async def enable(name: str) -> list[str]:
    return sorted(await current_session().enable_tools(name))


@server.tool()
async def disable(name: str) -> list[str]:
    return sorted(await current_session().disable_tools(name))


@opt_in.tool()
async def secret() -> str:
    return "opened"


@server.resource("everything://greeting")
def greeting() -> str:
    return f"Hello, {current_session().client_info['name']}"


@server.prompt()
def introduce() -> str:
    return f"Introduce {current_session().client_info['name']}"
