"""Many calls at once, carried in a thread of their own, while the test ends and starts the processes."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tests.chaos.calls import Call, Carrier
from tests.support.mcp_client import LATEST, RawClient
from tests.support.processes import wait_until

VERSIONS: Final = (LATEST, "2025-06-18")
#: Seconds for messages to come.
BOUND: Final = 60.0


class Crowd:
    """The calls, as they stand at any moment."""

    def __init__(self, calls: Sequence[Call], urls: Sequence[str]) -> None:
        self.calls = calls
        self._urls = urls
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

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
        """Wait until every call is through. Raises: what went wrong for any call; AssertionError past the bound."""
        self._thread.join(seconds)
        self.received()
        waiting = [call.received[-1:] for call in self.calls if not call.through]
        assert not waiting, f"{len(waiting)} calls are not through after {seconds} s: {waiting[:5]}"

    def _run(self) -> None:
        try:
            asyncio.run(self._carry())
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            self._failure = error

    async def _carry(self) -> None:
        carrier = Carrier(self._urls)
        try:
            async with asyncio.TaskGroup() as group:
                for n, call in enumerate(self.calls):
                    group.create_task(carrier.carry(call, self._urls[n % len(self._urls)]))
        finally:
            await carrier.aclose()


@contextmanager
def crowd(calls: Sequence[Call], urls: Sequence[str]) -> Iterator[Crowd]:
    """Start the calls, spread evenly over the processes."""
    running = Crowd(calls, urls)
    running.start()
    yield running


def sessions(count: int, url: str) -> list[RawClient]:
    """So many clients with a session each, every other one of a version whose streams have no priming event."""
    clients = [RawClient(version=VERSIONS[n % 2]) for n in range(count)]
    for client in clients:
        client.initialize(url)
    return clients


def calling(client: RawClient, tool: str, *, under: str = "p", **arguments: Any) -> dict[str, Any]:
    """A call that asks for progress under that token."""
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": under}}
    return client.request("tools/call", params)
