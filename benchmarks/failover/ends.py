"""A client that opens sessions and ends them, and asks afterwards whether one of them is alive again."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import httpx2

from tests.support.mcp_client import BOUND, RawClient
from tests.support.processes import Process

#: Seconds between two ends.
PACE: Final = 0.05
#: Sessions that are open and wait for their end: each is older than so many ends.
OPEN: Final = 5


class Ender:
    """Works in a thread of its own."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self._http = httpx2.Client(timeout=BOUND)
        #: Those whose end was acknowledged.
        self.ended: list[RawClient] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        self._over.set()
        self._thread.join()

    def alive(self) -> int:
        """How many of the ended sessions a call finds."""
        found = 0
        for n, client in enumerate(self.ended):
            url = self._processes[n % len(self._processes)].url
            found += client.post(url, client.request("ping")).status_code != 404
        return found

    def _work(self) -> None:
        waiting: list[RawClient] = []
        n = 0
        while not self._over.wait(PACE):
            n += 1
            url = self._processes[n % len(self._processes)].url
            client = RawClient(http=self._http)
            with suppress(AssertionError, httpx2.HTTPError):  # refused, while Redis is away
                client.initialize(url)
                waiting.append(client)
            if len(waiting) > OPEN:
                ending = waiting.pop(0)
                with suppress(httpx2.HTTPError):
                    if ending.delete(url).status_code == 204:
                        self.ended.append(ending)
