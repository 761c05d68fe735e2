"""All clients, in an event loop and a thread of their own."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import httpx2

from benchmarks.chaos.clients import SILENCE, Client, Proxy
from benchmarks.chaos.outcomes import Record
from tests.support.processes import Process

#: Seconds for all clients to have opened their sessions.
OPENING: Final = 60.0


class Crowd:
    """So many clients; `record` is complete when `finish` returns."""

    def __init__(self, processes: Sequence[Process], count: int, *, patience: float, pause: float) -> None:
        self.record = Record()
        self._processes = processes
        self._count = count
        self._patience = patience
        self._pause = pause
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Return when all of them work."""
        self._thread.start()
        if not self._ready.wait(OPENING):
            raise TimeoutError(f"the clients have not opened their sessions within {OPENING} s")
        self._check()

    def finish(self) -> None:
        """Let them finish what they have begun, and wait for it. Raises: whatever went wrong in a client."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(self._patience + 2 * SILENCE)
        self._check()
        if self._thread.is_alive():
            raise TimeoutError("the clients do not finish")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failure = error
        finally:
            self._ready.set()

    async def _run(self) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx2.AsyncClient(timeout=SILENCE, limits=limits) as http, asyncio.TaskGroup() as group:
            clients = [
                Client(
                    http,
                    Proxy(self._processes),
                    self.record,
                    seed=seed,
                    patience=self._patience,
                    pause=self._pause,
                )
                for seed in range(self._count)
            ]
            for client in clients:
                group.create_task(client.run(self._stop))
            for client in clients:
                await client.ready.wait()
            self._ready.set()


@contextmanager
def working(crowd: Crowd) -> Iterator[None]:
    """The clients work inside the block, and have finished after it."""
    crowd.start()
    yield
    crowd.finish()
