"""A server written with FastMCP 4: an API as OpenAPI describes it, and tools that use sessions and ask their client."""

import os
from typing import Any

import httpx2
from django.core.asgi import get_asgi_application
from fastmcp import Context, FastMCP  # type: ignore[import-not-found] # installed where these servers run
from fastmcp.server.dependencies import get_context  # type: ignore[import-not-found]
from fastmcp.server.middleware import Middleware  # type: ignore[import-not-found]

from mcp_sessions import current_session

seen: list[str] = []


class Listening(Middleware):  # type: ignore[misc] # its types are not here
    """Notes which tools are called."""

    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        seen.append(context.message.name)
        return await call_next(context)


#: What a view of Django says of itself, in the place of an API.
DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "probes", "version": "1"},
    "paths": {
        "/{probe}": {
            "get": {
                "operationId": "ask_probe",
                "parameters": [
                    {"name": "probe", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
                "responses": {"200": {"description": "what it says"}},
            }
        }
    },
}
#: As docs/existing-projects.md says.
application: Any = get_asgi_application()  # django-stubs and httpx2 differ in what a message is
DJANGO = httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="https://127.0.0.1")
server: Any = FastMCP.from_openapi(
    openapi_spec=DESCRIPTION,
    client=DJANGO,
    name="shop",
    middleware=[Listening()],
)


async def put(article: str, ctx: Context) -> list[str]:
    """Put an article into the basket of the session."""
    basket = [*(await ctx.get_state("basket") or []), article]
    await ctx.set_state("basket", basket)
    return basket


async def forget(ctx: Context) -> None:
    """Forget the basket."""
    await ctx.delete_state("basket")


def where() -> dict[str, Any]:
    """Which process and session this is, and what its middleware has seen."""
    session = current_session()
    return {
        "pid": os.getpid(),
        "session": get_context().session_id,
        "fingerprint": session.fingerprint,
        "seen": seen,
    }


async def ask(ctx: Context) -> str:
    """Ask the client for an address."""
    answer = await ctx.elicit("Where to?", response_type=str)
    return f"To {answer.data}." if answer.action == "accept" else "Nowhere."


def opening_hours() -> str:
    return "always"


def recommend(mood: str) -> str:
    return f"Recommend something to somebody who is {mood}."


for tool in (put, forget, where, ask):
    server.tool(tool)
server.resource("shop://opening-hours")(opening_hours)
server.prompt(recommend)


def build() -> Any:
    """As SERVER may name it, too."""
    return server
