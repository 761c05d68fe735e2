"""The MCP server of the chaos tests: `server`. It counts and asks at a given pace, and says which process it is."""

import logging
import os
from pathlib import Path
from typing import Any

import anyio
from django.dispatch import receiver
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.message import ServerMessageMetadata
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, ToolAnnotations
from pydantic import BaseModel

from mcp_sessions import current_session
from mcp_sessions.security import request_state_security
from mcp_sessions.signals import session_ended
from mcp_sessions.subscriptions import SharedSubscriptions
from tests.support.gates import passes

# Tests count the heartbeats that failed.
logging.getLogger("mcp_sessions.cluster.node").setLevel(logging.DEBUG)

server: MCPServer[Any] = MCPServer(
    "chaos", request_state_security=request_state_security(), subscriptions=SharedSubscriptions()
)


@receiver(session_ended)
def log_the_signal(fingerprint: str, reason: str, **_: Any) -> None:
    """In the process's log, where tests find it."""
    logging.getLogger(__name__).warning("signal: session %s ended: %s", fingerprint, reason)


class Number(BaseModel):
    """What `ask` asks for."""

    number: int


@server.tool()
async def count(number: int, label: str, pace: float, ctx: Context) -> str:
    """Report 1 to `number`, `pace` seconds apart: this process's id and the label."""
    for n in range(1, number + 1):
        await ctx.report_progress(n, number, f"{os.getpid()} {label}")
        await anyio.sleep(pace)
    return label


@server.tool()
async def count_past(gate: str, number: int, ctx: Context) -> int:
    """Report 1, wait at a gate, then report 2 to `number`."""
    await ctx.report_progress(1, number)
    await passes(gate)
    for n in range(2, number + 1):
        await ctx.report_progress(n, number)
    return number


@server.tool()
async def ask(label: str, ctx: Context) -> str:
    """Elicit a number."""
    answer = await ctx.elicit(label, Number)
    return f"{label}: {answer.data.number}" if answer.action == "accept" else answer.action


@server.tool()
async def ask_with_progress(ctx: Context) -> str:
    """Elicit, and pass the client's progress on to it."""

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        await ctx.report_progress(progress, total, message)

    form = ElicitRequestFormParams(message="?", requested_schema={"type": "object", "properties": {}})
    answer = await ctx.session.send_request(
        ElicitRequest(params=form),
        ElicitResult,
        metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
        progress_callback=hear,
    )
    return str(answer.action)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def run_of(record: str, gates: str, ctx: Context) -> int:
    """Leave this process's id in a file, wait at the gate of this run, and return the id: it may be run again."""
    await ctx.report_progress(1)
    await passes(gates + str(recorded(Path(record))))
    await ctx.report_progress(2)
    await ctx.report_progress(3)
    return os.getpid()


def recorded(runs: Path) -> int:
    """Which run this is."""
    with runs.open("a") as file:
        print(os.getpid(), file=file)
    return len(runs.read_text().split())


@server.tool()
async def bump() -> int:
    """Count up in the session's state."""
    return int(await current_session().state.incr("bumps"))


@server.tool()
async def tell(number: int, pace: float, ctx: Context, first: int = 1) -> int:
    """Send `first` to `number` on the session's standalone stream, `pace` seconds apart."""
    for n in range(first, number + 1):
        await ctx.session.send_resource_updated(f"chaos://{n}")
        await anyio.sleep(pace)
    return number


@server.tool()
async def change_tools(ctx: Context) -> str:
    """Announce to everybody that the tools changed."""
    await ctx.notify_tools_changed()
    return "told"


@server.tool()
async def process() -> int:
    """Which process this is."""
    return os.getpid()
