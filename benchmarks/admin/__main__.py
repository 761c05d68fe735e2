"""`python -m benchmarks.admin`: what the operator's pages cost, whether they are true, and what calls notice.

It fills a Redis of its own. See docs/operations.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis import Redis

from benchmarks.admin.hot_path import percentiles
from benchmarks.processes import redis_server

SIZES: Final = (10_000, 100_000, 1_000_000)
#: What a page may cost at most: milliseconds of the server, round trips, and milliseconds of one command of Redis.
TARGETS: Final = {"server_ms": 100.0, "round_trips": 5, "slowest_ms": 2.0}
#: How many times slower the slowest one of a hundred calls may be.
HOT_PATH: Final = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if a page costs more than it may, or says what is not true."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.admin", description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=list(SIZES), metavar="N")
    parser.add_argument("--skip-hot-path", action="store_true")
    parser.add_argument("--redis-server", metavar="PROGRAM", help="instead of the Valkey that the tests use")
    options = parser.parse_args(argv)
    if len(options.sessions) > 1:
        # Each in a process of its own: Django is set up for one Redis and one database.
        others = ["--skip-hot-path"] if options.skip_hot_path else []
        others += ["--redis-server", options.redis_server] if options.redis_server else []
        return max(_in_a_process(count, others) for count in options.sessions)
    with (
        tempfile.TemporaryDirectory() as name,
        redis_server(Path(name), program=options.redis_server) as url,
    ):
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.admin.settings"
        os.environ["REDIS_URL"] = f"{url}/0"
        os.environ["DATABASE_URL"] = f"sqlite:///{name}/db.sqlite3"
        missed = _pages(options.sessions[0], f"{url}/0")
        if not options.skip_hot_path:
            found = percentiles(url, Path(name))
            missed += ["hot path"] if found.ratio > HOT_PATH else []
            print(
                f"p99 of tool calls: {found.alone_ms:.1f} ms alone, {found.disturbed_ms:.1f} ms beside an operator, "
                f"{found.ratio:.1f} ×\n"
            )
    if missed:
        print(f"Missed: {', '.join(missed)}\n")
    return int(bool(missed))


def _in_a_process(count: int, others: Sequence[str]) -> int:
    command = [sys.executable, "-m", "benchmarks.admin", "--sessions", str(count), *others]
    return subprocess.run(command, check=False).returncode


def _pages(count: int, url: str) -> list[str]:
    """Fill, measure, end some, print; the names of the pages that cost too much, or say what is not true."""
    # Not at the top: they need Django, which needs the environment.
    import django

    django.setup()
    from django.core.management import call_command

    from benchmarks.admin import ends, filling, pages

    call_command("migrate", verbosity=0)
    filling.make_users(round(count / filling.OF_EACH_USER))
    with Redis.from_url(url) as redis:
        truth = filling.fill(redis, count)
        print(f"{count:,} sessions, {truth.redis_bytes:,.0f} bytes of Redis each\n")
        rows = list(pages.measure(truth, redis))
        print(pages.table(rows), end="\n\n", flush=True)
        print(ends.table(list(ends.measure(redis))), end="\n\n")
    return [row.name for row in rows if not row.is_true or _exceeds(row)]


def _exceeds(row: Any) -> bool:
    return any(getattr(row, name) > most for name, most in TARGETS.items())


if __name__ == "__main__":
    sys.exit(main())
