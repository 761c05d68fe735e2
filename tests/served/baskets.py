"""A shop whose tools pass handles around, for clients of both eras."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel, Field

from mcp_sessions import OptInTools, StateHandle, current_session, current_user
from mcp_sessions.security import request_state_security
from mcp_sessions.subscriptions import SharedSubscriptions

server = MCPServer(
    "baskets", request_state_security=request_state_security(), subscriptions=SharedSubscriptions()
)
opt_in = OptInTools(server)


class Basket(StateHandle, kind="basket", max_per_principal=3, max_bytes=20_000):
    """A shopping basket."""


class Trip(StateHandle, kind="business-trip", idle=timedelta(minutes=90), max_age=timedelta(minutes=90)):
    """A journey."""


class Ticket(StateHandle, kind="ticket", idle=timedelta(seconds=0.4), max_age=timedelta(seconds=1.5)):
    """Short-lived."""


class Wish(BaseModel):
    basket: Basket
    article: str


class Deep(BaseModel):
    wishes: list[list[list[list[list[Wish]]]]]


@server.tool()
async def create_basket() -> Basket:
    """A new basket."""
    return await Basket.create()


@server.tool()
async def list_baskets() -> list[Basket]:
    return await Basket.mine()


@server.tool()
async def add(basket: Basket, article: str) -> int:
    """Add an article; how many there are now."""
    return await basket.append("articles", article)


@server.tool()
def add_in_a_thread(basket: Basket, article: str) -> int:
    return basket.sync.append("articles", article)


@server.tool()
def create_in_a_thread() -> Basket:
    basket = Basket.sync.create()
    assert basket in Basket.sync.mine()
    assert Basket.sync.resolve(f" {basket.upper()} ") == basket
    return basket


@server.tool()
async def articles(basket: Annotated[Basket, Field(description="The basket to look into.")]) -> list[str]:
    found: list[str] = await basket.get("articles", [])
    return found


@server.tool()
async def add_all(basket: Basket, articles: list[str]) -> list[int]:
    """Add many at the same moment."""
    return list(await asyncio.gather(*[basket.append("articles", article) for article in articles]))


@server.tool()
async def merge(baskets: list[Basket], into: Basket | None = None) -> Basket | None:
    """Move everything into one basket."""
    for basket in baskets if into is not None else ():
        moved: list[str] = await basket.get("articles", [])
        for article in moved:
            await into.append("articles", article)  # type: ignore[union-attr]
        await basket.end()
    return into


@server.tool()
async def use_everything(basket: Basket) -> dict[str, Any]:
    await basket.set("a", 1)
    await basket.update({"b": 2, "c": [3]})
    await basket.incr("a", 4)
    await basket.delete("b")
    return {name: await basket.get(name) for name in await basket.keys()}


@server.tool()
async def wish(wish: Wish) -> int:
    return await wish.basket.append("articles", wish.article)


@server.tool()
async def wish_deeply(deep: Deep) -> int:
    wished = deep.wishes[0][0][0][0][0]
    return await wished.basket.append("articles", wished.article)


@server.tool()
async def echo(basket: Basket) -> Basket:
    return basket


@server.tool()
async def end_basket(basket: Basket) -> bool:
    return await basket.end()


@server.tool()
def end_in_a_thread(basket: Basket) -> bool:
    return basket.sync.end()


@server.tool()
async def create_trip() -> Trip:
    return await Trip.create()


@server.tool()
async def create_ticket() -> Ticket:
    return await Ticket.create()


@server.tool()
async def use_ticket(ticket: Ticket) -> int:
    return int(await ticket.incr("uses"))


@server.tool()
async def fly(trip: Trip) -> str:
    return trip


@server.tool()
async def fill(basket: Basket) -> None:
    await basket.set("much", "x" * 30_000)


@server.tool()
async def plain(number: int) -> int:
    return number


@server.tool()
async def prefer(size: str) -> int:
    """Remember for the user, in all conversations."""
    await current_user().state.set("size", size)
    return int(await current_user().state.incr("changes"))


@server.tool()
def preferred() -> list[Any]:
    state = current_user().state_sync
    return [state.get("size"), state.get("changes", 0), state.keys(), state.delete("nothing")]


@server.tool()
async def count_user() -> int:
    return await current_user().state.append("calls", 1)


@server.tool()
async def note(text: str) -> int:
    """Remember for the conversation."""
    return await current_session().state.append("notes", text)


@server.tool()
async def notes() -> dict[str, Any]:
    session = current_session()
    return {
        "notes": await session.state.get("notes", []),
        "principal": session.principal,
        "client": session.client_info.get("name"),
        "version": session.protocol_version,
        "fingerprint": session.fingerprint,
        "tools": sorted(session.tools),
        "elicits": "elicitation" in session.capabilities,
    }


@server.tool()
async def open_till(ctx: Context) -> list[str]:
    return sorted(await current_session().enable_tools("till"))


@opt_in.tool()
async def till() -> str:
    return "open"


@server.resource("basket://{basket}")
async def contents(basket: str) -> str:
    return ", ".join(await (await Basket.resolve(basket)).get("articles", []))
