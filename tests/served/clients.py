"""The MCP server that the clients talk to: `server`. Its results say which process gave them."""

import os
from pathlib import Path
from typing import Any, Final

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import SamplingMessage, TextContent
from pydantic import BaseModel

from mcp_sessions import current_session
from mcp_sessions.security import request_state_security

#: Seconds that `hold` waits for its gate.
BOUND: Final = 20.0

server: Final[MCPServer[Any]] = MCPServer(
    "clients", version="1.0.0", request_state_security=request_state_security()
)


class Facts(BaseModel):
    """What the session remembers."""

    facts: list[str]
    process: int


class Sum(BaseModel):
    """A sum, which needs no session."""

    total: int
    process: int


class Age(BaseModel):
    """What `ask` asks for."""

    age: int


class Heard(BaseModel):
    """What the client answered."""

    heard: str
    process: int


@server.tool()
async def remember(fact: str) -> Facts:
    """Remember a fact for the rest of this session."""
    state = current_session().state
    await state.append("facts", fact)
    return Facts(facts=await state.get("facts", []), process=os.getpid())


@server.tool()
async def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(total=a + b, process=os.getpid())


@server.tool()
async def hold(gate: str, ctx: Context[Any, Any]) -> Sum:
    """Report progress, and go on only when the file `gate` is there: who makes it has seen the report."""
    await ctx.report_progress(1, 2, "waiting")
    await _pass(gate)
    await ctx.report_progress(2, 2, "released")
    return Sum(total=2, process=os.getpid())


@server.tool()
async def hang_up(gate: str, ctx: Context[Any, Any]) -> Sum:
    """As `hold`, but the client's connection is closed meanwhile: it has to come back."""
    await ctx.report_progress(1, 2, "waiting")
    await ctx.close_sse_stream()
    await _pass(gate)
    await ctx.report_progress(2, 2, "released")
    return Sum(total=2, process=os.getpid())


@server.tool()
async def ask(gate: str, ctx: Context[Any, Any]) -> Heard:
    """Elicit a number, as soon as the file `gate` is there."""
    await _pass(gate)
    answer = await ctx.elicit("How old?", Age)
    heard = str(answer.data.age) if answer.action == "accept" else answer.action
    return Heard(heard=heard, process=os.getpid())


@server.tool()
async def sample(ctx: Context[Any, Any]) -> Heard:
    """Ask the client's model."""
    question = SamplingMessage(role="user", content=TextContent(type="text", text="What is the answer?"))
    result = await ctx.session.create_message([question], max_tokens=10, related_request_id=ctx.request_id)
    heard = result.content.text if isinstance(result.content, TextContent) else "?"
    return Heard(heard=heard, process=os.getpid())


async def _pass(gate: str) -> None:
    """Wait for the file."""
    with anyio.fail_after(BOUND):
        while not Path(gate).exists():  # noqa: ASYNC240 - a file has no event, and this one is local
            await anyio.sleep(0.01)
