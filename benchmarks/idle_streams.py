"""`python -m benchmarks.idle_streams`: what streams cost on which nothing happens.

One daphne with a Redis of its own holds thousands of streams of one kind: GET streams of sessions, streams of calls
that report nothing for hours, or clients of the modern era that listen. Nobody sends anything. Printed is the CPU that
each costs Redis and the process, less what they use without streams.

    python -m benchmarks.idle_streams --checkout ../other-checkout --calls
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.contestants import BY_NAME, OURS
from benchmarks.mcp_http import MODERN_ENVELOPE, MODERN_VERSION, Target, open_sessions
from benchmarks.processes import ROOT, Cores, Server, redis_server, running

#: Streams that are opened at the same time.
AT_ONCE: Final = 50
#: Seconds in which a stream must open.
OPENING: Final = 60.0
#: Seconds after which what opening the streams has caused is over.
SETTLING: Final = 10.0
#: A call that reports once, and the second time after a day.
_SILENT: Final = {"name": "emit", "arguments": {"count": 2, "per_second": 1e-5}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """CPU that was used in a stretch of time."""

    #: Microseconds per second.
    redis: float
    process: float


def get(target: Target, session: str) -> bytes:
    """A request for the standalone stream of a session."""
    return target.request(b"", session=session, method="GET")


def call(target: Target, session: str) -> bytes:
    """A call whose stream stays open in silence."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params = {**_SILENT, "_meta": {"progressToken": 1}}
    return target.request(json.dumps({**message, "params": params}).encode(), session=session)


def listen(target: Target, _: str) -> bytes:
    """A client of the modern era that listens."""
    params = {"notifications": {"toolsListChanged": True}, "_meta": MODERN_ENVELOPE}
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    ).encode()
    headers = (f"MCP-Protocol-Version: {MODERN_VERSION}", "Mcp-Method: subscriptions/listen")
    return target.head(len(body), headers) + body


#: What is measured, by its name in the results.
KINDS: Final[dict[str, Callable[[Target, str], bytes]]] = {
    "GET streams": get,
    "streams of calls": call,
    "listeners": listen,
}


async def hold(target: Target, requests: Sequence[bytes]) -> list[asyncio.StreamWriter]:
    """Open a stream with each request; from here on nobody reads them. Raises: TimeoutError."""
    places = asyncio.Semaphore(AT_ONCE)

    async def open_one(request: bytes) -> asyncio.StreamWriter:
        async with places, asyncio.timeout(OPENING):
            while True:
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                if b" 200 " in head:
                    await reader.readuntil(b"\n\n")
                    return writer
                writer.close()
                await asyncio.sleep(1)  # a busy Redis is refused at times

    return list(await asyncio.gather(*map(open_one, requests)))


@contextmanager
def serving(checkout: Path) -> Iterator[tuple[Server, Redis]]:
    """A daphne and its Redis, on cores of their own."""
    contestant, cores = replace(BY_NAME[OURS], checkout=checkout), Cores.pick()
    with tempfile.TemporaryDirectory(prefix="mcp-idle-") as folder, ExitStack() as stack:
        url = stack.enter_context(redis_server(Path(folder)))
        server = running(
            contestant, Path(sys.executable), redis_url=url, core=cores.server, logs=Path(folder)
        )
        yield stack.enter_context(server), stack.enter_context(Redis.from_url(url))


def used(server: Server, store: Redis, seconds: float) -> Used:
    """What both sides use in so many seconds, while nobody asks anything."""
    begun, process, redis = time.monotonic(), server.cpu_seconds(), redis_seconds(store)
    time.sleep(seconds)
    took = (time.monotonic() - begun) / 1e6
    return Used(redis=(redis_seconds(store) - redis) / took, process=(server.cpu_seconds() - process) / took)


def redis_seconds(store: Redis) -> float:
    """User and system time of Redis so far."""
    cpu = store.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def scripts(store: Redis) -> str:
    """The commands that cost Redis most since the statistics were reset."""
    stats = store.info("commandstats")
    ranked = sorted(stats.items(), key=lambda each: -each[1]["usec"])[:6]
    return ", ".join(f"{name.removeprefix('cmdstat_')} {each['calls']}" for name, each in ranked)


def measure(checkout: Path, kind: str, *, streams: int, seconds: float, calls: bool = False) -> Used:
    """What one stream of a kind costs."""
    with serving(checkout) as (server, store), asyncio.Runner() as runner:
        sessions = open_sessions(server.target, streams if kind != "listeners" else 1)
        sessions = sessions if kind != "listeners" else sessions * streams
        requests = [KINDS[kind](server.target, session) for session in sessions]
        runner.run(asyncio.sleep(SETTLING))
        without = used(server, store, seconds)
        writers = runner.run(hold(server.target, requests))
        time.sleep(SETTLING)
        store.config_resetstat()
        held = used(server, store, seconds)
        if calls:
            print(f"  {kind}: {scripts(store)}")
        for writer in writers:
            writer.close()
    return Used(
        redis=(held.redis - without.redis) / streams, process=(held.process - without.process) / streams
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_streams", description=__doc__)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="default: this one")
    parser.add_argument("--streams", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which both sides are watched")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--calls", action="store_true", help="print how often Redis was asked, too")
    given = parser.parse_args(argv)
    for kind in given.only:
        each = measure(
            given.checkout.resolve(), kind, streams=given.streams, seconds=given.seconds, calls=given.calls
        )
        print(
            f"{given.streams} {kind}: each costs Redis {each.redis:.2f} µs/s; 1,000 cost the process "
            f"{each.process / 10:.2f} % of a core",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
