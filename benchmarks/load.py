"""The load: HTTP/1.1 over non-blocking sockets and epoll, one request at a time on each connection.

Written by hand so that the load costs a fraction of the servers it measures (about 15 µs per request); the share of
the core that it used is part of each result. Linux only.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: Seconds to wait for a complete answer, even if pings arrive in the meantime.
STALL = 20.0
_CHUNKED_END = b"\r\n0\r\n\r\n"


class LoadError(Exception):
    """The server closed the connection, stalled, or gave an unexpected answer."""


@dataclass(slots=True)
class Connection:
    """One keep-alive connection with at most one request under way."""

    sock: socket.socket
    #: What has arrived of the answer.
    buffer: bytes = b""
    #: When the request left, in seconds of `time.perf_counter`; 0 while idle.
    sent: float = 0.0
    #: Which request of the series is under way.
    number: int = 0


@dataclass(slots=True)
class Wire:
    """A set of connections to one server, driven by `run`; close it after use."""

    port: int
    size: int
    _epoll: select.epoll = field(default_factory=select.epoll)
    _connections: dict[int, Connection] = field(default_factory=dict)

    def __enter__(self) -> "Wire":
        for _ in range(self.size):
            sock = socket.create_connection(("127.0.0.1", self.port), timeout=STALL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
            self._connections[sock.fileno()] = Connection(sock=sock)
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()
        for connection in self._connections.values():
            connection.sock.close()

    def run(self, requests: Iterator[bytes], answered: Callable[[int, bytes, float], None]) -> None:
        """Send all requests, each as soon as a connection is free; `answered(number, answer, seconds)` for each.

        Returns when the iterator is exhausted and every answer is in. Raises: LoadError.
        """
        numbered = enumerate(requests)
        under_way = sum(self._send_next(connection, numbered) for connection in self._connections.values())
        clock = time.perf_counter
        while under_way:
            ready = self._epoll.poll(STALL)
            if not ready:
                raise LoadError(f"no answer for {STALL:.0f} s")
            for descriptor, _ in ready:
                connection = self._connections[descriptor]
                answer = _receive(connection)
                if answer is None:
                    _still_worth_waiting(connection)
                    continue
                answered(connection.number, answer, clock() - connection.sent)
                under_way -= not self._send_next(connection, numbered)

    def _send_next(self, connection: Connection, numbered: Iterator[tuple[int, bytes]]) -> bool:
        """Whether there was one more request."""
        following = next(numbered, None)
        if following is None:
            return False
        connection.number, request = following
        connection.sent = time.perf_counter()
        connection.sock.sendall(request)
        return True


def _still_worth_waiting(connection: Connection) -> None:
    if time.perf_counter() - connection.sent > STALL:
        raise LoadError(f"only this after {STALL:.0f} s: {connection.buffer[-200:]!r}")


def _receive(connection: Connection) -> bytes | None:
    """Read what is there; the whole answer, head and body, once it is complete."""
    data = connection.sock.recv(65536)
    if not data:
        raise LoadError(f"the connection was closed after {connection.buffer[:200]!r}")
    answer = connection.buffer + data
    if not is_complete(answer):
        connection.buffer = answer
        return None
    connection.buffer = b""
    return answer


def is_complete(answer: bytes) -> bool:
    """Whether an HTTP answer is all there: as many bytes as it announced, or the last chunk."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = answer[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return answer.endswith(_CHUNKED_END) or head[9:12] in (b"204", b"304")
    line_end = head.find(b"\r\n", at + 2)
    length = int(head[at + 17 : line_end if line_end > 0 else None])
    return len(answer) >= end + 4 + length
