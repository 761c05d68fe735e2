"""Servers of the misbehaving application, and how a test asks them."""

import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import Process, free_port, started
from tests.support.sockets import SocketClient


def server(
    module: str, directory: Path, *arguments: str, guarded: bool = False, **environment: str
) -> Process:
    """A server of the misbehaving application, not started yet."""
    port = free_port()
    listen = ("--host", "127.0.0.1", "--port") if module == "uvicorn" else ("-b", "127.0.0.1", "-p")
    command = (
        sys.executable,
        "-m",
        module,
        *listen,
        str(port),
        *arguments,
        "tests.served.misbehaving:application",
    )
    environment = {"GUARDED": "1" if guarded else "0", "PYTHONUNBUFFERED": "1", **environment}
    return Process(
        name=module, command=command, environment=environment, port=port, log=directory / f"{module}.log"
    )


@contextmanager
def running(
    module: str, directory: Path, *arguments: str, guarded: bool = False, **environment: str
) -> Iterator[Process]:
    process = server(module, directory, *arguments, guarded=guarded, **environment)
    with started([process]):
        yield process


def ask(process: Process, path: str) -> http.client.HTTPResponse:
    return SocketClient(process).send(path).response()
