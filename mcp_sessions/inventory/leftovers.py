"""Keys in Redis that belong to nothing: found by a walk through the keys of the app that takes a bounded time."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

from mcp_sessions.conf import aliases, endpoint
from mcp_sessions.connections.defaults import REDIS_ERRORS
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.findings import Finding
from mcp_sessions.store.clients import make_key_of, redis_cache, sync_client

#: Keys that are looked at, at most, and how many at a time: a millisecond in which Redis serves nobody else.
MOST_KEYS: Final = 200_000
TOGETHER: Final = 500
#: What is kept of a record beside the record, and goes with it.
_BESIDE: Final = ("features", "state")
#: Keys that are named in a finding.
_NAMED: Final = 3
_KEY: Final = re.compile(
    r"mcp:v\d+:(?:\{(?P<shared>[^}/]+)[^}]*\}|(?P<space>[^:{]+):\{(?P<record>[0-9a-f]{64})\}):(?P<part>[\w-]+)"
)


@dataclass(slots=True)
class _Found:
    """What is wrong with the keys of one cache."""

    looked_at: int = 0
    endless: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    #: Keys by namespaces that no endpoint has.
    foreign: dict[str, int] = field(default_factory=dict)


def of_keys(cache: str) -> Iterator[Finding]:
    """What is wrong with the keys of the app in a cache. Raises: StoreUnavailable."""
    if redis_cache(cache) is None:
        return
    found = _Found()
    spaces = {
        quote(endpoint(alias).namespace, safe="") for alias in aliases() if endpoint(alias).cache == cache
    }
    try:
        client = sync_client(cache)
        keys = islice(client.scan_iter(match=make_key_of(cache)("mcp:v*"), count=TOGETHER), MOST_KEYS)
        while some := list(islice(keys, TOGETHER)):
            _look_at(client, [_text(key) for key in some], spaces, found)
    except REDIS_ERRORS as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}"[:200]) from error
    yield from _findings(cache, found)


def _look_at(client: Any, keys: Sequence[str], spaces: set[str], found: _Found) -> None:
    found.looked_at += len(keys)
    records: list[tuple[str, str]] = []
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.pttl(key)
        match = _KEY.search(key)
        if match is None:
            continue
        space = match["shared"] or match["space"]
        if space not in spaces:
            found.foreign[space] = found.foreign.get(space, 0) + 1
        elif match["part"] in _BESIDE:
            records.append((key, key[: match.start("part")] + "session" + key[match.end("part") :]))
    for key, record in records:
        # In this order: if the record ends meanwhile, what is beside it is gone by the second question, too.
        pipeline.exists(record)
        pipeline.exists(key)
    replies = pipeline.execute()
    found.endless += [key for key, ttl in zip(keys, replies, strict=False) if ttl == -1]
    there = replies[len(keys) :]
    found.orphans += [
        key
        for (key, _), has_record, is_there in zip(records, there[::2], there[1::2], strict=True)
        if is_there and not has_record
    ]


def _findings(cache: str, found: _Found) -> Iterator[Finding]:
    if found.endless:
        yield Finding(
            code="keys-without-ttl",
            level="warning",
            what=f"{len(found.endless):,} keys in the cache {cache!r} never expire, such as {_named(found.endless)}.",
            cure="Every key of this app has a TTL. Somebody else wrote these, or PERSIST was called: delete them.",
        )
    if found.orphans:
        yield Finding(
            code="orphaned-keys",
            level="warning",
            what=f"{len(found.orphans):,} keys in the cache {cache!r} belong to records that are gone, such as "
            f"{_named(found.orphans)}.",
            cure="They go when their TTL is over. Delete them if that is long: nobody can reach them.",
        )
    for space, number in sorted(found.foreign.items()):
        yield Finding(
            code="foreign-namespace",
            level="note",
            what=f"{number:,} keys in the cache {cache!r} are of the namespace {space!r}, which no endpoint here has.",
            cure="They are another service's, or were left when a NAMESPACE was changed; those expire.",
        )
    if found.looked_at >= MOST_KEYS:
        yield Finding(
            code="not-all-keys",
            level="note",
            what=f"Only {found.looked_at:,} keys of the cache {cache!r} were looked at.",
            cure="Nothing. There may be more of what is said here of keys.",
        )


def _named(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_NAMED])


def _text(key: bytes | str) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key
