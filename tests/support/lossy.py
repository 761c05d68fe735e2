"""A proxy in front of a Redis that loses a reply when a test says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.support.processes import HOST
from tests.support.redis import RedisServer


class LossyProxy:
    """Passes everything on. It runs in the test's event loop."""

    def __init__(self, server: RedisServer) -> None:
        #: How many of the next replies are lost: Redis has done what was asked, and the connection closes.
        self.lose = 0
        #: How many connections are open.
        self.connections = 0
        #: Where new connections lead.
        self.server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection(HOST, self.server.port)
        self.connections += 1
        try:
            ways = [
                asyncio.create_task(self._hand_on(reader, to_redis)),
                asyncio.create_task(self._hand_on(from_redis, writer, replies=True)),
            ]
            _, other = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for task in other:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self.connections -= 1
            for each in (to_redis, writer):
                each.close()

    async def _hand_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool = False
    ) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(65536):
                if replies and self.lose:
                    self.lose -= 1
                    return
                sink.write(chunk)
                await sink.drain()


@asynccontextmanager
async def lossy_proxy(server: RedisServer) -> AsyncIterator[LossyProxy]:
    """A proxy on a free port; its `url` is that of a Redis."""
    proxy = LossyProxy(server)
    listening = await asyncio.start_server(proxy.accept, HOST, 0)
    port = listening.sockets[0].getsockname()[1]
    proxy.url = f"redis://{HOST}:{port}/0"
    try:
        yield proxy
    finally:
        listening.close()
        await proxy.aclose()
