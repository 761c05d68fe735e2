"""One connection by hand, where a client library would hide what is on the wire."""

import http.client
import socket
from contextlib import ExitStack
from typing import ClassVar, Final, Self

from tests.support.processes import Process

#: Seconds within which an answer comes that comes at all. daphne looks after its applications once a second.
ANSWER_SECONDS: Final = 10.0
#: Seconds after which a client that got nothing is called hanging.
SILENCE_SECONDS: Final = 2.5


class SocketClient:
    """A connection that is open until the test ends: enter `opened` around the test."""

    opened: ClassVar[ExitStack] = ExitStack()

    def __init__(self, process: Process) -> None:
        self.socket = socket.create_connection(process.address, timeout=ANSWER_SECONDS)
        self.opened.enter_context(self.socket)

    def send(self, path: str, *headers: str) -> Self:
        """Send a GET request."""
        self.socket.sendall(
            "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()
        )
        return self

    def response(self) -> http.client.HTTPResponse:
        """The head of the next response; its body can be read."""
        response = self.opened.enter_context(http.client.HTTPResponse(self.socket))
        response.begin()
        return response

    def hears_nothing(self) -> bool:
        """Whether not one byte comes for a while."""
        self.socket.settimeout(SILENCE_SECONDS)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        return False


class SlowReader(SocketClient):
    """One whose system takes little of what it does not read."""

    def __init__(self, process: Process) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect(process.address)
        self.opened.enter_context(self.socket)
