"""The tools of `everything` that ask the client."""

from typing import Final

from mcp.server.mcpserver import Context
from mcp.shared.message import ServerMessageMetadata
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, SamplingMessage, TextContent
from pydantic import BaseModel

from tests.support.gates import passes


class Age(BaseModel):
    """What `ask_age` asks for."""

    age: int


async def ask_age(name: str, ctx: Context) -> str:
    """Elicit."""
    answer = await ctx.elicit(f"How old is {name}?", Age)
    return f"{name} is {answer.data.age}" if answer.action == "accept" else answer.action


async def send_to_a_page(ctx: Context) -> str:
    """Elicit by URL."""
    answer = await ctx.elicit_url("Pay here", "https://pay.example.com/1", "payment-1")
    return answer.action


async def ping_the_client(ctx: Context) -> str:
    """Ping, which belongs to no request."""
    await ctx.session.send_ping()
    return "alive"


async def ask_with_patience(seconds: float, ctx: Context, gate: str = "") -> list[float]:
    """Elicit, and return the progress that the client reported; each report waits at the gate."""
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        await passes(gate)
        heard.append(progress)

    schema = {"type": "object", "properties": {}}
    await ctx.session.send_request(
        ElicitRequest(params=ElicitRequestFormParams(message="Take your time", requested_schema=schema)),
        ElicitResult,
        request_read_timeout_seconds=seconds,
        metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
        progress_callback=hear,
    )
    return heard


async def ask_on_the_standalone_stream(ctx: Context) -> list[str]:
    """Ask for the roots, which belong to no request."""
    return [str(root.uri) for root in (await ctx.session.list_roots()).roots]


async def think(ctx: Context) -> str:
    """Sample."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text="?"))
    result = await ctx.session.create_message([message], max_tokens=10, related_request_id=ctx.request_id)
    return result.content.text if isinstance(result.content, TextContent) else "?"


#: What `everything` registers.
TOOLS: Final = (
    ask_age,
    send_to_a_page,
    ping_the_client,
    ask_with_patience,
    ask_on_the_standalone_stream,
    think,
)
