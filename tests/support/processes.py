"""Processes that tests start: each on a free port of 127.0.0.1, and ended before its test ends.

A process dies with its context manager, and on Linux with the test process too.
"""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Final, Self, TypeVar

from tests.support import ROOT, logs
from tests.support.forks import Fork, die_with_parent

HOST: Final = "127.0.0.1"
#: Seconds that a process may take to answer its first request, unless it says otherwise, or to end.
START_BOUND: Final = 40.0
STOP_BOUND: Final = 15.0
#: Seconds that a test waits for a condition.
BOUND: Final = 20.0

#: Ports below those that the system gives to connections: whoever chooses one of those may find it taken when it is
#: used, minutes later.
UNASSIGNED: Final = range(10_240, 32_768)

#: What every process gets unless the caller says otherwise.
ENVIRONMENT: Final = {
    "DJANGO_SETTINGS_MODULE": "project.settings",
    "DJANGO_SECRET_KEY": "a-secret-key-that-only-the-tests-use-and-nobody-else",
    "DJANGO_DEBUG": "1",
    "DJANGO_HTTPS": "0",
    "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost",
    "REDIS_URL": "",
    "PYTHONUNBUFFERED": "1",
}

T = TypeVar("T")

_chance: Final = random.SystemRandom()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment, and that the system gives to no connection meanwhile."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, _chance.choice(UNASSIGNED)))
            return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], T], *, seconds: float = BOUND, what: str = "a condition") -> T:
    """Poll until the condition holds and return what it gave. Raises: AssertionError past the bound."""
    deadline = monotonic() + seconds
    pause = threading.Event()
    while not (result := condition()):
        assert monotonic() < deadline, f"waited {seconds} s for {what}"
        pause.wait(0.02)
    return result


class ProcessError(Exception):
    """A process ended, or did not answer within its bound; the message ends with what it wrote."""


@dataclass(kw_only=True, eq=False)
class Process:
    """A server process on a port of its own, with the same command at every start."""

    #: For messages and the name of the log file.
    name: str
    #: What to execute.
    command: Sequence[str]
    #: Added to this process's own environment.
    environment: dict[str, str]
    port: int
    #: Standard output and error of every start, one after the other.
    log: Path
    #: A path that is asked until it answers; any status will do.
    probe: str = "/healthz"
    #: The working directory.
    directory: Path = ROOT
    #: Seconds that it may take to answer its first request.
    start_bound: float = START_BOUND
    #: Whether a command `python -m MODULE ...` is run in a fork; see support/forks.py.
    forked: bool = False
    _popen: "subprocess.Popen[bytes] | Fork | None" = field(default=None, init=False, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    @property
    def url(self) -> str:
        """Without a path or a trailing slash."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running process.

        Raises: ProcessError when it does not run.
        """
        if self._popen is None or self._popen.poll() is not None:
            raise ProcessError(f"{self.name} does not run.\n{self.output()}")
        return self._popen.pid

    def start(self) -> Self:
        """Start, and wait until it answers.

        Raises: ProcessError.
        """
        self.launch()
        self.wait_until_it_answers()
        return self

    def launch(self) -> None:
        """Start without waiting, so that several can come up together."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        logs.watch(self.log)
        environment = os.environ | self.environment
        if self.forked:
            self._popen = Fork(
                self.command[2:], directory=self.directory, environment=environment, log=self.log
            )
            return
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    def wait_until_it_answers(self) -> None:
        """Raises: ProcessError."""
        deadline = monotonic() + self.start_bound
        while not self.answers():
            if monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} did not answer within {self.start_bound} s.\n{self.output()}"
                )
            self._pause_unless_ended()

    def answers(self) -> bool:
        """Whether it answers a request of its probe's path at all."""
        return self.get(self.probe) is not None

    def get(self, path: str) -> str | None:
        """What answers a GET request, whatever its status; None for no answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def refuses_connections(self) -> bool:
        """Whether nobody listens on its port."""
        try:
            socket.create_connection(self.address, timeout=BOUND).close()
        except ConnectionRefusedError:
            return True
        return False

    def wait_until_it_says(self, word: str, *, seconds: float = BOUND) -> None:
        """Wait for a word in what it writes."""
        wait_until(lambda: word in self.output(), seconds=seconds, what=f"{word!r} in the log of {self.name}")

    def send_signal(self, what: signal.Signals) -> None:
        """Send a signal, and do not wait for its effect. Raises: ProcessError when it does not run."""
        os.kill(self.pid, what)

    def exit_code(self, *, seconds: float = BOUND) -> int:
        """Wait for the process to end by itself. Raises: subprocess.TimeoutExpired past the bound."""
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.wait(seconds)

    def pause(self) -> None:
        """Hang the process: its system accepts connections, and nothing is answered."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self.send_signal(signal.SIGCONT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process, a paused one too, with SIGKILL if it does not go. Does nothing when it does not run."""
        if self._popen is None:
            return
        self._popen.send_signal(how)
        self._popen.send_signal(signal.SIGCONT)
        try:
            self._popen.wait(STOP_BOUND)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait(STOP_BOUND)
        self._popen = None

    def kill(self) -> None:
        """End the process with SIGKILL: none of its handlers runs."""
        self.stop(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop as a deploy does, and start again on the same port."""
        self.stop()
        return self.start()

    def output(self) -> str:
        """The last 4000 characters of what it wrote."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def _pause_unless_ended(self) -> None:
        """Wait a moment for the process to end, which it must not.

        Raises: ProcessError when it did.
        """
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        with suppress(subprocess.TimeoutExpired):
            code = self._popen.wait(0.05)
            raise ProcessError(f"{self.name} ended with {code}.\n{self.output()}")


def daphne(name: str, directory: Path, **environment: str) -> Process:
    """A daphne of the demo that is not started yet, daphne as it is; its files go to `directory`."""
    port = free_port()
    listen = ("-b", HOST, "-p", str(port))
    return Process(
        name=name,
        command=(sys.executable, "-m", "daphne", *listen, "tests.served.unpatched:application"),
        environment={**ENVIRONMENT, "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}", **environment},
        port=port,
        log=directory / f"{name}.log",
        forked=True,
    )


def drained_by_ours(process: Process) -> Process:
    """The same daphne under our server, which lets requests finish when it is told to stop."""
    options = list(process.command)[3:]
    return replace(process, command=(sys.executable, "-m", "mcp_sessions.daphne", *options))


@contextmanager
def daphnes(count: int, directory: Path, **environment: str) -> Iterator[list[Process]]:
    """So many daphne processes with one environment (REDIS_URL, MCP_SERVER, ...), named A, B, C...

    They share the SQLite file `directory`/db.sqlite3, which is not migrated. All answer inside the block.
    """
    processes = [daphne(chr(ord("A") + i), directory, **environment) for i in range(count)]
    with started(processes):
        yield processes


@contextmanager
def serving_everything(
    directory: Path, redis_url: str, *, count: int = 2, **environment: str
) -> Iterator[list[Process]]:
    """Daphne processes of tests/served/everything.py, in a namespace with the name of the directory."""
    with daphnes(
        count,
        directory,
        REDIS_URL=redis_url,
        MCP_SERVER="tests.served.everything.server",
        MCP_NAMESPACE=directory.name,
        MCP_ALLOWED_ORIGINS="https://app.example.com",
        **environment,
    ) as running:
        yield running


@contextmanager
def started(processes: Sequence[Process]) -> Iterator[None]:
    """Start these together, and stop them after the block."""
    with ExitStack() as stack:
        for process in processes:
            stack.callback(process.stop)
            process.launch()
        for process in processes:
            process.wait_until_it_answers()
        yield


@dataclass(slots=True)
class Growth:
    """Bytes of resident memory that a process had at its peak beyond what it had before; after the block."""

    peak: int = 0


@contextmanager
def growth_of(pid: int) -> Iterator[Growth]:
    """Watch a process without sampling: the kernel keeps the peak, which is reset first."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _status_of(pid, "VmHWM")
    growth = Growth()
    yield growth
    growth.peak = _status_of(pid, "VmHWM") - before


def _status_of(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kibibytes = next(line for line in lines if line.startswith(f"{field}:")).split()[1]
    return int(kibibytes) * 1024
