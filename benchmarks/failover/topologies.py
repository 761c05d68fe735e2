"""A primary behind Sentinels, and a Cluster: what can be done to them, and which sessions that concerns."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from redis.crc import key_slot

from tests.support.caches import cluster_cache, sentinel_cache
from tests.support.processes import wait_until
from tests.support.redis import (
    RedisCluster,
    RedisServer,
    SentinelTrio,
    run_cluster,
    run_sentinels,
    server_at,
)

NAMESPACE: Final = "failover"
#: Seconds that a failover, and that replicas may take to be in sync.
BOUND: Final = 60.0
#: Primaries of the Cluster.
PRIMARIES: Final = 3


class Topology(Protocol):
    """Where the sessions are."""

    #: The entry of CACHES.
    cache: dict[str, Any]

    def primary(self) -> RedisServer:
        """The server that is to fail: that with the indexes of the namespace."""
        ...

    def concerns(self, fingerprint: str) -> bool:
        """Whether a session was there when `primary` was last asked."""
        ...

    def replaced(self, server: RedisServer) -> bool:
        """Whether another one is the primary in its place."""
        ...

    def fail_over(self) -> None:
        """Ask for a planned failover, and wait for it."""
        ...


@dataclass(kw_only=True)
class Sentinels:
    """A primary with a replica, and three Sentinels."""

    trio: SentinelTrio
    cache: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.cache = sentinel_cache(self.trio)

    def primary(self) -> RedisServer:
        return server_at(self.trio.primary_port(), (self.trio.primary, self.trio.replica))

    def concerns(self, fingerprint: str) -> bool:
        return True

    def replaced(self, server: RedisServer) -> bool:
        return self.trio.primary_port() != server.port

    def fail_over(self) -> None:
        before = self.primary()
        with self.trio.sentinels[0].client() as client:
            client.sentinel_failover(self.trio.service)
        wait_until(lambda: self.replaced(before), seconds=BOUND, what="a failover")


@dataclass(kw_only=True)
class Cluster:
    """Three primaries with a replica each."""

    cluster: RedisCluster
    cache: dict[str, Any] = field(init=False)
    _slots: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cache = cluster_cache(self.cluster)

    def primary(self) -> RedisServer:
        found = self.cluster.holder_of(f":1:mcp:v1:{{{NAMESPACE}}}:nodes")
        self._slots = self.cluster.slots_of(found)
        return found

    def concerns(self, fingerprint: str) -> bool:
        return key_slot(session_key(fingerprint).encode()) in self._slots

    def replaced(self, server: RedisServer) -> bool:
        primaries = self.cluster.primaries()
        return server not in primaries and len(primaries) == PRIMARIES

    def fail_over(self) -> None:
        before = self.primary()
        with self.cluster.replica_of(before).client() as client:
            client.execute_command("CLUSTER FAILOVER")
        wait_until(lambda: self.replaced(before), seconds=BOUND, what="a failover")

    def move_sessions(self) -> None:
        """Move every slot of the primary that has keys to the others, key by key, as `--cluster reshard` does."""
        for slot in sorted(self.cluster.used_slots(self.primary())):
            self.cluster.move_slot(slot)


def session_key(fingerprint: str) -> str:
    """A key of a session, as docs/keys.md says."""
    return f":1:mcp:v1:{NAMESPACE}:{{{fingerprint}}}:session"


@contextmanager
def sentinels() -> Iterator[Topology]:
    with run_sentinels() as trio:
        yield Sentinels(trio=trio)


@contextmanager
def cluster() -> Iterator[Topology]:
    with run_cluster(PRIMARIES, replicas=True) as running:
        yield Cluster(cluster=running)
