"""A process that opens the sessions of a fleet, or lets them call: `python -m benchmarks.fleet.worker`.

It does to Redis what server processes do, through the store itself. Its settings are those of the benchmarks' server,
and REDIS_URL.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, Final

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.servers.ours_settings"
django.setup()

from mcp_sessions.conf import endpoint  # noqa: E402 - needs the settings
from mcp_sessions.errors import StoreUnavailable  # noqa: E402
from mcp_sessions.records import Handshake  # noqa: E402
from mcp_sessions.store.calls import sessions as calls  # noqa: E402
from mcp_sessions.store.clients import make_async_client, make_key_of  # noqa: E402
from mcp_sessions.store.drivers.asynchronous import RedisStore  # noqa: E402
from mcp_sessions.store.keys import Keys  # noqa: E402

CONF: Final = endpoint("default")
#: A fleet has no cap.
LIMITS: Final = replace(CONF.limits, max_sessions=None)
#: Seconds between two calls of a session.
EVERY: Final = 10.0
#: Rounds of calls until the index updates of the sessions are spread evenly.
SPREADING: Final = ceil(LIMITS.index_ms / 1000 / EVERY) + 1
#: Sessions that are opened at the same time.
TOGETHER: Final = 64
#: Sessions of one owner.
PER_OWNER: Final = 3
#: Each client has the ways of one that exists to introduce itself.
CLIENTS: Final = ("claude-code", "cursor-vscode", "claude-ai", "inspector", "goose", "windsurf", "librechat")
HANDSHAKES: Final = [
    Handshake(
        protocol_version=("2025-11-25", "2025-06-18")[n % 2],
        client_info={"name": name, "title": name.title(), "version": f"2.0.{n}"},
        capabilities={"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}, "url": {}}},
    )
    for n, name in enumerate(CLIENTS)
]


def store() -> RedisStore:
    """That of one server process: no other shares its connections."""
    keys = Keys(CONF.namespace, make_key_of(CONF.cache), shards=LIMITS.shards)
    return RedisStore(keys, lambda timeout: make_async_client(CONF.cache, socket_timeout=timeout))


class Fleet:
    """Its sessions by number."""

    def __init__(self, size: int) -> None:
        self.size = size

    def fingerprint(self, number: int) -> str:
        return hashlib.sha256(b"%d" % number).hexdigest()

    def owner(self, number: int) -> str:
        return f"user:{number % max(1, self.size // PER_OWNER)}"

    async def open(self, store: RedisStore, number: int) -> None:
        fingerprint, principal = self.fingerprint(number), self.owner(number)
        handshake = HANDSHAKES[number % len(HANDSHAKES)]
        await store.run(calls.create(fingerprint, principal=principal, handshake=handshake, limits=LIMITS))
        await self.call(store, number)

    async def call(self, store: RedisStore, number: int) -> None:
        """What a tool call asks of Redis. Raises: StoreUnavailable; RuntimeError if there is no such session."""
        touch = calls.touch(
            self.fingerprint(number), principal=self.owner(number), call="tools/call:add", limits=LIMITS
        )
        if await store.run(touch) is None:
            raise RuntimeError(f"session {number} is gone")


async def fill(fleet: Fleet, first: int, last: int) -> None:
    """Open the sessions of these numbers, each with its first call."""
    node, numbers = store(), iter(range(first, last))

    async def some(numbers: Iterator[int]) -> None:
        for number in numbers:
            await fleet.open(node, number)

    await asyncio.gather(*(some(numbers) for _ in range(TOGETHER)))
    await node.settle()
    await node.aclose()


class Node:
    """A server process, as Redis sees it."""

    def __init__(self, fleet: Fleet, sessions: Sequence[int], *, rounds: int, together: int) -> None:
        self.failures = 0
        #: Seconds by which calls left too late, at most.
        self.late = 0.0
        self._fleet = fleet
        self._sessions = sessions
        self._rounds = rounds
        #: Calls that arrive at the same moment.
        self._together = together
        self._store = store()

    async def run(self) -> None:
        """Let each session call every ten seconds, at a moment of its own, from one of the first rounds on."""
        loop, calling = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        since = [random.randrange(SPREADING) for _ in self._sessions]  # noqa: S311 - not for secrets
        start = loop.time()
        for number in range(self._rounds):
            for n, session in enumerate(self._sessions):
                due = start + (number + (n - n % self._together) / len(self._sessions)) * EVERY
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                self.late = max(self.late, loop.time() - due)
                if number >= since[n]:
                    calling.add(task := loop.create_task(self._call(session)))
                    task.add_done_callback(calling.discard)
        await asyncio.gather(*calling)
        await self._store.settle()
        await self._store.aclose()

    async def _call(self, session: int) -> None:
        try:
            await self._fleet.call(self._store, session)
        except (StoreUnavailable, RuntimeError):
            self.failures += 1


async def drive(
    fleet: Fleet, sessions: Sequence[int], *, nodes: int, rounds: int, together: int
) -> dict[str, Any]:
    """Let them call through so many nodes. Returns what came of it."""
    running = [Node(fleet, sessions[n::nodes], rounds=rounds, together=together) for n in range(nodes)]
    await asyncio.gather(*(node.run() for node in running))
    return {
        "failures": sum(node.failures for node in running),
        "late": max(node.late for node in running),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("size", type=int, help="sessions of the fleet")
    acts = parser.add_subparsers(dest="act", required=True)
    opening = acts.add_parser("fill")
    opening.add_argument("first", type=int)
    opening.add_argument("last", type=int)
    calling = acts.add_parser("drive")
    calling.add_argument("active", type=int, help="sessions that call")
    calling.add_argument("part", type=int, help="which part of the fleet they are of")
    calling.add_argument("parts", type=int)
    calling.add_argument("nodes", type=int)
    calling.add_argument("rounds", type=int)
    calling.add_argument("together", type=int, help="calls that arrive at a node at the same moment")
    given = parser.parse_args()
    fleet = Fleet(given.size)
    if given.act == "fill":
        asyncio.run(fill(fleet, given.first, given.last))
        return
    sessions = random.sample(range(given.part, given.size, given.parts), given.active)
    driven = drive(fleet, sessions, nodes=given.nodes, rounds=given.rounds, together=given.together)
    print(json.dumps(asyncio.run(driven)))


if __name__ == "__main__":
    main()
