"""`python -m benchmarks.admin.operator`: lists, searches and ends sessions in batches, until it is stopped."""

import itertools
import os
import random

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.admin.settings")

import django

django.setup()

from mcp_sessions import conf  # noqa: E402 - after the set-up
from mcp_sessions.ending import end_sessions  # noqa: E402
from mcp_sessions.inventory.listing import SessionQuery  # noqa: E402
from mcp_sessions.inventory.lookups import Prefix  # noqa: E402
from mcp_sessions.store.calls.queries import Query  # noqa: E402

#: Sessions that are ended together.
BATCH = 100


def main() -> None:
    aliases = conf.aliases()
    everything = SessionQuery(aliases=aliases)
    narrow = SessionQuery(aliases=aliases, filters=Query(client="claude-code", protocol="2025-03-26"))
    for _ in itertools.count():
        everything.page(limit=50)
        narrow.page(limit=50)
        digits = f"{random.getrandbits(48):012x}"
        SessionQuery(aliases=aliases, matches=(Prefix(digits=digits),)).page(limit=50)
        for alias in aliases:
            oldest = SessionQuery(aliases=(alias,), filters=Query(ascending=True)).page(limit=BATCH)
            end_sessions(alias, [row.session.fingerprint for row in oldest.rows], by="benchmark")


if __name__ == "__main__":
    main()
