"""MCP as bytes on the wire: what the load sends, and what it expects back."""

import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.load import LoadError, Wire

PROTOCOL_VERSION = "2025-11-25"
MODERN_VERSION = "2026-07-28"
#: The sum of the arguments of every call, as it appears in every right answer and in no wrong one.
EXPECTED = b"40002"
#: Sessions that are initialized before the first of them gets `notifications/initialized`.
BATCH = 200
_CAPABILITIES = {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}}
_CLIENT_INFO = {"name": "benchmark-client", "version": "1.0.0"}
_INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": _CAPABILITIES,
            "clientInfo": _CLIENT_INFO,
        },
    }
).encode()
_INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
#: Request ids have a fixed width so that a request is three joined pieces of bytes.
_FIRST_ID = 1_000_000_000
_CALL = (
    b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"add","arguments":{"a":40000,"b":2}}}'
)
#: What a request of the modern era says of its client.
MODERN_ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
    "io.modelcontextprotocol/clientInfo": _CLIENT_INFO,
    "io.modelcontextprotocol/clientCapabilities": _CAPABILITIES,
}
_MODERN_CALL = (
    b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"add","arguments":{"a":40000,"b":2},'
    b'"_meta":' + json.dumps(MODERN_ENVELOPE).encode() + b"}}"
)
_MODERN_HEADERS = (
    f"MCP-Protocol-Version: {MODERN_VERSION}",
    "Mcp-Method: tools/call",
    "Mcp-Name: add",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a server answers."""

    port: int
    path: str
    #: Headers that go with each request.
    more: tuple[str, ...] = ()

    def request(self, body: bytes, *, session: str | None = None, method: str = "POST") -> bytes:
        """One HTTP request as bytes."""
        more = [] if session is None else _session_headers(session)
        return self.head(len(body), more, method=method) + body

    def head(self, length: int, more: Iterable[str], *, method: str = "POST") -> bytes:
        """The request line and the headers of a request with so many bytes of body, and more headers."""
        lines = [
            f"{method} {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            f"Content-Length: {length}",
            *self.more,
            *more,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def initialize_request(target: Target) -> bytes:
    """A request that opens a session."""
    return target.request(_INITIALIZE)


def invented_request(target: Target) -> bytes:
    """A call with a session id that nobody has given."""
    invented = f"1{secrets.token_hex(6)}{secrets.token_urlsafe(60)}"
    return target.request(_CALL % str(_FIRST_ID).encode(), session=invented)


def open_sessions(target: Target, count: int, *, connections: int = 8) -> list[str]:
    """Initialize so many sessions and tell the server that each is initialized; their ids. Raises: LoadError.

    In batches, because a client would not wait long between the two either.
    """
    sessions: list[str] = []
    with Wire(port=target.port, size=min(count, connections)) as wire:
        while len(sessions) < count:
            sessions += _open_batch(wire, target, min(BATCH, count - len(sessions)))
    return sessions


def _open_batch(wire: Wire, target: Target, count: int) -> list[str]:
    opened: list[str] = []

    def keep(_: int, answer: bytes, __: float) -> None:
        opened.append(_session_id(answer))

    wire.run(itertools.repeat(target.request(_INITIALIZE), count), keep)
    wire.run((target.request(_INITIALIZED, session=session) for session in opened), _expect_success)
    return opened


def end_sessions(target: Target, sessions: Sequence[str], *, connections: int = 8) -> None:
    """DELETE the sessions. Raises: LoadError."""
    with Wire(port=target.port, size=min(len(sessions), connections)) as wire:
        wire.run((target.request(b"", session=s, method="DELETE") for s in sessions), _expect_success)


def calls(target: Target, sessions: Sequence[str]) -> Iterator[bytes]:
    """Endless `tools/call` requests, each with an id of its own, one session after the other."""
    length = len(_CALL % str(_FIRST_ID).encode())
    heads = [target.head(length, _session_headers(session)) for session in sessions]
    for number, head in enumerate(itertools.cycle(heads), start=_FIRST_ID):
        yield head + _CALL % str(number).encode()


def modern_calls(target: Target) -> Iterator[bytes]:
    """The same calls in the modern era."""
    head = target.head(len(_MODERN_CALL % str(_FIRST_ID).encode()), _MODERN_HEADERS)
    for number in itertools.count(_FIRST_ID):
        yield head + _MODERN_CALL % str(number).encode()


def _session_headers(session: str) -> list[str]:
    return [f"Mcp-Session-Id: {session}", f"MCP-Protocol-Version: {PROTOCOL_VERSION}"]


def check_answer(answer: bytes) -> None:
    """Raises: LoadError unless this is the right answer to a call."""
    if answer[9:12] != b"200":
        raise LoadError(f"an answer with status {answer[9:12].decode()}: {answer[-200:]!r}")
    if EXPECTED not in answer:
        raise LoadError(f"a wrong answer: {answer[-200:]!r}")


def _expect_success(_: int, answer: bytes, __: float) -> None:
    if answer[9:10] != b"2":
        raise LoadError(f"refused: {answer[:600]!r}")


def _session_id(answer: bytes) -> str:
    for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"mcp-session-id":
            return value.strip().decode()
    raise LoadError(f"no session id in {answer[:600]!r}")
