"""The processes of `make cluster`. One that ends is started again, as systemd or Kubernetes would do."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Final

from project.children import start, wait_for_end

#: Seconds for which a process that ended stays away, so that one can see the others go on without it.
AWAY_SECONDS: Final = 3.0


@dataclass(kw_only=True, eq=False)
class Part:
    """One process, with the same command and port at every start."""

    name: str
    #: For the person at the terminal.
    what: str
    port: int
    command: Sequence[str]
    #: Where its output goes.
    log: Path
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _process: "subprocess.Popen[bytes] | None" = None
    _ended: float | None = None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process of the last start. Raises: LookupError before the first."""
        if self._process is None:
            raise LookupError(f"{self.name} was not started")
        return self._process

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = start(self.command, environment=self.environment, output=log)
        self._ended = None

    def ends_or_begins(self) -> str:
        """Start it again if it ended a while ago. What happened since the last look; empty if nothing did."""
        status = self.process.poll()
        if status is None:
            return ""
        if self._ended is None:
            self._ended = monotonic()
            return f"{self.name} has ended ({_reason(status)}) and will be started again in {AWAY_SECONDS:.0f} s."
        if monotonic() - self._ended < AWAY_SECONDS:
            return ""
        self.start()
        return f"{self.name} was started again: its process id is {self.process.pid} now."


@contextmanager
def running(parts: Sequence[Part]) -> Iterator[None]:
    """Start these, and end them together after the block."""
    started: list[Part] = []
    try:
        for part in parts:
            part.start()
            started.append(part)
        yield
    finally:
        for part in started:
            part.process.terminate()
            part.process.send_signal(signal.SIGCONT)  # one that was stopped with SIGSTOP could not end
        for part in started:
            wait_for_end(part.process)


def look_after(parts: Sequence[Part], say: Callable[[str], None]) -> None:
    """Start again what ended, and say so."""
    for part in parts:
        if said := part.ends_or_begins():
            say(said)


def say(what: str) -> None:
    """One line, with the time of day."""
    print(f"{datetime.now().astimezone():%H:%M:%S}  {what}", flush=True)


def _reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
