"""`python -m benchmarks.slow_redis`: whether a process with thousands of streams and a slow Redis is taken for dead.

One daphne reaches Redis through a proxy that delays every reply. It holds as many GET streams as it may. Another one
beside it does not. Printed is how often the busy one was missing in the list of nodes, or without a heartbeat for
longer than a node may be, and how old its last sign of life became.

    python -m benchmarks.slow_redis --checkout ../other-checkout
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.contestants import BY_NAME, OURS
from benchmarks.mcp_http import Target, open_sessions
from benchmarks.processes import ROOT, Cores, redis_server, running

#: A node without a heartbeat for so many seconds is dead for the others.
DEAD_AFTER: Final = 12.0
#: Seconds between two looks at the list of nodes.
EVERY: Final = 0.25
#: Streams that are opened at the same time.
AT_ONCE: Final = 100
#: Seconds in which a stream must open.
OPENING: Final = 60.0
#: Where the benchmark's endpoint lists its nodes.
NODES: Final = ":1:mcp:v1:{benchmark}:nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What the list of nodes said."""

    count: int
    #: Looks that found the process dead.
    dead: int
    #: Seconds since its last sign of life, at most.
    oldest: float


@contextmanager
def slow_proxy(port: int, seconds: float) -> Iterator[int]:
    """A proxy in front of a port that delays every reply; its own port."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = await asyncio.start_server(lambda r, w: _carry(port, seconds, r, w), "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()

    loop.create_task(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _carry(
    port: int, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    replies, requests = await asyncio.open_connection("127.0.0.1", port)
    later = asyncio.get_running_loop().call_later

    async def answer() -> None:
        while chunk := await replies.read(65536):
            later(seconds, writer.write, chunk)

    answering = asyncio.ensure_future(answer())
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            requests.write(chunk)
    answering.cancel()
    requests.close()
    writer.close()


async def hold(target: Target, sessions: Sequence[str]) -> list[asyncio.StreamWriter]:
    """Open a GET stream of each session; from here on nobody reads them. Raises: TimeoutError."""
    places = asyncio.Semaphore(AT_ONCE)

    async def open_one(session: str) -> asyncio.StreamWriter:
        async with places, asyncio.timeout(OPENING):
            while True:
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
                writer.write(target.request(b"", session=session, method="GET"))
                if b" 200 " in await reader.readuntil(b"\r\n"):
                    return writer
                writer.close()
                await asyncio.sleep(1)  # a slow Redis is refused at times

    return list(await asyncio.gather(*map(open_one, sessions)))


def look(redis_url: str, node: str, seconds: float) -> Looks:
    """Look at the list of nodes for so long, by the clock of Redis."""
    ages = []
    with Redis.from_url(redis_url) as client:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now, microseconds = client.time()
            seen = client.zscore(NODES, node)
            ages.append(float("inf") if seen is None else now + microseconds / 1e6 - seen / 1000)
            time.sleep(EVERY)
    return Looks(count=len(ages), dead=sum(age > DEAD_AFTER for age in ages), oldest=max(ages))


def nodes(redis_url: str) -> set[str]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        return set(client.zrange(NODES, 0, -1))


def measure(checkout: Path, *, streams: int, latency: float, seconds: float) -> Looks:
    """Look for so many seconds at a process with so many streams and so many seconds to Redis and back."""
    contestant = replace(BY_NAME[OURS], checkout=checkout)
    with tempfile.TemporaryDirectory(prefix="mcp-slow-") as folder, ExitStack() as stack:
        url = stack.enter_context(redis_server(Path(folder)))
        slow = stack.enter_context(slow_proxy(int(url.rpartition(":")[2]), latency))
        core, logs = Cores.pick().server, Path(folder)
        quick, busy = (
            stack.enter_context(
                running(contestant, Path(sys.executable), redis_url=each, core=core, logs=logs)
            ).target
            for each in (url, f"redis://127.0.0.1:{slow}")
        )
        opened = open_sessions(quick, streams)
        others = nodes(url)
        with asyncio.Runner() as runner:
            writers = runner.run(hold(busy, opened[:1]))
            [node] = nodes(url) - others
            writers += runner.run(hold(busy, opened[1:]))
            looks = look(url, node, seconds)
            for writer in writers:
                writer.close()
        return looks


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_redis", description=__doc__)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="default: this one")
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--latency", type=float, default=0.11, help="seconds to Redis and back; default 0.11")
    parser.add_argument("--seconds", type=float, default=50.0, help="for which the list is looked at")
    given = parser.parse_args(argv)
    looks = measure(
        given.checkout.resolve(), streams=given.streams, latency=given.latency, seconds=given.seconds
    )
    print(
        f"{given.streams} streams, {given.latency * 1000:.0f} ms to Redis and back: {looks.dead} of {looks.count} "
        f"looks found the process dead; its last sign of life was {looks.oldest:.1f} s old at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
