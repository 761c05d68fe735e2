"""Token buckets: how often something may be done, on all processes together."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from mcp_sessions.conf.rates import ADDRESS, PRINCIPAL, SESSION, Limit
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.store import keys
from mcp_sessions.store.call import Call, Script

SPEND: Final = Script("spend", "_record", takes_many=True, pipe="touches")


class Who(NamedTuple):
    """For whom is counted; None for what a request does not have."""

    principal: str
    session: str | None = None
    address: str | None = None


class Bucket(NamedTuple):
    """One bucket, and where it is."""

    limit: Limit
    home: str
    #: The last part of its key.
    part: str


class Lacking(NamedTuple):
    """A bucket has no token."""

    bucket: Bucket
    #: For so many milliseconds.
    wait_ms: int


def buckets(
    limits: Mapping[str, tuple[Limit, ...]], whats: Iterable[str], who: Who, *, shards: int
) -> list[Bucket]:
    """The buckets from which a request takes. Anonymous clients share no principal.

    Those of a principal and of its sessions are in one place. Where there are shards, those of addresses are in others.
    """
    found: list[Bucket] = []
    for what in whats:
        for limit in limits.get(what, ()):
            name = _name(limit.whom, who)
            if name is None:
                continue
            digest = _digest(what, limit.whom, name)
            found.append(Bucket(limit, _home(limit.whom, who, digest, shards), f"rate:{digest}"))
    return found


def spend(wanted: Sequence[Bucket]) -> list[Call[Lacking | None]]:
    """Take a token from each of these: one call for each place. None: they had one. If one lacks a token, none is taken
    from any in the same place.

    A place that cannot be asked refuses nothing: its call gives the StoreUnavailable. A call is not repeated when its
    reply is lost: it would take twice.
    """
    by_home: dict[str, list[Bucket]] = {}
    for bucket in wanted:
        by_home.setdefault(bucket.home, []).append(bucket)
    return [
        Call(
            SPEND,
            home,
            [bucket.part for bucket in some],
            (len(some), *(number for bucket in some for number in bucket.limit.rate)),
            partial(_verdict, some),
            fails_alone=True,
        )
        for home, some in by_home.items()
    ]


def _verdict(wanted: Sequence[Bucket], _: str, reply: Any) -> Lacking | None:
    return None if reply == 0 else Lacking(wanted[reply[0] - 1], reply[1])


def _name(whom: str, who: Who) -> str | None:
    """For whom a bucket counts."""
    if whom == PRINCIPAL:
        return None if who.principal == ANONYMOUS else who.principal
    return who.session if whom == SESSION else _network(who.address)


def _home(whom: str, who: Who, digest: str, shards: int) -> str:
    if shards == 1:
        return keys.SHARD + "0000"
    if whom == ADDRESS or who.principal == ANONYMOUS:
        return keys.home_of(digest)
    return keys.home_of_principal(who.principal)


@lru_cache(maxsize=4096)
def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


@lru_cache(maxsize=4096)
def _network(address: str | None) -> str | None:
    """Whose address it is: of IPv6, a network has 2 to the power of 64."""
    if address is None or ":" not in address:
        return address
    return str(ip_network(f"{address.partition('%')[0]}/64", strict=False))
