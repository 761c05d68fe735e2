"""Requests that no client sends: good ones, changed at random, as bytes on a socket. The same seed gives the same.

Each takes apart a request that would be answered well, and changes some of its parts: method, path, headers, ids,
tokens, event ids, the JSON of the body, or the bytes of all of it.
"""

import http.client
import itertools
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.mcp_client import ACCEPT, LATEST, META, MODERN, RawClient

#: What the server under attack is configured with, beside its Redis and its namespace.
ENVIRONMENT: Final = {
    "MCP_SERVER": "tests.served.curious.server",
    "MCP_AUTHENTICATION": "token",
    "MCP_TOKEN_VERIFIER": "tests.served.tokens.Verifier",
    "MCP_ISSUER_URL": "https://issuer.example.com",
    "MCP_RESOURCE_URL": "https://mcp.example.com/mcp",
    "MCP_MAX_SESSIONS_PER_PRINCIPAL": "none",
}
#: The tokens that are sent to it, good ones and others.
TOKENS: Final = (
    "ann-1",
    "bob-1",
    "ann-2",
    "bob-2",
    "ann-3",
    "ann-until-1000",
    "ann-revoked",
    "ann-elsewhere",
    "unscoped-1",
    "nobody-1",
)
#: Seconds after which a request counts as one that hangs.
HANGS: Final = 20.0
#: Threads that send.
SENDERS: Final = 8

Header = tuple[bytes, bytes]

_METHODS: Final = ("POST",) * 8 + (
    "GET",
    "DELETE",
    "OPTIONS",
    "PUT",
    "HEAD",
    "PATCH",
    "post",
    "TRACE",
    "M-SEARCH",
)
#: Of the endpoint, as they may be written. Other paths are Django's.
_PATHS: Final = ("/mcp",) * 12 + (
    "/mcp/",
    "/mcp?x=%00",
    "//mcp",
    "/%6dcp",
    "/.well-known/oauth-protected-resource/mcp",
)
_CALLS: Final = (
    "initialize",
    "initialize",
    "initialize",
    "ping",
    "tools/call",
    "tools/call",
    "tools/call",
    "tools/list",
    "resources/subscribe",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "server/discover",
    "",
    "__init__",
    "a" * 300,
)
_VERSIONS: Final = (LATEST, MODERN, "2025-03-26", "2024-11-05", "1999-01-01", "", "latest")
_ODD: Final[Sequence[Any]] = (
    None,
    True,
    0,
    -1,
    2**63,
    10**400,
    1e308,
    0.1,
    "",
    "\x00",
    "\ud800",
    "\u202e\r\n",
    "x" * 5000,
    [],
    {},
    [[]],
    {"": {"": {}}},
)


@dataclass(kw_only=True)
class Known:
    """What an attacker may have got hold of. Senders add to it."""

    host: str
    #: Of this service: good, expired, revoked, for another server.
    tokens: Sequence[str]
    session_ids: list[str] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    handles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One request."""

    method: str
    raw: bytes
    #: Whether its HTTP is intact, so that there must be an answer.
    is_http: bool


def requests(seed: int, known: Known) -> Iterator[Hostile]:
    """Requests without end."""
    chance = random.Random(seed)  # noqa: S311 - the same ones again, not secrets
    while True:
        yield _Maker(chance, known).make()


@dataclass
class _Maker:
    chance: random.Random
    known: Known

    def make(self) -> Hostile:
        chance = self.chance
        method, path = chance.choice(_METHODS), chance.choice(_PATHS)
        body = self._body() if method not in ("GET", "DELETE", "HEAD") or chance.random() < 0.2 else b""
        headers = self._headers()
        is_http = True
        lengths = [(b"content-length", b"%d" % len(body))]
        if body and chance.random() < 0.1:
            lengths, body = [(b"transfer-encoding", b"chunked")], _chunked(body)
        if chance.random() < 0.03:
            lengths, is_http = (
                [(b"content-length", chance.choice((b"-1", b"9" * 30, b"1e3", b"", b"+5")))],
                False,
            )
        lines = [f"{method} {path} HTTP/1.1".encode("latin-1")]
        lines += [name + b": " + value for name, value in (*headers, *lengths)]
        raw = b"\r\n".join(lines) + b"\r\n\r\n" + body
        if chance.random() < 0.05:
            raw, is_http = self._bytes(raw), False
        return Hostile(
            method=method, raw=raw, is_http=is_http and b"\n" not in b"".join(v for _, v in headers)
        )

    def _headers(self) -> list[Header]:
        chance, known = self.chance, self.known
        version = chance.choice(_VERSIONS[:2]) if chance.random() < 0.8 else chance.choice(_VERSIONS)
        headers = {
            "host": known.host,
            "accept": ACCEPT,
            "content-type": "application/json",
            "authorization": f"Bearer {chance.choice(known.tokens)}",
            "mcp-protocol-version": version,
        }
        if chance.random() < 0.6 and known.session_ids:
            headers["mcp-session-id"] = chance.choice(known.session_ids)
        if version == MODERN:
            headers |= {
                "mcp-method": chance.choice(("tools/call", "tools/call", "initialize", "ping", "")),
                "mcp-name": "look",
            }
        if chance.random() < 0.2 and known.event_ids:
            headers["last-event-id"] = chance.choice(known.event_ids)
        if chance.random() < 0.1:
            headers["origin"] = chance.choice((f"http://{known.host}", "null", "http://evil.example", "\xff"))
        made = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
            self._spoil(made)
        return made

    def _spoil(self, headers: list[Header]) -> None:
        """Drop, repeat, change or add one."""
        chance = self.chance
        at = chance.randrange(len(headers)) if headers else 0
        match chance.randrange(5):
            case 0 if headers:
                del headers[at]
            case 1 if headers:
                headers.append(headers[at])
            case 2 if headers:
                headers[at] = headers[at][0], self._printable(headers[at][1])
            case 3:
                odd = (
                    b"mcp-param-x",
                    b"x-forwarded-user",
                    b"cookie",
                    b"last-event-id",
                    b"expect",
                    b"x" * 200,
                )
                headers.append((chance.choice(odd), self._printable(b"")))
            case _ if headers:
                headers[at] = headers[at][0].upper().replace(b"-", b"_"), headers[at][1]

    def _body(self) -> bytes:
        chance = self.chance
        message: Any = {
            "jsonrpc": "2.0",
            "id": chance.choice((1, "a", 2**40)),
            "method": chance.choice(_CALLS),
        }
        message["params"] = self._params(message["method"])
        for _ in range(chance.choice((0, 0, 1, 2, 4))):
            self._change(message)
        if chance.random() < 0.05:
            message = [message] * chance.choice((0, 1, 50))
        body = json.dumps(message).encode()
        match chance.randrange(20):
            case 0:
                return body[: chance.randrange(len(body) + 1)]
            case 1:
                return self._bytes(body)
            case 2:
                return b"[" * chance.choice((10, 1000, 100_000))
            case 3:
                return body.replace(b"1", chance.choice((b"NaN", b"Infinity", b"1e999", b"1" * 5000)))
            case 4:
                return body[:-1] + b"," + body[1:]  # each key twice
            case _:
                return body

    def _params(self, method: str) -> dict[str, Any]:
        known, chance = self.known, self.chance
        box = chance.choice(known.handles) if known.handles else "box-111-111-111"
        tools: tuple[tuple[str, dict[str, str]], ...] = (
            ("keep", {"what": "x"}),
            ("look", {}),
            ("make_box", {}),
            ("open_box", {"box": box}),
            ("none", {}),
        )
        name, arguments = chance.choice(tools)
        return {
            "name": name,
            "arguments": arguments,
            "_meta": {**META, "progressToken": 1},
            "protocolVersion": chance.choice(_VERSIONS),
            "capabilities": {},
            "clientInfo": {"name": "hostile", "version": "1"},
            "requestId": 1,
            "uri": "x://y",
            "level": "debug",
            "notifications": {"toolsListChanged": True},
        }

    def _change(self, message: Any) -> None:
        """Put something odd somewhere."""
        chance, here = self.chance, message
        while isinstance(here, dict) and here:
            key = chance.choice(sorted(here))
            if not isinstance(here[key], dict) or chance.random() < 0.3:
                if chance.random() < 0.3:
                    del here[key]
                else:
                    # A copy: what is changed later must not be in the message twice, or in itself.
                    here[key] = deepcopy(chance.choice(_ODD))
                return
            here = here[key]

    def _printable(self, value: bytes) -> bytes:
        """A value that HTTP allows, such as nobody sends."""
        chance = self.chance
        made = bytearray(value)
        for _ in range(chance.choice((1, 3, 30, 2000))):
            made.insert(chance.randrange(len(made) + 1), chance.choice(b'\tA9 =;,"\\%~-_.\x80\xff'))
        return bytes(made).strip(b" \t")

    def _bytes(self, value: bytes) -> bytes:
        """Some bytes changed, removed or doubled."""
        chance, made = self.chance, bytearray(value)
        for _ in range(chance.choice((1, 3, 20))):
            if made:
                at = chance.randrange(len(made))
                match chance.randrange(3):
                    case 0:
                        made[at] = chance.randrange(256)
                    case 1:
                        del made[at : at + chance.randrange(20)]
                    case _:
                        made[at:at] = made[at : at + 10]
        return bytes(made)


def _chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass(kw_only=True)
class Outcome:
    """What came of a run."""

    seed: int
    statuses: Counter[int] = field(default_factory=Counter)
    #: Sessions that were opened, by their ids.
    opened: set[str] = field(default_factory=set)
    #: Requests that open a session, if they were understood, and whose sender left before an answer came.
    left: int = 0
    #: Requests that were answered with 5xx, with what was answered, or not at all.
    bad: list[tuple[bytes, str]] = field(default_factory=list)
    seconds: float = 0.0


def run(port: int, known: Known, *, count: int, seed: int) -> Outcome:
    """Send so many requests to a server on this machine, from several threads."""
    outcome, lock = Outcome(seed=seed), threading.Lock()
    waiting = itertools.islice(requests(seed, known), count)
    begun = time.monotonic()

    def send_some() -> None:
        connection: socket.socket | None = None
        while True:
            with lock:
                request = next(waiting, None)
            if request is None:
                break
            connection, status, headers, text = _sent(port, connection, request)
            with lock:
                outcome.statuses[status] += 1
                outcome.left += status == 0 and b"initialize" in request.raw
                if (session_id := headers.get("mcp-session-id")) and status == 200:
                    outcome.opened.add(session_id)
                    known.session_ids[: len(known.session_ids) - 50] = []
                    known.session_ids.append(session_id)
                if status >= 500 or (status == 0 and request.is_http):
                    outcome.bad.append((request.raw, f"{status} {text}"))
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=send_some) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.monotonic() - begun
    return outcome


def _sent(
    port: int, connection: socket.socket | None, request: Hostile
) -> tuple[socket.socket | None, int, dict[str, str], str]:
    """The connection if it can be used again, the status (0 without an answer), the headers, and some of the body."""
    fresh = connection is None
    connection = connection or socket.create_connection(("127.0.0.1", port), timeout=HANGS)
    try:
        connection.sendall(request.raw)
        if not request.is_http:
            connection.shutdown(socket.SHUT_WR)  # what is not complete stays so
        response = http.client.HTTPResponse(connection, method=request.method.upper())
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        is_stream = headers.get("content-type", "").startswith("text/event-stream")
        text = response.read1(2000) if is_stream else response.read()
        keeps = request.is_http and not is_stream and not response.will_close
        if not keeps:
            connection.close()
        return (connection if keeps else None), response.status, headers, text[:2000].decode("latin-1")
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        if not fresh and not isinstance(error, TimeoutError):
            return _sent(port, None, request)  # the server may close an idle connection at any time
        return None, 0, {}, repr(error)


def prepared(url: str, tokens: Sequence[str]) -> Known:
    """What an attacker starts with: sessions that are open, that have ended and that are foreign, and a handle."""
    known = Known(host=url.removeprefix("http://"), tokens=tokens)
    for number, token in enumerate((tokens[0], tokens[0], tokens[1])):
        client = RawClient(token=token)
        client.initialize(url)
        assert client.session_id is not None
        known.session_ids.append(client.session_id)
        with client.get(url) as stream:
            known.event_ids += [line[3:].strip() for line in _lines(stream) if line.startswith("id:")][:1]
        known.handles.append(str(client.value(url, "make_box")))
        if number == 1:
            client.delete(url)
    return known


def _lines(stream: Any) -> Iterator[str]:
    """The lines of the first event."""
    for line in stream.iter_lines():
        if not line:
            return
        yield line
