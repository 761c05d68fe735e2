"""Real daphne processes of the demo, each on a free port of 127.0.0.1. Proxies: `proxies`."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final, Self

from tests.servers import _die_with_parent, free_port

ROOT: Final = Path(__file__).resolve().parent.parent
#: Seconds that a process may take to answer its first request, or to end.
START_BOUND: Final = 40.0
STOP_BOUND: Final = 15.0

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


class ProcessError(Exception):
    """A process ended, or did not answer within its bound; the message ends with what it wrote."""


@dataclass(kw_only=True)
class Process:
    """One server process on a port of its own, with the same command at every start."""

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
    _popen: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        """Without a path or a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

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
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=os.environ | self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def wait_until_it_answers(self) -> None:
        """Raises: ProcessError."""
        deadline = monotonic() + START_BOUND
        while not _answers(self.port, self.probe):
            if monotonic() > deadline:
                raise ProcessError(f"{self.name} did not answer within {START_BOUND} s.\n{self.output()}")
            self._pause_unless_ended()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not go. Does nothing when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is said goodbye to."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop as a deploy does, and start again on the same port."""
        self.stop()
        return self.start()

    def output(self) -> str:
        """The last 4000 characters of what it wrote."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def _end(self, how: signal.Signals) -> None:
        if self._popen is None:
            return
        if self._popen.poll() is None:
            self._popen.send_signal(how)
        try:
            self._popen.wait(STOP_BOUND)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait(STOP_BOUND)
        self._popen = None

    def _pause_unless_ended(self) -> None:
        """Wait a moment for the process to end, which it must not.

        Raises: ProcessError when it did.
        """
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        with suppress(subprocess.TimeoutExpired):
            code = self._popen.wait(0.05)
            raise ProcessError(f"{self.name} ended with {code}.\n{self.output()}")


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def daphne(name: str, directory: Path, **environment: str) -> Process:
    """A daphne of the demo that is not started yet, daphne as it is; its files go to `directory`."""
    port = free_port()
    listen = ("-b", "127.0.0.1", "-p", str(port))
    return Process(
        name=name,
        command=(sys.executable, "-m", "daphne", *listen, "tests.untouched:application"),
        environment={**ENVIRONMENT, "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}", **environment},
        port=port,
        log=directory / f"{name}.log",
    )


@contextmanager
def daphnes(count: int, directory: Path, **environment: str) -> Iterator[list[Process]]:
    """So many daphne processes with one environment (REDIS_URL, MCP_SERVER, ...), named A, B, C...

    They share the SQLite file `directory`/db.sqlite3, which is not migrated. All answer inside the block.
    """
    processes = [daphne(chr(ord("A") + i), directory, **environment) for i in range(count)]
    with started(processes):
        yield processes


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
