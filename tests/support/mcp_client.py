"""An MCP client that shows its HTTP: status, headers, and each event of an event stream."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
from httpx2 import EventSource, ServerSentEvent

from mcp_sessions.ids import fingerprint

ACCEPT: Final = "application/json, text/event-stream"
LATEST: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
#: What every request of the modern era says of its client.
META: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}
#: Seconds that any answer may take.
BOUND: Final = 30.0
#: One pool of connections for the whole run.
HTTP: Final = httpx2.Client(timeout=BOUND)


@dataclass(kw_only=True)
class RawClient:
    """One session's client. The server's address is given with each call: any process must work."""

    path: str = "/mcp"
    version: str = LATEST
    session_id: str | None = None
    token: str | None = None
    http: httpx2.Client = field(default_factory=lambda: HTTP)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def fingerprint(self) -> str:
        """Of the session, as stores and the admin name it."""
        return fingerprint(self.session_id or "")

    def headers(self, **more: str | None) -> dict[str, str]:
        """The headers of a well-behaved client; None removes one. Underscores stand for hyphens."""
        headers: dict[str, str | None] = {
            "accept": ACCEPT,
            "content-type": "application/json",
            "mcp-session-id": self.session_id,
            "mcp-protocol-version": self.version if self.session_id else None,
            "authorization": f"Bearer {self.token}" if self.token else None,
        }
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        return {name: value for name, value in headers.items() if value is not None}

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A JSON-RPC request with an id of its own."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": next(self.ids), "method": method}
        return message if params is None else {**message, "params": params}

    def calling(self, tool: str, *, under: str = "p", **arguments: Any) -> dict[str, Any]:
        """A call that asks for progress under that token."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": under}}
        return self.request("tools/call", params)

    def post(self, url: str, message: Any, **headers: str | None) -> httpx2.Response:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.http.post(url + self.path, content=body, headers=self.headers(**headers))

    def delete(self, url: str, **headers: str | None) -> httpx2.Response:
        return self.http.delete(url + self.path, headers=self.headers(content_type=None, **headers))

    @contextmanager
    def get(self, url: str, **headers: str | None) -> Iterator[httpx2.Response]:
        """The standalone stream, or a resumed one with last_event_id=…"""
        wanted = self.headers(**{"accept": "text/event-stream", "content_type": None, **headers})
        with self.http.stream("GET", url + self.path, headers=wanted) as response:
            yield response

    @contextmanager
    def stream(self, url: str, message: dict[str, Any], **headers: str | None) -> Iterator[httpx2.Response]:
        """Post a request and read its answer as it comes."""
        body = json.dumps(message).encode()
        with self.http.stream(
            "POST", url + self.path, content=body, headers=self.headers(**headers)
        ) as response:
            yield response

    def initialize(self, url: str, **params: Any) -> dict[str, Any]:
        """Open a session on the process at `url`, and tell it that the client is ready."""
        response = self.post(url, self.initialize_message(**params))
        assert response.status_code == 200, response.text
        self.session_id = response.headers["mcp-session-id"]
        answer: dict[str, Any] = response.json()["result"]
        ready = self.post(url, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert ready.status_code == 202, ready.text
        return answer

    def initialize_message(self, **params: Any) -> dict[str, Any]:
        defaults = {
            "protocolVersion": self.version,
            "capabilities": {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}},
            "clientInfo": {"name": "raw-client", "version": "1.0"},
        }
        return self.request("initialize", defaults | params)

    def call(self, url: str, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return the JSON-RPC response, however it is framed."""
        response = self.post(url, self.request("tools/call", {"name": tool, "arguments": arguments}))
        assert response.status_code == 200, response.text
        return answer_of(response)

    def value(self, url: str, tool: str, **arguments: Any) -> Any:
        """Call a tool and return its structured result."""
        response = self.call(url, tool, **arguments)
        assert "result" in response, response
        assert not response["result"].get("isError"), response
        return response["result"].get("structuredContent", {}).get("result")


def connected(url: str, **params: Any) -> RawClient:
    """A client with a session that the process at `url` initialized; `params` are those of `initialize`."""
    client = RawClient()
    client.initialize(url, **params)
    return client


def cancelling(request: dict[str, Any]) -> dict[str, Any]:
    """The notification that cancels a request."""
    params = {"requestId": request["id"], "reason": "changed my mind"}
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}


@contextmanager
def hearing_of_tools(url: str) -> Iterator[Iterator[dict[str, Any]]]:
    """What a client of the modern era hears when it listens for changes of the tools."""
    client = RawClient()
    wanted = {"notifications": {"toolsListChanged": True}, "_meta": META}
    listen = client.request("subscriptions/listen", wanted)
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    with client.stream(url, listen, **headers) as response:
        heard = messages(response)
        assert next(heard)["method"] == "notifications/subscriptions/acknowledged"
        yield heard


def answer_of(response: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC response in an HTTP response that was read to its end."""
    if response.headers["content-type"].startswith("application/json"):
        value: dict[str, Any] = response.json()
        return value
    return list(messages(response))[-1]


def events(response: httpx2.Response) -> Iterator[ServerSentEvent]:
    """The events of an event stream, as they come. The connection is closed when the iterator is forgotten."""
    return iter(EventSource(response, max_event_size=None))


def messages(response: httpx2.Response) -> Iterator[dict[str, Any]]:
    """The messages of an event stream, as they come: events with data."""
    return (message_of(event) for event in events(response) if event.data)


def message_of(event: ServerSentEvent) -> dict[str, Any]:
    """The message that an event carries."""
    message: dict[str, Any] = json.loads(event.data)
    return message
