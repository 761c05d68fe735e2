"""A client program in a process of its own, and the conversation with it."""

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support import ROOT
from tests.support.programs import node, npm_packages

#: Seconds that an answer may take.
BOUND: Final = 30.0


class ClientError(Exception):
    """What the client library raised: the type's name and the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the program's output."""

    #: "progress", "asked", "answer" or "error".
    kind: str
    #: [progress, total, message], the question, the answer, or the error's message.
    value: Any


class DrivenClient:
    """Sends commands to the program, which runs them one after the other."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def open(self, url: str) -> str:
        """Connect; the agreed protocol version."""
        return str(self.ask("open", url=url))

    def tools(self) -> list[str]:
        """The names that `tools/list` gave."""
        return list(self.ask("tools"))

    def call(self, tool: str, **arguments: Any) -> Mapping[str, Any]:
        """Call a tool and return its result. Raises: ClientError."""
        return dict(self.ask("call", tool=tool, arguments=arguments))

    def kill(self) -> None:
        """End the program, and read what it still said: its output is closed next."""
        self._process.kill()
        self._listener.join(BOUND)

    def close(self) -> None:
        """Leave, as the library does it."""
        self.ask("close")

    def ask(self, command: str, **content: Any) -> Any:
        """Send a command and return its answer; events before the answer are dropped. Raises: ClientError."""
        self.tell(command, **content)
        while (event := self.next_event()).kind in ("progress", "asked"):
            pass
        return answer_of(event)

    def tell(self, command: str, **content: Any) -> None:
        """Send a command; `next_event` returns what it produces."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **content}) + "\n")
        self._process.stdin.flush()

    def next_event(self) -> Event:
        """The next line of the program. Raises: AssertionError when none comes within the bound."""
        try:
            return self._events.get(timeout=BOUND)
        except queue.Empty:
            raise AssertionError(f"the client said nothing for {BOUND} s\n{self._log.read_text()}") from None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            value = said["message"] if said["event"] == "error" else said["value"]
            self._events.put(Event(kind=said["event"], value=value))
        self._events.put(Event(kind="error", value=f"the program ended\n{self._log.read_text()}"))


def answer_of(event: Event) -> Any:
    """The value of an answer. Raises: ClientError for an error, AssertionError for anything else."""
    if event.kind == "error":
        raise ClientError(event.value)
    assert event.kind == "answer"
    return event.value


@contextmanager
def driven(command: Sequence[str], directory: Path) -> Iterator[DrivenClient]:
    """Run the program; its standard error goes to a file in `directory`."""
    log = directory / "client.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=_environment(), text=True, bufsize=1, stderr=errors, **_PIPES
        ) as process,
    ):
        client = DrivenClient(process, log)
        try:
            yield client
        finally:
            client.kill()


_PIPES: Final[dict[str, Any]] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def _environment() -> dict[str, str]:
    """PYTHONPATH, so that the drivers are found by a Python which has not installed this project."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def python_driver(python: str, module: str, *arguments: str) -> list[str]:
    """The command of a driver in Python."""
    return [python, "-m", f"tests.clients.drivers.{module}", *arguments]


def typescript_driver(*arguments: str, driver: str = "typescript.mjs") -> list[str]:
    """The command of a TypeScript driver. It is copied to its packages: Node looks for them from there upwards."""
    source = Path(__file__).with_name("drivers") / driver
    copy = npm_packages().parent / source.name
    shutil.copy(source, copy)
    return [node(), str(copy), *arguments]
