"""Calls on a Redis Cluster from any thread: a pipeline for each node, so that a dead node fails only its own calls.

redis-py's cluster client knows the nodes. Its own pipelines fail as a whole, and ask the default node which keys a
command has, even if that node is dead.
"""

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from redis.cluster import ClusterNode, RedisCluster, get_node_name
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from mcp_sessions.connections.defaults import REDIS_ERRORS, SOCKET_TIMEOUT, log
from mcp_sessions.connections.round_trips import Job, NoReply, round_trips
from mcp_sessions.connections.sync_connections import execute, replies_of

#: Seconds until calls are sent again whose keys are on their way from one node to another.
TRY_AGAIN: Final = 0.05
#: Nobody sets it.
_never: Final = threading.Event()


def cluster_replies(client: RedisCluster, jobs: Sequence[Job]) -> list[Any]:
    """The reply to each job, an error reply, and `NoReply`, as values."""
    until = time.monotonic() + SOCKET_TIMEOUT
    replies: list[Any] = [None] * len(jobs)
    left: Sequence[int] = range(len(jobs))
    repeated = False
    while left:
        asked = {n: _place(client, jobs[n], replies[n]) for n in left}
        for place in set(asked.values()):
            positions = [n for n in left if asked[n] == place]
            for n, reply in zip(positions, _ask(client, place, [jobs[n] for n in positions]), strict=True):
                replies[n] = reply
        again = [n for n in left if isinstance(replies[n], (AskError, TryAgainError))]
        for n in again:
            if isinstance(reply := replies[n], AskError):
                _complete(client, reply, asked[n])
            if isinstance(reply, MovedError):
                client.nodes_manager.move_slot(reply)
        failed = [n for n in left if _is_stale(replies[n])]
        if failed:
            _look_again(client, asked[failed[0]])
        if not repeated:
            # Once to whoever has taken over.
            repeated = True
            again += [
                n for n in failed if jobs[n][0].repeatable and _place(client, jobs[n], None) != asked[n]
            ]
        if any(isinstance(replies[n], TryAgainError) for n in again):
            _never.wait(TRY_AGAIN)
        left = again if time.monotonic() < until else ()
    return replies


class _Place(NamedTuple):
    """A node, and whether it must be told that it is asked on purpose, for keys that are on their way to it."""

    #: Host and port; None if nobody serves the slot.
    address: tuple[str, int] | None
    asking: bool


def _place(client: RedisCluster, job: Job, reply: Any) -> _Place:
    """Who is asked for a job, given the reply so far."""
    if isinstance(reply, AskError) and not isinstance(reply, MovedError):
        return _Place(reply.node_addr, asking=True)
    serving = client.nodes_manager.slots_cache.get(key_slot(job[1][0].encode()))
    return _Place((serving[0].host, serving[0].port) if serving else None, asking=False)


def _complete(client: RedisCluster, error: AskError, asked: _Place) -> None:
    """Let a redirection name the node as we reach it: see `topology.ClusterNodes.redirected`."""
    host = error.host or (asked.address or ("",))[0]
    error.node_addr = error.host, error.port = client.nodes_manager.remap_host_port(host, error.port)


def _ask(client: RedisCluster, place: _Place, jobs: Sequence[Job]) -> Sequence[Any]:
    """The replies of one node."""
    if place.address is None:
        return [ClusterDownError("Nobody serves the slot.")] * len(jobs)
    asking, (host, port) = place.asking, place.address
    redis: Any = client.get_redis_connection(client.get_node(host, port) or ClusterNode(host, port))  # type: ignore[no-untyped-call] # redis-py's own

    if not asking:
        return replies_of(round_trips(jobs), partial(execute, redis))
    return replies_of(
        round_trips(jobs),
        lambda commands: execute(redis, [each for command in commands for each in (("ASKING",), command)])[
            1::2
        ],
    )


def _is_stale(reply: Any) -> bool:
    """Whether the slots may be elsewhere than we think: the node is down, or says that the cluster is."""
    return isinstance(reply, NoReply | ClusterDownError)


def _look_again(client: RedisCluster, failed: _Place) -> None:
    """Ask the nodes who serves what, the failed one last. While nobody knows, what was known stays."""
    try:
        name = None if failed.address is None else get_node_name(*failed.address)
        client.nodes_manager.initialize(last_failed_node_name=name)
    except REDIS_ERRORS as error:
        log.debug("The nodes of the cluster do not agree: %s", error)
