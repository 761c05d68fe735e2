"""One connection by hand, where a client library would hide what is on the wire."""

import http.client
import os
import socket
from contextlib import ExitStack
from typing import ClassVar, Final, Self

from tests.support.processes import Process

#: Seconds to wait for an answer. daphne looks after its applications once a second.
ANSWER_SECONDS: Final = 10.0
#: Seconds after which a client that got nothing counts as hanging.
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
        """Whether no byte at all comes for a while."""
        self.socket.settimeout(SILENCE_SECONDS)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        return False


class WebSocketClient(SocketClient):
    """A WebSocket by hand (RFC 6455). Its messages are short."""

    TEXT: Final = 1
    CLOSE: Final = 8

    def open(self, path: str, *headers: str) -> int:
        """Ask for the upgrade; the status of the answer, 101 if it is granted."""
        self.ask(path, *headers)
        return self.status()

    def ask(self, path: str, *headers: str) -> None:
        key = "Sec-WebSocket-Key: " + "A" * 22 + "=="
        self.send(
            path, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key, *headers
        )

    def status(self) -> int:
        """The status of the answer to `ask`."""
        self._response = self.response()
        return self._response.status

    def say(self, text: str) -> None:
        self._frame(self.TEXT, text.encode())

    def heard(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame."""
        first, length = self._read(2)
        return first & 15, self._read(length)

    def close_code(self) -> int:
        """The code with which the server closes next; it is answered."""
        opcode, payload = self.heard()
        assert opcode == self.CLOSE, (opcode, payload)
        self._frame(self.CLOSE, payload)
        return int.from_bytes(payload[:2])

    def _read(self, count: int) -> bytes:
        return self._response.fp.read(count)

    def _frame(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        self.socket.sendall(bytes([128 | opcode, 128 | len(payload)]) + mask + masked)


class SlowReader(SocketClient):
    """A client whose system buffers little of what it does not read."""

    def __init__(self, process: Process) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect(process.address)
        self.opened.enter_context(self.socket)
