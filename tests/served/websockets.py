"""The demo with Channels consumers beside the endpoint, which end in every possible way."""

import asyncio
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.urls import path

from mcp_sessions.routing import with_mcp
from mcp_sessions.transport.asgi import Receive, Scope, Send
from project.asgi import django_application


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no type hints
    """Echoes, ends or raises, as it is told; says what it was closed with."""

    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        match text_data:
            case "end":
                raise StopConsumer
            case "raise":
                raise ValueError("raised in a consumer")
            case _:
                await self.send(text_data)

    async def disconnect(self, code: int) -> None:
        print(f"disconnected with {code}", flush=True)  # noqa: T201 - the tests read it in the process's log


async def idle(_: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and never listens."""
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def undecided(_: Scope, receive: Receive, send: Send) -> None:
    """Neither accepts nor refuses until the process ends."""
    await asyncio.Event().wait()


async def silent(_: Scope, receive: Receive, send: Send) -> None:
    """Ends without sending anything."""


routes: list[Any] = [
    path("consumer", Consumer.as_asgi()),
    path("idle", idle),  # type: ignore[arg-type]  # Channels routes applications, not views
    path("undecided", undecided),  # type: ignore[arg-type]  # likewise
    path("silent", silent),  # type: ignore[arg-type]  # likewise
]
application = with_mcp(django_application, websocket=URLRouter(routes))
