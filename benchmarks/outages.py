"""`python -m benchmarks.outages`: what callers see while Redis hangs, closes idle connections, and restarts.

One daphne with a Redis of its own. Requests leave at a fixed rate, whether or not the earlier ones are answered, as
those of many clients do. Printed are, for a Redis that hangs (SIGSTOP), how long an answer takes and whether that
grows; for one that closes idle connections, how many sessions can be ended; for one that is killed and restarted with
its data, how many calls fail after it answers again.
"""

import argparse
import asyncio
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import redis

from benchmarks.contestants import CONTESTANTS, OURS
from benchmarks.load import is_complete
from benchmarks.mcp_http import Target, calls, open_sessions
from benchmarks.processes import Cores, free_port, running, start_redis, stop

SESSIONS = 50
#: Seconds with a Redis that is well, before it fails.
BEFORE = 2.0
#: Seconds for which Redis is away, and for which calls go on when it is back.
AWAY, AFTER = 1.0, 10.0
#: Seconds after which Redis closes idle connections, and for which they are idle.
IDLE, QUIET = 1, 3.0
#: Sessions that are ended after Redis closed idle connections.
ENDED = 5
#: Calls per second around a restart.
CALM = 50
#: How many seconds of requests may be under way before more connections are opened.
CONNECTED = 4
#: Seconds after which an answer counts as lost.
LOST = 30.0
#: The answers are divided into so many parts; the first and the last are compared.
PARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request: when it left, by the monotonic clock, and its outcome."""

    sent: float
    seconds: float
    #: The HTTP status; 0 for none.
    status: int


@dataclass(slots=True, kw_only=True)
class Redis:
    """A Redis that keeps its data over a restart."""

    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        keep = ("--appendonly", "yes", "--appendfsync", "always")
        self._process = start_redis(self.folder, self.port, *keep, *self.options)
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGCONT)
        stop(self._running())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def send(self, what: signal.Signals) -> None:
        self._running().send_signal(what)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._running().wait()

    def start_again(self) -> float:
        """Start it again; when it answered, by the monotonic clock."""
        self.__enter__()
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.01)
                else:
                    return time.monotonic()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("start it first")
        return self._process


@contextmanager
def serving(*options: str) -> Iterator[tuple[Redis, Target]]:
    """A daphne on a Redis of its own. Raises: ServerError."""
    contestant = next(each for each in CONTESTANTS if each.name == OURS)
    with tempfile.TemporaryDirectory(prefix="mcp-outages-") as folder, ExitStack() as stack:
        store = stack.enter_context(Redis(folder=Path(folder), options=options))
        server = stack.enter_context(
            running(
                contestant,
                Path(sys.executable),
                redis_url=store.url,
                core=Cores.pick().server,
                logs=Path(folder),
            )
        )
        yield store, server.target


@dataclass(slots=True, kw_only=True)
class Client:
    """Keep-alive connections to one server, as many as there are requests under way."""

    target: Target
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def connect(self, count: int) -> None:
        """Open so many connections beforehand: a burst of them would wait in the server's system, not in the server."""
        for _ in range(count):
            self._idle.append(await self._connect())

    async def ask(self, request: bytes) -> Answer:
        """Send one request; the time for a connection does not count."""
        connection = self._idle.pop() if self._idle else await self._connect()
        sent, received = time.monotonic(), b""
        try:
            async with asyncio.timeout(LOST):
                connection[1].write(request)
                while not is_complete(received):
                    chunk = await connection[0].read(65536)
                    if not chunk:
                        raise ConnectionResetError
                    received += chunk
        except (ConnectionError, TimeoutError):
            connection[1].close()
            received = b""
        else:
            self._idle.append(connection)
        return Answer(sent=sent, seconds=time.monotonic() - sent, status=int(received[9:12] or 0))

    async def load(self, requests: Iterator[bytes], *, rate: float, seconds: float) -> list[Answer]:
        """So many requests per second for so long, in order of leaving."""
        begun = time.monotonic()
        asked: list[asyncio.Task[Answer]] = []
        while (due := begun + len(asked) / rate) < begun + seconds:
            await asyncio.sleep(due - time.monotonic())
            asked.append(asyncio.create_task(self.ask(next(requests))))
        return list(await asyncio.gather(*asked))

    async def end(self, session: str) -> bool:
        """Whether a session could be ended."""
        return (await self.ask(self.target.request(b"", session=session, method="DELETE"))).status == 204

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.target.port)


async def hang(*, rate: float, seconds: float) -> None:
    """A Redis that hangs: how long an answer takes."""
    with serving() as (store, target):
        client, requests = Client(target=target), calls(target, open_sessions(target, SESSIONS))
        await client.connect(round(rate * CONNECTED))
        await client.load(requests, rate=rate, seconds=BEFORE)
        store.send(signal.SIGSTOP)
        answers = await client.load(requests, rate=rate, seconds=seconds)
        store.send(signal.SIGCONT)
    refused = [answer.seconds for answer in answers if answer.status == 503]
    others = len(answers) - len(refused)
    part = len(answers) // PARTS
    first, last = (_p99([each.seconds for each in some]) for some in (answers[:part], answers[-part:]))
    print(
        f"Redis hangs for {seconds:.0f} s at {rate:.0f} requests/s: {len(refused)} answers 503, {others} others"
    )
    print(
        f"  time to 503: median {statistics.median(refused):.3f} s, p99 {_p99(refused):.2f} s, "
        f"max {max(refused):.2f} s; p99 of the first fifth {first:.2f} s, of the last {last:.3f} s"
    )


async def idle() -> None:
    """A Redis that closes idle connections: whether sessions can be ended."""
    with serving("--timeout", str(IDLE)) as (_, target):
        client, opened, ended = Client(target=target), open_sessions(target, ENDED), 0
        for session in opened:
            await client.load(calls(target, [session]), rate=100, seconds=0.1)
            await asyncio.sleep(QUIET)
            ended += await client.end(session)
    print(f"Redis closes idle connections: {ended} of {ENDED} DELETE answered 204")


async def restart() -> None:
    """A Redis that is killed and comes back with its data: the calls before and after it answers again."""
    with serving() as (store, target):
        opened = open_sessions(target, SESSIONS)
        client, requests = Client(target=target), calls(target, opened[ENDED:])
        asking = asyncio.create_task(client.load(requests, rate=CALM, seconds=BEFORE + AWAY + AFTER))
        await asyncio.sleep(BEFORE)
        store.kill()
        await asyncio.sleep(AWAY)
        back = await asyncio.to_thread(store.start_again)
        answers = await asking
        ended = [await client.end(session) for session in opened[:ENDED]]
    during = [each for each in answers if each.status != 200 and each.sent < back]
    after = [each for each in answers if each.sent >= back]
    failed = sum(each.status != 200 for each in after)
    print(
        f"Redis restarts, {AWAY:.0f} s away, at {CALM} calls/s: {len(during)} calls failed while it was away"
    )
    print(
        f"  of {len(after)} calls in the {AFTER:.0f} s after it answered again {failed} failed; "
        f"{sum(ended)} of {ENDED} DELETE answered 204"
    )


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outages", description=__doc__)
    parser.add_argument(
        "--rate", type=float, default=250.0, metavar="N", help="requests per second at a hung Redis"
    )
    parser.add_argument("--seconds", type=float, default=40.0, metavar="N", help="for which it hangs")
    arguments = parser.parse_args(argv)
    asyncio.run(hang(rate=arguments.rate, seconds=arguments.seconds))
    asyncio.run(idle())
    asyncio.run(restart())
    return 0


if __name__ == "__main__":
    sys.exit(main())
