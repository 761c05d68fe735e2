"""`python -m benchmarks.leftovers`: what Redis still holds of short sessions that are over.

One daphne with a Redis of its own. Thousands of sessions are opened, and each makes a call, a call with a stream, and
listens for a moment. Nobody ends them: their IDLE_TTL does. Printed is what Redis holds more than before, by kind of
key, some time after the last of them is over.

    python -m benchmarks.leftovers --checkout ../other-checkout
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.contestants import BY_NAME, OURS
from benchmarks.load import is_complete
from benchmarks.mcp_http import Target, calls, open_sessions
from benchmarks.processes import ROOT, Cores, redis_server, running

#: IDLE_TTL of the sessions in seconds.
TTL: Final = 10
#: Sessions that are opened together, and that use their streams at the same time.
TOGETHER: Final = 50
AT_ONCE: Final = 24


async def use(target: Target, session: str) -> None:
    """A call, one with a stream of two messages, and a moment of listening."""
    await _ask(target, next(calls(target, [session])))
    params = {"name": "emit", "arguments": {"count": 2, "per_second": 1000}, "_meta": {"progressToken": 1}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    await _ask(target, target.request(body, session=session))
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(target.request(b"", session=session, method="GET"))
    await reader.readuntil(b"\n\n")
    writer.close()


async def _ask(target: Target, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(request)
    received = b""
    while not is_complete(received):
        chunk = await reader.read(65536)
        if not chunk:
            raise ConnectionResetError
        received += chunk
    writer.close()
    if received[9:12] != b"200":
        raise RuntimeError(f"refused: {received[:300]!r}")


async def use_all(target: Target, sessions: Sequence[str]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(session: str) -> None:
        async with places:
            await use(target, session)

    await asyncio.gather(*map(one, sessions))


def kinds(store: Redis) -> Counter[str]:
    """How many keys there are of each kind."""
    found: Counter[str] = Counter()
    for key in store.scan_iter(count=1000):
        part = key.decode().partition("}:")[2]
        found[part.split(":")[0]] += 1
    return found


def measure(checkout: Path, *, sessions: int, seconds: float) -> None:
    """Open, use and leave so many sessions, and look at Redis so many seconds after the last of them is over."""
    contestant = replace(BY_NAME[OURS], checkout=checkout, environment={"IDLE_TTL": str(TTL)})
    with tempfile.TemporaryDirectory(prefix="mcp-left-") as folder, ExitStack() as stack:
        url = stack.enter_context(redis_server(Path(folder)))
        store = stack.enter_context(Redis.from_url(url))
        server = stack.enter_context(
            running(
                contestant, Path(sys.executable), redis_url=url, core=Cores.pick().server, logs=Path(folder)
            )
        )
        with asyncio.Runner() as runner:
            runner.run(use_all(server.target, open_sessions(server.target, 1)))
            before, most = int(store.info("memory")["used_memory"]), 0
            for start in range(0, sessions, TOGETHER):
                opened = open_sessions(server.target, min(TOGETHER, sessions - start))
                runner.run(use_all(server.target, opened))
                most = max(most, int(store.info("memory")["used_memory"]) - before)
        time.sleep(TTL + seconds)
        left = int(store.info("memory")["used_memory"]) - before
        found = ", ".join(f"{kind} {count}" for kind, count in kinds(store).most_common())
    print(
        f"{sessions} sessions with an IDLE_TTL of {TTL} s: {left / 1e6:.1f} MB of Redis are left {seconds:.0f} s after "
        f"they are over, of {most / 1e6:.1f} MB at most\n  keys: {found}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leftovers", description=__doc__)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="default: this one")
    parser.add_argument("--sessions", type=int, default=25_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="after the last session is over")
    given = parser.parse_args(argv)
    measure(given.checkout.resolve(), sessions=given.sessions, seconds=given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
