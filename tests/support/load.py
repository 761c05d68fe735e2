"""Many calls at once, while the test ends and starts processes: each is resumed anywhere until it has its response."""

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final

import httpx2
from httpx2 import EventSource, ServerSentEvent

from tests.support.mcp_client import LATEST, RawClient, message_of
from tests.support.processes import wait_until

#: Seconds that one answer may be silent. A stream has a sign of life every 15.
SILENCE: Final = 20.0
#: Seconds before a process that refused is asked again, or another one.
PAUSE: Final = 0.1
#: Seconds for messages to come.
BOUND: Final = 60.0
VERSIONS: Final = (LATEST, "2025-06-18")


@dataclass(kw_only=True, eq=False)
class Call:
    """One request, or one standalone stream: its messages, in order, over all of its connections."""

    client: RawClient
    #: The request; None for the standalone stream.
    message: dict[str, Any] | None
    #: It is complete after so many messages, unless a response completes it.
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
    #: When its last connection was answered, by the same clock.
    resumed: float = 0.0
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

    def take(self, event: ServerSentEvent) -> None:
        """One event came."""
        self.last_event_id = event.id or self.last_event_id
        if event.data:
            self.received.append(event.data)
            message = message_of(event)
            if self.message is not None and "method" not in message:
                self.response, self.ended = message, monotonic()


class ResumingClient:
    """Makes calls of whichever of the processes answers, and does not give up."""

    def __init__(self, urls: Sequence[str], *, seed: int = 1) -> None:
        self.urls = urls
        self._random = random.Random(seed)  # noqa: S311 - it only spreads the load
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx2.AsyncClient(timeout=SILENCE, limits=limits)
        self._never = asyncio.Event()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def complete(self, call: Call, url: str | None = None) -> Call:
        """Send the call, to that process first, and resume it anywhere until it is complete."""
        while not call.through:
            try:
                await self._connect(call, url or self._random.choice(self.urls))
            except httpx2.TransportError:
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
            call.resumed = monotonic()
            if response.headers["content-type"].startswith("application/json"):
                call.take(ServerSentEvent(data=(await response.aread()).decode()))
            else:
                await self._read(call, response)

    async def _read(self, call: Call, response: httpx2.Response) -> None:
        left = self._random.expovariate(1 / call.cut_after) if call.cut_after else float("inf")
        before, found = len(call.received), False
        async for event in EventSource(response, max_event_size=None):
            found = True
            call.take(event)
            if call.through or len(call.received) - before > left:
                break
        call.connections += found

    async def _pause(self) -> None:
        """Wait for a process to start, or let the others work."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await self._never.wait()


class Load:
    """The calls, as they stand at any moment."""

    def __init__(self, calls: Sequence[Call], urls: Sequence[str]) -> None:
        self.calls = calls
        self._urls = urls
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = threading.Event()
        self._cancel: Callable[[], object] = lambda: None

    def start(self) -> None:
        self._thread.start()
        self._begun.wait(BOUND)

    def give_up(self) -> None:
        """End the calls as they are. Otherwise those of a test that failed would keep the processor busy forever."""
        with suppress(RuntimeError):  # the loop is closed: all calls are complete
            self._cancel()
        self._thread.join(BOUND)

    def received(self) -> int:
        """How many messages came so far. Raises: what went wrong for any call."""
        if self._failure is not None:
            raise self._failure
        return sum(len(call.received) for call in self.calls)

    def wait_for(self, messages: int) -> None:
        """Wait until so many more messages have come."""
        self.wait_for_all(self.received() + messages)

    def wait_for_all(self, messages: int) -> None:
        """Wait until so many messages have come in all."""
        wait_until(lambda: self.received() >= messages, seconds=BOUND, what=f"{messages} messages in all")

    def join(self, seconds: float) -> None:
        """Wait until every call is complete. Raises: what went wrong for any call; AssertionError past the bound."""
        self._thread.join(seconds)
        self.received()
        waiting = [call.received[-1:] for call in self.calls if not call.through]
        assert not waiting, f"{len(waiting)} calls are not through after {seconds} s: {waiting[:5]}"

    def _run(self) -> None:
        try:
            asyncio.run(self._complete_all())
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            self._failure = error

    async def _complete_all(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
        self._begun.set()
        client = ResumingClient(self._urls)
        try:
            async with asyncio.TaskGroup() as group:
                for n, call in enumerate(self.calls):
                    group.create_task(client.complete(call, self._urls[n % len(self._urls)]))
        finally:
            await client.aclose()


@contextmanager
def load(calls: Sequence[Call], urls: Sequence[str]) -> Iterator[Load]:
    """Start the calls, spread evenly over the processes. They end with a test that fails."""
    running = Load(calls, urls)
    running.start()
    try:
        yield running
    except BaseException:
        running.give_up()
        raise


def sessions(count: int, url: str) -> list[RawClient]:
    """So many clients with a session each, every other one of a version whose streams have no priming event."""
    clients = [RawClient(version=VERSIONS[n % 2]) for n in range(count)]
    for client in clients:
        client.initialize(url)
    return clients
