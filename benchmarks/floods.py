"""`python -m benchmarks.floods`: what others notice of a client that floods an endpoint which has limits.

Two processes share a Redis. Twenty well-behaved principals call a tool, each in a session of its own, while one more
opens sessions at a fixed rate and never ends one, and then sends requests with invented session ids at that rate.
Printed are, for each phase, how long the calls of the others took and what the flood got; and at the end how many
sessions the flood has.

    python -m benchmarks.floods --rate 500 --seconds 10
"""

import argparse
import asyncio
import itertools
import secrets
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from redis import Redis

from benchmarks.contestants import BY_NAME, OURS
from benchmarks.mcp_http import Target, calls, initialize_request, invented_request, open_sessions
from benchmarks.outages import Answer, Client
from benchmarks.processes import Cores, redis_server, running

#: Well-behaved principals.
OTHERS = 20
#: Where the benchmark's endpoint counts the sessions of a principal, whatever the digest.
OF_PRINCIPALS = ":1:mcp:v1:{benchmark}:index:principal:*"

#: A principal, and the id of its session.
Session = tuple[Target, str]


def signed_in(target: Target, name: str, address: str) -> Target:
    """The same server for one principal at one address, as a proxy tells it."""
    return replace(target, more=(f"X-Forwarded-User: {name}", f"X-Forwarded-For: {address}"))


async def phase(
    title: str,
    targets: Sequence[Target],
    others: Sequence[Session],
    flood: Iterator[bytes] | None,
    *,
    calm: float,
    rate: float,
    seconds: float,
) -> None:
    """Let everybody work for some seconds, and print what they got."""
    work = []
    for target in targets:
        series = [calls(replace(target, more=whose.more), [session]) for whose, session in others]
        turns = (next(each) for each in itertools.cycle(series))
        client = Client(target=target)
        await client.connect(OTHERS)
        work.append(client.load(turns, rate=calm / len(targets), seconds=seconds))
    flooding = [Client(target=target) for target in targets] if flood is not None else []
    for client in flooding:
        await client.connect(20)
        work.append(client.load(flood, rate=rate / len(targets), seconds=seconds))  # type: ignore[arg-type]
    answers = await asyncio.gather(*work)
    _report(title, answers[: len(targets)], answers[len(targets) :])


def _report(title: str, calm: Sequence[Sequence[Answer]], flood: Sequence[Sequence[Answer]]) -> None:
    mine = [each for some in calm for each in some]
    took = sorted(each.seconds * 1000 for each in mine)
    p99 = took[round(0.99 * (len(took) - 1))]
    wrong = sum(each.status != 200 for each in mine)
    got = Counter(each.status for some in flood for each in some)
    print(
        f"{title}: others {len(took)} calls, {wrong} not answered with 200, median {statistics.median(took):.1f} ms, "
        f"p99 {p99:.1f} ms; flood {dict(sorted(got.items()))}"
    )


def opened(targets: Sequence[Target]) -> list[Session]:
    """A session of each well-behaved principal. Raises: LoadError."""
    others = [signed_in(targets[n % len(targets)], f"user-{n}", f"198.51.100.{n}") for n in range(OTHERS)]
    return [(target, session) for target in others for session in open_sessions(target, 1)]


async def measure(
    targets: Sequence[Target], others: Sequence[Session], *, calm: float, rate: float, seconds: float
) -> None:
    """Run the phases."""
    bad = [signed_in(target, "flood", "203.0.113.1") for target in targets]
    sessions = itertools.cycle([initialize_request(target) for target in bad])
    ids = (invented_request(bad[0]) for _ in itertools.count())
    await phase("warm-up", targets, others, None, calm=calm, rate=rate, seconds=2)
    await phase("quiet", targets, others, None, calm=calm, rate=rate, seconds=seconds)
    await phase(
        f"{rate:g} new sessions a second", targets, others, sessions, calm=calm, rate=rate, seconds=seconds
    )
    await phase(
        f"{rate:g} invented ids a second", targets, others, ids, calm=calm, rate=rate, seconds=seconds
    )
    await phase("quiet again", targets, others, None, calm=calm, rate=rate, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=500, help="requests of the flood per second")
    parser.add_argument("--calm", type=float, default=100, help="calls of all others together per second")
    parser.add_argument("--seconds", type=float, default=10, help="of each phase")
    options = parser.parse_args()
    contestant = replace(
        BY_NAME[OURS],
        application="benchmarks.servers.limited:application",
        environment={"SECRET_KEY": secrets.token_hex()},
    )
    with tempfile.TemporaryDirectory(prefix="mcp-floods-") as folder, ExitStack() as stack:
        url = stack.enter_context(redis_server(Path(folder)))
        cores = Cores.pick()
        servers = [
            stack.enter_context(
                running(contestant, Path(sys.executable), redis_url=f"{url}/0", core=core, logs=Path(folder))
            )
            for core in (cores.server, cores.load)
        ]
        targets = [each.target for each in servers]
        others = opened(targets)
        asyncio.run(measure(targets, others, calm=options.calm, rate=options.rate, seconds=options.seconds))
        with Redis.from_url(f"{url}/0") as redis:
            most = max(redis.zcard(key) for key in redis.scan_iter(OF_PRINCIPALS))
        print(f"sessions that the flood has: {most}")


if __name__ == "__main__":
    main()
