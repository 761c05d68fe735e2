"""What the Redis servers behind a cache say of themselves, for operators: one round trip to each."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.connections.defaults import REDIS_ERRORS
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.clients import redis_cache, sync_client

#: What a server that does not say it is taken to have.
_UNKNOWN: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server."""

    #: Host and port on a Cluster, else "".
    name: str
    #: Redis' or Valkey's, as it is compatible with.
    version: str
    used_memory: int
    #: 0: no limit.
    maxmemory: int
    policy: str
    #: Keys that were dropped to make room, since the server started.
    evicted: int
    appends: bool
    #: Whether the last attempts to save, and to write the append-only file, succeeded.
    saves: bool
    #: When snapshots are made, as `save` says; None where the server does not tell.
    snapshots: str | None
    #: Whether it is a replica, which refuses writes.
    is_replica: bool
    #: Replicas without which it refuses writes, because of min-replicas-to-write.
    missing_replicas: int
    #: Seconds that the answer took.
    seconds: float
    #: Why it tells nothing of itself: what is above is then empty, or as it should be. Empty if it does.
    refusal: str = ""


def facts_of(cache: str) -> list[ServerFacts]:
    """The primaries of an alias of CACHES; none if its sessions are in memory.

    Raises: StoreUnavailable.
    """
    if redis_cache(cache) is None:
        return []
    try:
        client = sync_client(cache)
        return _of_cluster(client) if isinstance(client, RedisCluster) else [_facts(client, address="")]
    except REDIS_ERRORS as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}"[:200]) from error


def _of_cluster(client: Any) -> list[ServerFacts]:
    """Those of its primaries. Raises: one of REDIS_ERRORS."""
    try:
        return _of_primaries(client)
    except (RedisConnectionError, RedisTimeoutError):
        # Only a command with a key would tell the client that another node is the primary now.
        client.nodes_manager.initialize()
        return _of_primaries(client)


def _of_primaries(client: Any) -> list[ServerFacts]:
    # Of a node that the client has just heard of, it has no connection yet.
    return [
        _facts(client.get_redis_connection(node), address=f"{node.host}:{node.port}")
        for node in client.get_primaries()
    ]


def _facts(client: Any, *, address: str) -> ServerFacts:
    """Raises: one of REDIS_ERRORS, also for a node of a Cluster that is a replica."""
    pipeline = client.pipeline(transaction=False)
    # Managed servers often have no CONFIG.
    pipeline.info()
    for name in ("save", "min-replicas-to-write"):
        pipeline.config_get(name)
    began = time.perf_counter()
    info, save, wanted = pipeline.execute(raise_on_error=False)
    seconds = time.perf_counter() - began
    refusal = str(info) if isinstance(info, ResponseError) else ""
    if refusal:  # the user of Redis may not ask, as those without the category @dangerous
        info = {}
    elif isinstance(info, Exception):
        raise info
    is_replica = info.get("role") == "slave"
    if address and is_replica:
        raise RedisConnectionError(f"{address} is a replica now")
    return ServerFacts(
        name=address,
        version=str(info.get("redis_version", _UNKNOWN)),
        used_memory=int(info.get("used_memory", 0)),
        maxmemory=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", _UNKNOWN)),
        evicted=int(info.get("evicted_keys", 0)),
        appends=bool(info.get("aof_enabled", 0)),
        saves=_is_ok(info, "rdb_last_bgsave_status") and _is_ok(info, "aof_last_write_status"),
        snapshots=None if refusal or isinstance(save, ResponseError) else _setting(save, "save"),
        is_replica=is_replica,
        missing_replicas=0 if is_replica else max(0, _wanted(wanted) - _good_replicas(info)),
        seconds=seconds,
        refusal=refusal,
    )


def _is_ok(info: Mapping[str, Any], name: str) -> bool:
    return str(info.get(name, "ok")) == "ok"


def _wanted(config: Any) -> int:
    """How many replicas it needs to take writes; 0 where it does not tell."""
    return 0 if isinstance(config, ResponseError) else int(_setting(config, "min-replicas-to-write") or 0)


def _good_replicas(info: Mapping[str, Any]) -> int:
    return int(info.get("min_slaves_good_slaves", 0))


def _setting(config: Mapping[Any, Any], name: str) -> str:
    """A setting in a reply of CONFIG GET; empty if the server does not have it."""
    value = config.get(name, config.get(name.encode(), ""))
    return value.decode() if isinstance(value, bytes) else str(value)
