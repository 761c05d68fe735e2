"""What an endpoint makes of a request before it is served: who is refused, and in which era it is served."""

import json
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.http import endpoint as http_endpoint
from mcp_sessions.http import responses
from mcp_sessions.transport import rejections


class Coming:
    """A request that comes to an endpoint, and whether it went on to authentication."""

    def __init__(
        self, patch: pytest.MonkeyPatch, *headers: tuple[bytes, bytes], method: str = "POST"
    ) -> None:
        patch.setattr(http_endpoint, "gated", lambda *_: self._serve)
        self.endpoint = http_endpoint.MCPEndpoint("default")
        self.blocks: Any = Mock(any=False, known=True, load=AsyncMock())
        self.endpoint._blocks = self.blocks
        self.served: list[Any] = []
        self.sent: list[Any] = []
        usual = [] if b"host" in dict(headers) else [(b"host", b"testserver")]
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": "/mcp",
            "client": ("127.0.0.1", 5),
            "headers": [*usual, *headers],
        }

    async def _serve(self, scope: Any, _: Any, send: Any) -> None:
        self.served.append(scope)
        await responses.respond(send, 299)

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def come(self) -> int:
        """The status of the answer: 299 if it was let in."""
        self.sent.clear()
        await self.endpoint(self.scope, AsyncMock(), self.send)
        return int(self.sent[0]["status"])

    def header(self, name: bytes) -> list[bytes]:
        """In the answer."""
        return [value for each, value in self.sent[0]["headers"] if each == name]


async def test_a_request_goes_on_as_it_came_unless_it_repeats_a_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Coming(monkeypatch, (b"accept", b"text/html"))
    assert await asked.come() == 299, "no page for what is no GET"
    assert asked.served[0] is asked.scope
    assert asked.header(b"access-control-allow-origin") == []
    lists = Coming(monkeypatch, (b"accept", b"a/b"), (b"accept", b"c/d"), (b"x-own", b"1"), (b"x-own", b"2"))
    assert await lists.come() == 299
    [scope] = lists.served
    assert (scope["method"], scope["path"]) == ("POST", "/mcp")
    assert sorted(scope["headers"]) == [
        (b"accept", b"a/b, c/d"),
        (b"host", b"testserver"),
        (b"x-own", b"1"),
        (b"x-own", b"2"),
    ]
    twice = Coming(monkeypatch, (b"mcp-session-id", b"1"), (b"mcp-session-id", b"2"))
    assert await twice.come() == 400
    assert json.loads(twice.sent[1]["body"])["error"]["message"] == rejections.REPEATED_HEADER.message
    assert twice.served == []


async def test_a_page_of_another_origin_or_host_is_refused_and_one_of_an_allowed_origin_may_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await Coming(monkeypatch, (b"host", b"evil.example")).come() == 421
    foreign = Coming(monkeypatch, (b"origin", b"https://evil.example"))
    assert await foreign.come() == 403
    assert foreign.header(b"access-control-allow-origin") == []
    own = Coming(monkeypatch, (b"origin", b"http://testserver"))
    assert await own.come() == 299
    assert own.header(b"access-control-allow-origin") == [b"http://testserver"]
    asking = Coming(
        monkeypatch,
        (b"origin", b"http://testserver"),
        (b"access-control-request-headers", b"mcp-param-region"),
        method="OPTIONS",
    )
    assert await asking.come() == 204
    assert asking.header(b"access-control-allow-headers")[0].endswith(b", mcp-param-region")
    assert asking.header(b"access-control-allow-origin") == [b"http://testserver"]
    assert asking.served == []
    bare = Coming(monkeypatch, method="OPTIONS")
    assert await bare.come() == 204
    assert b"mcp-param" not in bare.header(b"access-control-allow-headers")[0]
    assert not bare.blocks.load.called


async def test_a_blocked_address_is_refused_before_anybody_is_authenticated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Coming(monkeypatch)
    asked.blocks.refuse.return_value = True
    assert await asked.come() == 299, "nobody is blocked"
    assert not asked.blocks.load.called
    asked.blocks.known = False

    async def load() -> None:
        asked.blocks.any = True

    asked.blocks.load.side_effect = load
    assert await asked.come() == 403
    asked.blocks.refuse.assert_called_once_with(Asker(address="127.0.0.1"))
    asked.blocks.refuse.return_value = False
    assert await asked.come() == 299


async def test_a_browser_gets_a_page_and_a_client_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Coming(monkeypatch, (b"accept", b"text/html"), method="GET")
    assert await browser.come() == 200
    assert b"<html" in browser.sent[1]["body"]
    assert browser.served == []
    assert await Coming(monkeypatch, (b"accept", b"text/event-stream"), method="GET").come() == 299


async def test_an_endpoint_is_known_to_be_served_with_the_settings_of_its_gate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Mock()
    monkeypatch.setattr(http_endpoint, "gated", gate)
    monkeypatch.setattr(http_endpoint, "served", served := set[str]())
    wrap: Any = object()
    made = http_endpoint.MCPEndpoint("default", authenticate=wrap)
    assert served == {"default"}
    conf, dispatch, authenticators, authenticate = gate.call_args.args
    assert (conf.alias, dispatch, authenticate) == ("default", made._dispatch, wrap)
    assert authenticators is made.authenticators
    http_endpoint.MCPEndpoint.as_asgi("default", authenticate=wrap)
    assert gate.call_args.args[3] is wrap


class Dispatched:
    """A request of an authenticated client that comes to an endpoint, and what serves it."""

    def __init__(self, patch: pytest.MonkeyPatch, method: str = "POST", version: str | None = None) -> None:
        self.endpoint = http_endpoint.MCPEndpoint("default")
        self.served: list[Any] = []
        self.fails = False
        self.endpoint._blocks = Mock(any=False)
        self.sent: list[Any] = []
        headers = [] if version is None else [(b"mcp-protocol-version", version.encode())]
        self.scope: dict[str, Any] = {"type": "http", "method": method, "headers": headers}
        self.body = b"{}"

        async def serve(request: Any) -> None:
            self.served.append(request)
            if self.fails:
                raise StoreUnavailable("away")

        async def modern(*about: Any) -> None:
            self.served.append(("modern", *about))

        patch.setattr(http_endpoint, "_HANDLERS", dict.fromkeys(("POST", "GET", "DELETE"), serve))
        patch.setattr(http_endpoint, "serve_modern", modern)
        patch.setattr(http_endpoint, "runtime_for", AsyncMock(side_effect=lambda alias: f"runtime {alias}"))

    async def receive(self) -> Any:
        return {"type": "http.request", "body": self.body}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def come(self) -> int:
        """The status that it is refused with; 0 if it was served."""
        await self.endpoint._dispatch(self.scope, self.receive, self.send)
        return int(self.sent[0]["status"]) if self.sent else 0


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_each_method_is_served_for_whom_authentication_found(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    asked = Dispatched(monkeypatch, method, "2025-11-25")
    assert await asked.come() == 0
    user = Mock(is_authenticated=True, pk=5)
    asked.scope["user"] = user
    assert await asked.come() == 0
    nobody, known = asked.served
    assert [each.identity.principal for each in (nobody, known)] == ["anonymous", "user:5"]
    assert (known.runtime, known.scope, known.headers) == (
        "runtime default",
        asked.scope,
        {b"mcp-protocol-version": b"2025-11-25"},
    )
    assert (known.receive, known.send, known.conf.alias) == (asked.receive, asked.send, "default")


@pytest.mark.parametrize(
    ("method", "version", "status", "modern"),
    [
        ("PUT", None, 405, False),
        ("PUT", "2026-07-28", 405, False),
        ("GET", "2099-01-01", 400, False),
        ("DELETE", "2099-01-01", 400, False),
        ("POST", "2099-01-01", 0, True),
        ("POST", "2026-07-28", 0, True),
        ("GET", "2026-07-28", 0, True),
        ("POST", None, 0, False),
        ("GET", None, 0, False),
    ],
)
async def test_its_version_says_which_era_a_request_is_of(
    monkeypatch: pytest.MonkeyPatch, method: str, version: str | None, status: int, modern: bool
) -> None:
    asked = Dispatched(monkeypatch, method, version)
    assert await asked.come() == status
    if modern:
        assert asked.served == [("modern", "runtime default", asked.scope, asked.receive, asked.send)]
    assert len(asked.served) == (status == 0)


async def test_a_blocked_principal_is_refused_where_anybody_is_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Dispatched(monkeypatch)
    refuse = Mock(side_effect=lambda asker: asker.principal == "user:5")
    asked.endpoint._blocks = Mock(any=False, refuse=refuse)
    asked.scope["user"] = Mock(is_authenticated=True, pk=5)
    assert await asked.come() == 0
    asked.endpoint._blocks.any = True
    assert await asked.come() == 403
    del asked.scope["user"], asked.sent[:]
    assert await asked.come() == 0


async def test_a_request_that_misses_the_store_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Dispatched(monkeypatch)
    asked.fails = True
    assert await asked.come() == 503
    assert json.loads(asked.sent[1]["body"])["error"]["message"] == rejections.STORE_UNAVAILABLE.message
    assert caplog.messages == ["The session store of endpoint 'default' cannot be reached: away"]


async def test_a_body_that_says_what_it_asks_for_is_read_to_refuse_an_era(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.MCP_SESSIONS = {"default": {**settings.MCP_SESSIONS["default"], "ERAS": ["handshake"]}}
    most = http_endpoint.LARGE_BODY_BYTES
    ids = []
    for method, size in (("POST", most), ("POST", most + 1), ("GET", most)):
        asked = Dispatched(monkeypatch, method, "2026-07-28")
        message = b'{"jsonrpc": "2.0", "id": 7, "method": "tools/list"'
        asked.body = message + b" " * (size - len(message) - 1) + b"}"
        assert await asked.come() == 400
        ids.append(json.loads(asked.sent[1]["body"])["id"])
        assert asked.served == []
    assert ids == [7, None, None]
