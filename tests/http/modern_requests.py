"""Good, odd and bad HTTP requests of the modern era, and what is kept of their answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_sessions.transport.asgi import Message
from tests.support.mcp_client import ACCEPT, META, MODERN

#: Seconds that an answer may take.
BOUND: Final = 10
MAX_BODY: Final = 20_000
VERSION, CAPABILITIES, CLIENT = (
    f"io.modelcontextprotocol/{name}" for name in ("protocolVersion", "clientCapabilities", "clientInfo")
)

Headers = list[tuple[bytes, bytes]]
Application = Callable[..., Awaitable[None]]


@dataclass(kw_only=True)
class Asked:
    """One HTTP request."""

    headers: Headers
    #: The parts of its body.
    parts: list[bytes]
    method: str = "POST"
    #: Whether the client leaves in the middle of its body.
    leaves: bool = False


@dataclass(kw_only=True)
class Exchange:
    """A request under way, and what has been answered so far."""

    asked: Asked
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        last = len(self.asked.parts) - 1
        self._unread: list[Message] = [
            {"type": "http.request", "body": part, "more_body": n < last or self.asked.leaves}
            for n, part in enumerate(self.asked.parts)
        ]
        if self.asked.leaves:
            self.left.set()

    async def receive(self) -> Message:
        if self._unread:
            return self._unread.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)

    async def run(self, application: Application) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.asked.method,
            "scheme": "http",
            "path": "/mcp",
            "raw_path": b"/mcp",
            "root_path": "",
            "query_string": b"",
            "headers": list(self.asked.headers),
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }
        await asyncio.wait_for(application(scope, self.receive, self.send), BOUND)

    def answer(self) -> dict[str, Any]:
        """What both must have in common."""
        kind = self.headers.get(b"content-type", b"").decode()
        content: Any = self.body.decode()
        if kind == "application/json":
            content = json.loads(content)
        elif kind == "text/event-stream":
            lines = content.splitlines()
            content = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
        return {
            "status": self.status,
            "type": kind,
            "allow": self.headers.get(b"allow"),
            "session": self.headers.get(b"mcp-session-id"),
            "content": _unsealed(content),
            "ended": self.ended,
        }


def _unsealed(content: Any) -> Any:
    """The same content without what is encrypted anew each time."""
    if isinstance(content, dict) and "requestState" in content.get("result", {}):
        content = {**content, "result": {**content["result"], "requestState": "sealed"}}
    return content


def request(
    method: str = "tools/call",
    params: Any = None,
    *,
    meta: Any = META,
    headers: dict[str, str | None] | None = None,
    more: Headers | None = None,
    **message: Any,
) -> Asked:
    """A request of good form, but for what the case changes. A header that is None is left out."""
    named = params.get("name", params.get("uri")) if isinstance(params, dict) else None
    usual: dict[str, str | None] = {
        "host": "testserver",
        "content-type": "application/json",
        "accept": ACCEPT,
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
        "mcp-name": named if isinstance(named, str) else None,
    }
    if isinstance(params, dict) and meta is not None:
        params = {**params, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params, **message}
    body = {key: value for key, value in body.items() if value is not ...}
    lines = [(n.encode(), v.encode()) for n, v in {**usual, **(headers or {})}.items() if v is not None]
    return Asked(headers=lines + (more or []), parts=[json.dumps(body).encode()])


def call(tool: str, arguments: Any = None, **more: Any) -> Asked:
    return request(params={"name": tool, "arguments": {} if arguments is None else arguments}, **more)


def raw(body: bytes, *, method: str = "tools/call", **more: Any) -> Asked:
    asked = request(method, {"name": "add"}, **more)
    asked.parts = [body]
    return asked


def parts(asked: Asked, *sizes: int) -> Asked:
    """The same body in parts."""
    (body,), asked.parts = asked.parts, []
    for size in sizes:
        asked.parts.append(body[:size])
        body = body[size:]
    asked.parts.append(body)
    return asked


def leaving(asked: Asked) -> Asked:
    asked.leaves = True
    return asked


def with_method(method: str, asked: Asked) -> Asked:
    asked.method = method
    return asked


ADD: Final = {"a": 20, "b": 22}
ENCODED: Final = "=?base64?YWRk?="
TOKEN: Final = {**META, "progressToken": "p"}
LOGS: Final = {**META, "io.modelcontextprotocol/logLevel": "info"}
OTHER: Final = "2099-01-01"

GOOD: Final[dict[str, Callable[[], Asked]]] = {
    "a call": lambda: call("add", ADD),
    "a call in parts": lambda: parts(call("add", ADD), 1, 30, 0, 5),
    "a call without arguments": lambda: request(params={"name": "numbers"}),
    "a sync tool": lambda: call("in_a_thread", {"text": "x"}),
    "odd results": lambda: call("numbers"),
    "a text id": lambda: call("add", ADD, id="seven"),
    "a long id": lambda: call("add", ADD, id="7" * 1000),
    "a large id": lambda: call("add", ADD, id=2**80),
    "more members": lambda: call("add", ADD, extra={"x": 1}),
    "no client": lambda: call("describe", meta={VERSION: MODERN, CAPABILITIES: {}}),
    "what a handler knows": lambda: call("describe", headers={"x-own": "é"}),
    "tools/list": lambda: request("tools/list", {}),
    "prompts/list": lambda: request("prompts/list", {}),
    "resources/list": lambda: request("resources/list", {}),
    "server/discover": lambda: request("server/discover", {}),
    "a prompt": lambda: request("prompts/get", {"name": "introduce", "arguments": {"name": "Ada"}}),
    "a resource": lambda: request("resources/read", {"uri": "modern://greeting"}),
    "a name in base64": lambda: call("add", ADD, headers={"mcp-name": ENCODED}),
    "input required": lambda: call("confirm"),
    "what belongs to no request": lambda: call("announce"),
    "wildcards": lambda: call("add", ADD, headers={"accept": "*/*"}),
    "a charset": lambda: call("add", ADD, headers={"content-type": "application/json; charset=utf-8"}),
    "a session id": lambda: call("add", ADD, headers={"mcp-session-id": "x", "last-event-id": "y"}),
}
STREAMED: Final[dict[str, Callable[[], Asked]]] = {
    "progress": lambda: call("report", {"times": 3}, meta=TOKEN),
    "progress that nobody wants": lambda: call("report", {"times": 3}),
    "progress and an error": lambda: call("report", {"times": 1, "error": -32602}, meta=TOKEN),
    "an error without progress": lambda: call("report", {"times": 0, "error": -32602}, meta=TOKEN),
    "a log entry": lambda: call("log", {"text": "x"}, meta=LOGS),
    "a log entry that nobody wants": lambda: call("log", {"text": "x"}),
    "a log entry below the level": lambda: call(
        "log", {"text": "x"}, meta={**META, "io.modelcontextprotocol/logLevel": "error"}
    ),
}
FAILING: Final[dict[str, Callable[[], Asked]]] = {
    "an unknown tool": lambda: call("nothing"),
    "an unknown method": lambda: request("tools/destroy", {}),
    "a method of the other era": lambda: request("initialize", {}),
    "a ping": lambda: request("ping", {}),
    "a level": lambda: request("logging/setLevel", {"level": "info"}),
    "a tool that raises": lambda: call("fail", {"text": "secret"}),
    "a tool that refuses": lambda: call("refuse", {"text": "no"}),
    "a tool that asks its client": lambda: call("ask"),
    "an unknown prompt": lambda: request("prompts/get", {"name": "nothing"}),
    "a prompt without its argument": lambda: request("prompts/get", {"name": "introduce"}),
    "an unknown resource": lambda: request("resources/read", {"uri": "modern://nothing"}),
    "a broken resource": lambda: request("resources/read", {"uri": "modern://broken"}),
    "wrong arguments": lambda: call("add", {"a": "x"}),
    "arguments in a list": lambda: call("add", [1, 2]),
    "no name": lambda: request(params={"arguments": {}}),
    "a number for a name": lambda: request(params={"name": 7}),
    "a forged state": lambda: request(params={"name": "confirm", "arguments": {}, "requestState": "v1.AAAA"}),
    "a wrong progress token": lambda: call("add", ADD, meta={**META, "progressToken": {}}),
    **{
        f"an MCPError {code}": lambda code=code: call("protest", {"code": code, "data": {"x": [None]}})  # type: ignore[misc]
        for code in (-32700, -32600, -32601, -32602, -32603, -32000, -32020, -32021, -32022, 7)
    },
    "an MCPError without data": lambda: call("protest", {"code": -32602}),
}
ENVELOPES: Final[dict[str, Callable[[], Asked]]] = {
    "no params": lambda: request("tools/list", ...),
    "params that are null": lambda: request("tools/list", None),
    "params in a list": lambda: request("tools/list", [1]),
    "no _meta": lambda: call("add", ADD, meta=None),
    "_meta in a list": lambda: call("add", ADD, meta=[1]),
    "an empty _meta": lambda: call("add", ADD, meta={}),
    "no version": lambda: call("add", ADD, meta={CAPABILITIES: {}}),
    "no capabilities": lambda: call("add", ADD, meta={VERSION: MODERN}),
    "a client that is null": lambda: call("add", ADD, meta={**META, CLIENT: None}),
    "a client without a name": lambda: call("describe", meta={**META, CLIENT: {"version": "1"}}),
    "capabilities that are text": lambda: call("describe", meta={**META, CAPABILITIES: "all"}),
    "a version that is a number": lambda: call("add", ADD, meta={**META, VERSION: 20260728}),
    "a version that is null": lambda: call("add", ADD, meta={**META, VERSION: None}),
    "another version in _meta": lambda: call("add", ADD, meta={**META, VERSION: OTHER}),
    "another version in the header": lambda: call("add", ADD, headers={"mcp-protocol-version": OTHER}),
    "an empty version": lambda: call("add", ADD, headers={"mcp-protocol-version": ""}),
    "an unknown version": lambda: call(
        "add", ADD, meta={**META, VERSION: OTHER}, headers={"mcp-protocol-version": OTHER}
    ),
    "no Mcp-Method": lambda: call("add", ADD, headers={"mcp-method": None}),
    "another Mcp-Method": lambda: call("add", ADD, headers={"mcp-method": "tools/list"}),
    "Mcp-Method in capitals": lambda: call("add", ADD, headers={"mcp-method": "TOOLS/CALL"}),
    "Mcp-Method twice": lambda: call("add", ADD, more=[(b"mcp-method", b"tools/call")]),
    "no Mcp-Name": lambda: call("add", ADD, headers={"mcp-name": None}),
    "another Mcp-Name": lambda: call("add", ADD, headers={"mcp-name": "fail"}),
    "Mcp-Name twice": lambda: call("add", ADD, more=[(b"mcp-name", b"add")]),
    "Mcp-Name in bad base64": lambda: call("add", ADD, headers={"mcp-name": "=?base64?YWR?="}),
    "Mcp-Name of a resource": lambda: request(
        "resources/read", {"uri": "modern://greeting"}, headers={"mcp-name": "modern://other"}
    ),
    "a listener that accepts no stream": lambda: request(
        "subscriptions/listen", {"notifications": {}}, headers={"accept": "application/json"}
    ),
    "a listener for nothing": lambda: request("subscriptions/listen", {}),
    "other headers twice": lambda: call("add", ADD, more=[(b"x-own", b"1"), (b"x-own", b"2")]),
    "a listener by the header only": lambda: call("add", ADD, headers={"mcp-method": "subscriptions/listen"}),
    "a listener by the body only": lambda: request(
        "subscriptions/listen", {"notifications": {}}, headers={"mcp-method": "tools/call"}
    ),
}
REGION, COUNT = b"mcp-param-region", b"mcp-param-count"
PARAMETERS: Final[dict[str, Callable[[], Asked]]] = {
    "right": lambda: call("routed", {"region": "eu", "count": 4}, more=[(REGION, b"eu"), (COUNT, b"4")]),
    "an equal number": lambda: call("routed", {"count": 4}, more=[(COUNT, b"4.0")]),
    "another number": lambda: call("routed", {"count": 4}, more=[(COUNT, b"5")]),
    "in base64": lambda: call("routed", {"region": "eu"}, more=[(REGION, b"=?base64?ZXU=?=")]),
    "in bad base64": lambda: call("routed", {"region": "eu"}, more=[(REGION, b"=?base64?ZXU?=")]),
    "missing": lambda: call("routed", {"region": "eu"}),
    "wrong": lambda: call("routed", {"region": "eu"}, more=[(REGION, b"us")]),
    "twice": lambda: call("routed", {"region": "eu"}, more=[(REGION, b"eu"), (REGION, b"eu")]),
    "without the argument": lambda: call("routed", {}, more=[(REGION, b"eu")]),
    "with a null": lambda: call("routed", {"region": None}, more=[(REGION, b"eu")]),
    "no arguments at all": lambda: request(params={"name": "routed"}),
    "no arguments but a header": lambda: request(params={"name": "routed"}, more=[(REGION, b"eu")]),
    "of a tool without headers": lambda: call("add", ADD, more=[(REGION, b"eu")]),
    "of an unknown tool": lambda: call("nothing", {"region": "eu"}, more=[(REGION, b"us")]),
    "of another tool": lambda: call("plain", {"region": "eu"}, more=[(REGION, b"us")]),
    "with a bad envelope": lambda: call("routed", {"region": "eu"}, meta={**META, CAPABILITIES: "all"}),
}
BODY: Final = call("add", ADD).parts[0]
BODIES: Final[dict[str, Callable[[], Asked]]] = {
    "empty": lambda: raw(b""),
    "not JSON": lambda: raw(b"{"),
    "not UTF-8": lambda: raw(b"\xff\xfe\x00"),
    "UTF-16": lambda: raw(BODY.decode().encode("utf-16")),
    "a byte order mark": lambda: raw(b"\xef\xbb\xbf" + BODY),
    "NaN": lambda: raw(BODY.replace(b": 20", b": NaN")),
    "a number with many digits": lambda: raw(BODY.replace(b": 20", b": " + b"9" * 6000)),
    "a lone surrogate": lambda: raw(BODY.replace(b'"add"', b'"\\ud800"')),
    "nested deeply": lambda: raw(BODY.replace(b": 20", b": " + b"[" * 70 + b"]" * 70)),
    "nested very deeply": lambda: raw(b"[" * 15_000),
    "a batch": lambda: raw(b"[" + BODY + b"]"),
    "a number": lambda: raw(b"7"),
    "null": lambda: raw(b"null"),
    "a member twice": lambda: raw(BODY.replace(b'"id": 7', b'"id": 7, "id": 8')),
    "another JSON-RPC": lambda: call("add", ADD, jsonrpc="1.0"),
    "an id that is null": lambda: call("add", ADD, id=None),
    "an id that is a fraction": lambda: call("add", ADD, id=7.5),
    "an id that is true": lambda: call("add", ADD, id=True),
    "an id in a list": lambda: call("add", ADD, id=[7]),
    "no method": lambda: raw(b'{"jsonrpc":"2.0","id":7,"params":{}}'),
    "a notification": lambda: request("notifications/cancelled", {"requestId": 7}, id=...),
    "a notification that nobody knows": lambda: request("notifications/x", {}, id=...),
    "a notification of another version": lambda: request(
        "notifications/x", {}, id=..., headers={"mcp-protocol-version": OTHER}
    ),
    "a malformed notification": lambda: raw(b'{"jsonrpc":"2.0","method":7}'),
    "a response": lambda: raw(b'{"jsonrpc":"2.0","id":7,"result":{}}'),
    "too large": lambda: call("in_a_thread", {"text": "x" * MAX_BODY}),
    "too large, in parts": lambda: parts(call("in_a_thread", {"text": "x" * MAX_BODY}), 15_000),
    "too large, as it says": lambda: call("add", ADD, headers={"content-length": str(MAX_BODY + 1)}),
    "no content type": lambda: call("add", ADD, headers={"content-type": None}),
    "another content type": lambda: call("add", ADD, headers={"content-type": "text/plain"}),
    "a similar content type": lambda: call("add", ADD, headers={"content-type": "application/json-seq"}),
    "no Accept": lambda: call("add", ADD, headers={"accept": None}),
    "only JSON accepted": lambda: call("add", ADD, headers={"accept": "application/json"}),
    "only streams accepted": lambda: call("add", ADD, headers={"accept": "text/event-stream"}),
    "GET": lambda: with_method("GET", call("add", ADD)),
    "DELETE": lambda: with_method("DELETE", call("add", ADD)),
}
TABLES: Final = {
    "good": GOOD,
    "streamed": STREAMED,
    "failing": FAILING,
    "envelopes": ENVELOPES,
    "parameters": PARAMETERS,
    "bodies": BODIES,
}
