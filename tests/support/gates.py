"""A gate inside a handler: the test knows when a handler reached it, opens it, and learns how the handler ended.

No side polls or sleeps: the two ends of a Unix socket wait for each other.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Seconds that the test waits for its handler.
BOUND: Final = 30.0


class Gate:
    """The test's side. Give `path` to a handler that calls `passes`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(BOUND)
        self._listener.bind(self.path)
        self._listener.listen()
        self._handler: socket.socket | None = None
        self._crowd: list[socket.socket] = []

    def reached(self) -> None:
        """Wait until the handler is at the gate; call it again for a handler that runs again."""
        if self._handler is not None:
            self._handler.close()
        self._handler, _ = self._listener.accept()
        self._handler.settimeout(BOUND)

    def reached_by(self, count: int) -> None:
        """Wait until so many more handlers are at the gate, which stays closed for them."""
        for _ in range(count):
            handler, _ = self._listener.accept()
            self._crowd.append(handler)

    def open(self) -> None:
        """Let the handler pass."""
        assert self._handler is not None
        self._handler.sendall(b"!")

    def outcome(self) -> str:
        """Wait until the handler has passed ("passed") or was cancelled at the gate ("cancelled")."""
        assert self._handler is not None
        return self._handler.recv(100).decode()

    def close(self) -> None:
        self._listener.close()
        for handler in self._crowd:
            handler.close()
        if self._handler is not None:
            self._handler.close()


@contextmanager
def gate(directory: Path) -> Iterator[Gate]:
    """A gate in a directory; the path of a Unix socket must be short."""
    opened = Gate(directory / "gate")
    try:
        yield opened
    finally:
        opened.close()


async def passes(path: str) -> None:
    """The handler's side: wait at the gate until the test opens it."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        await reader.readexactly(1)
    except asyncio.CancelledError:
        writer.write(b"cancelled")
        raise
    else:
        writer.write(b"passed")
    finally:
        writer.close()
