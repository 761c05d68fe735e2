"""`python -m benchmarks.hostile`: a hundred thousand requests that no client sends, to one daphne.

The requests are good ones, changed at random (tests/support/hostile.py). The seed is printed first, and
`--seed` sends the same again. It ends with 1 if a request got 5xx or no answer, or if the log has a traceback. Printed
are the answers, sessions in Redis that no answer has named, memory, and the size of the log.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from mcp_sessions.ids import fingerprint
from tests.support import hostile
from tests.support.processes import daphnes
from tests.support.redis import run_server

NAMESPACE: Final = "hostile"
#: Requests that have one seed: the one that is printed, and those that follow it. After the first of these parts, the
#: memory is measured.
PART: Final = 5_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with run_server() as redis, tempfile.TemporaryDirectory() as directory:
        environment = {
            "REDIS_URL": redis.url,
            "MCP_NAMESPACE": NAMESPACE,
            **hostile.ENVIRONMENT,
        }
        with daphnes(1, Path(directory), **environment) as [process]:
            known = hostile.prepared(process.url, hostile.TOKENS)
            told = {fingerprint(each) for each in known.session_ids}
            before = process.log.stat().st_size
            parts, memory = list[hostile.Outcome](), 0
            for number in range(-(-options.count // PART)):
                count = min(PART, options.count - number * PART)
                part = hostile.run(process.port, known, count=count, seed=options.seed + number)
                memory = memory or resident(process.pid)
                parts.append(part)
                print(f"{number * PART + count:,} requests, {len(part.bad)} of these bad", flush=True)
            grown = resident(process.pid) - memory
            told |= {fingerprint(each) for part in parts for each in part.opened}
            with redis.client() as client:
                stored = client.zrange(f":1:mcp:v1:{{{NAMESPACE}}}:index:activity", 0, -1)
                lasting = sum(client.ttl(key) == -1 for key in client.scan_iter())
            log = process.log.read_text(errors="replace")
            logged = process.log.stat().st_size - before
    statuses = sum((part.statuses for part in parts), Counter[int]())
    bad = [each for part in parts for each in part.bad]
    print(f"{statuses.total():,} requests in {sum(part.seconds for part in parts):.0f} s")
    print(
        "answers:",
        ", ".join(f"{status or 'none'}: {number:,}" for status, number in sorted(statuses.items())),
    )
    print(f"5xx, or no answer to what was HTTP: {len(bad)}")
    for raw, said in bad[:5]:
        print(f"  {raw[:600]!r}\n  {said[:600]}")
    tracebacks = log.count("Traceback (most recent call last)")
    untold = len({each.hex() for each in stored} - told)
    left = sum(part.left for part in parts)
    print(f"tracebacks in the log: {tracebacks}; {logged / statuses.total():.0f} bytes of log for a request")
    print(
        f"sessions: {len(stored):,} in Redis, of which nobody was told {untold}, while {left:,} senders that may have "
        f"opened one left before they were; keys without a TTL: {lasting}"
    )
    print(f"memory after {PART:,} requests: {memory / 2**20:.0f} MiB; at the end {grown / 2**20:+.0f} MiB")
    return 1 if bad or tracebacks or untold > left or lasting else 0


def resident(pid: int) -> int:
    """Bytes of resident memory of a process."""
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
