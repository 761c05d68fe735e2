"""A client that does not give up: each call is resumed on any process until its response is there."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import httpx

from tests.support.mcp_client import Event, RawClient

#: Seconds that one answer may be silent. A stream has a sign of life every 15.
SILENCE: Final = 20.0
#: Seconds before a process that refused is asked again, or another one.
PAUSE: Final = 0.1


@dataclass(kw_only=True, eq=False)
class Call:
    """One request, or one standalone stream: what came of it, in order, over all of its connections."""

    client: RawClient
    #: The request; None for the standalone stream.
    message: dict[str, Any] | None
    #: It is through after so many messages, if not with a response.
    enough: int | None = None
    #: After how many messages the client cuts its connection, on average; None never cuts.
    cut_after: float | None = None
    #: Every message, as it stood in the stream.
    received: list[str] = field(default_factory=list)
    #: The last event's id: where to go on.
    last_event_id: str | None = None
    #: The last message, as soon as it is the response.
    response: dict[str, Any] | None = None
    #: When the response came, by this machine's monotonic clock in seconds.
    ended: float = 0.0
    #: Connections that carried at least one event of the stream.
    connections: int = 0

    @property
    def stream(self) -> str:
        """The name of the stream that carried it."""
        assert self.last_event_id is not None
        return self.last_event_id.split("-")[1]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every message so far."""
        return [json.loads(text) for text in self.received]

    @property
    def progress(self) -> list[dict[str, Any]]:
        """The params of every progress notification."""
        return [message["params"] for message in self.messages if "method" in message]

    @property
    def through(self) -> bool:
        return self.response is not None or len(self.received) == self.enough

    def take(self, event: Event) -> None:
        """One event came."""
        self.last_event_id = event.id or self.last_event_id
        if event.data:
            self.received.append(event.data)
            message = event.message
            if self.message is not None and "method" not in message:
                self.response, self.ended = message, monotonic()


class Carrier:
    """Carries calls through whichever of the processes answers."""

    def __init__(self, urls: Sequence[str], *, seed: int = 1) -> None:
        self.urls = urls
        self._random = random.Random(seed)  # noqa: S311 - it only spreads the load
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(timeout=SILENCE, limits=limits)
        self._never = asyncio.Event()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def carry(self, call: Call, url: str | None = None) -> Call:
        """Send the call, to that process first, and resume it anywhere until it is through."""
        while not call.through:
            try:
                await self._connect(call, url or self._random.choice(self.urls))
            except httpx.TransportError:
                await self._pause()
            url = None
        return call

    async def _connect(self, call: Call, url: str) -> None:
        """One connection: the request itself, or its stream from the last event on."""
        method, content, more = "POST", json.dumps(call.message), dict[str, str | None]()
        if call.message is None or call.last_event_id is not None:
            method, content = "GET", ""
            more = {"accept": "text/event-stream", "content_type": None, "last_event_id": call.last_event_id}
        async with self._http.stream(
            method, url + call.client.path, content=content, headers=call.client.headers(**more)
        ) as response:
            if response.status_code == 503:
                return await self._pause()
            assert response.status_code == 200, (response.status_code, await response.aread())
            if response.headers["content-type"].startswith("application/json"):
                call.take(Event(id=None, data=(await response.aread()).decode()))
            else:
                await self._read(call, response)

    async def _read(self, call: Call, response: httpx.Response) -> None:
        left = self._random.expovariate(1 / call.cut_after) if call.cut_after else float("inf")
        before, found = len(call.received), False
        async for event in events(response):
            found = True
            call.take(event)
            if call.through or len(call.received) - before > left:
                break
        call.connections += found

    async def _pause(self) -> None:
        """Let a process come up, or the others work."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await self._never.wait()


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """The events of an event stream; a cut in the middle of one leaves it out."""
    event_id, data = None, None
    async for line in response.aiter_lines():
        if line.startswith("id:"):
            event_id = line[3:].strip()
        elif line.startswith("data:"):
            data = line[5:].strip()
        elif not line:
            if event_id is not None or data:
                yield Event(id=event_id, data=data or "")
            event_id, data = None, None
