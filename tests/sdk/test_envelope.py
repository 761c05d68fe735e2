"""What a request of the modern era says of itself, and how the parameters in its headers are checked."""

import copy
import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from mcp.shared.inbound import (
    InboundLadderRejection,
    InboundModernRoute,
    validate_mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types import HEADER_MISMATCH

from mcp_sessions.sdk import envelope
from mcp_sessions.sdk.envelope import (
    EnvelopedConnection,
    ParameterHeaders,
    client_info_of,
    handshake_of,
    read_as_the_sdk,
    refusal,
    route_of,
    status_of,
)
from mcp_sessions.transport import jsonrpc
from tests.support.mcp_client import META, MODERN

SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"}}}
HEADERS = [(b"mcp-param-a", b"1")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"jsonrpc": "2.0", "id": "x" * 300, "method": "m"},
            jsonrpc.Request(id="x" * 300, method="m", params=None),
        ),
        (
            {"jsonrpc": "2.0", "method": "m", "params": {"a": 1}},
            jsonrpc.Notification(method="m", params={"a": 1}),
        ),
        ({"jsonrpc": "2.0", "id": 1}, None),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "m"}, None),
        ([], None),
        (7, None),
    ],
)
def test_what_the_sdk_accepts_beyond_our_bounds_is_read(body: Any, expected: Any) -> None:
    assert read_as_the_sdk(json.dumps(body).encode()) == expected
    assert read_as_the_sdk(b"{") is None
    assert read_as_the_sdk(b"[" * 100_000) is None


def test_what_a_request_says_of_its_client_is_its_handshake() -> None:
    said = handshake_of(META)
    assert (said.protocol_version, said.client_name) == (
        META["io.modelcontextprotocol/protocolVersion"],
        "modern",
    )
    assert said.client_info == client_info_of(META) == META["io.modelcontextprotocol/clientInfo"]
    strange = {f"io.modelcontextprotocol/{name}": 7 for name in ("clientInfo", "clientCapabilities")}
    empty = handshake_of(strange)
    assert (empty.protocol_version, empty.client_name, client_info_of(strange)) == ("", "", {})
    assert json.loads(empty.text) == ["", {}, {}]
    able = handshake_of({"io.modelcontextprotocol/clientCapabilities": {"roots": {}}})
    assert json.loads(able.text)[2] == {"roots": {}}


def test_errors_have_the_sdks_status() -> None:
    assert status_of({"result": {}}) == 200
    assert status_of({"error": {"code": -32601}}) == 404
    assert status_of({"error": {"code": 12345}}) == 200
    request = jsonrpc.Request(id=3, method="m", params=None)
    assert refusal(request, InboundLadderRejection(code=5, message="no")) == {
        "jsonrpc": "2.0",
        "id": 3,
        "error": {"code": 5, "message": "no"},
    }
    assert refusal(request, InboundLadderRejection(code=5, message="no", data={"a": 1}))["error"]["data"] == {
        "a": 1
    }


class Server:
    """A server whose tools come in pages; `lookup` gives schemas otherwise."""

    def __init__(self, *pages: dict[str, Any], lookup: Any = None, lists: bool = True) -> None:
        self.pages = list(pages)
        self.asked: list[Any] = []
        self.get_tool_input_schema = lookup
        self._lists = lists

    def get_request_handler(self, method: str) -> Any:
        return SimpleNamespace() if method == "tools/list" and self._lists else None

    async def run(self, request: jsonrpc.Request) -> dict[str, Any]:
        assert (request.id, request.method) == (7, "tools/list")
        assert request.params is not None
        self.asked.append(request.params.get("cursor"))
        assert request.params["_meta"] == {"m": 1}
        return self.pages.pop(0)


def calling(name: Any = "t", arguments: Any = None, method: str = "tools/call") -> jsonrpc.Request:
    params = {"name": name, "arguments": {"a": "1"} if arguments is None else arguments, "_meta": {"m": 1}}
    return jsonrpc.Request(id=7, method=method, params=params)


def page(*names: str, cursor: Any = None) -> dict[str, Any]:
    tools = [{"name": name, "inputSchema": SCHEMA} for name in names]
    return {"result": {"tools": tools, "nextCursor": cursor}}


async def check(server: Server, request: jsonrpc.Request, raw: Any = HEADERS) -> Any:
    return await ParameterHeaders(server).rejection(request, raw, server.run)  # type: ignore[arg-type]


async def test_a_header_must_say_what_the_argument_says() -> None:
    for raw, refused in ((HEADERS, False), ([(b"mcp-param-a", b"2")], True), ([], True)):
        assert (await check(Server(page("t")), calling(), raw) is not None) is refused


async def test_the_schema_of_a_tool_is_looked_for_on_all_pages() -> None:
    server = Server(page("a", cursor="1"), page("b", cursor="2"), page("t"))
    assert await check(server, calling(), []) is not None
    assert server.asked == [None, "1", "2"]


@pytest.mark.parametrize(
    "server",
    [
        Server(page("a", "b")),
        Server(page("a", cursor=7)),
        Server(page("a", cursor="1"), page("b", cursor="1")),
        Server({"error": {"code": 1}}),
        Server(lists=False),
        Server(lookup=lambda _: None),
        Server(lookup=lambda _: 1 / 0),
        Server(lookup=lambda _: {"type": "object"}),
    ],
)
async def test_a_call_whose_schema_asks_for_nothing_or_cannot_be_found_goes_on(server: Server) -> None:
    assert await check(server, calling(), []) is None


async def test_tools_on_endless_pages_are_not_looked_for_forever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(envelope, "MAX_PAGES", 3)
    server = Server(*(page("a", cursor=str(number)) for number in range(5)))
    assert await check(server, calling(), []) is None
    assert len(server.asked) == 3
    assert "tools/list has more than 3 pages" in caplog.text


@pytest.mark.parametrize(
    ("request_", "raw"),
    [
        (calling(method="tools/list"), HEADERS),
        (calling(method="prompts/get"), HEADERS),
        (calling(name=7), HEADERS),
        (calling(arguments=[1]), HEADERS),
        (calling(arguments={}), [(b"other", b"1")]),
    ],
)
async def test_what_has_no_parameters_needs_no_schema(request_: jsonrpc.Request, raw: Any) -> None:
    server = Server()
    assert await check(server, request_, raw) is None
    assert server.asked == []


async def test_a_schema_is_looked_at_once_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, compared = Mock(wraps=x_mcp_header_map), Mock(wraps=validate_mcp_param_headers)
    monkeypatch.setattr(envelope, "x_mcp_header_map", looked)
    monkeypatch.setattr(envelope, "validate_mcp_param_headers", compared)
    plain = {"type": "object"}
    schemas = [plain, plain, SCHEMA, SCHEMA, {"type": "object"}]
    server = Server(lookup=lambda _: schemas.pop(0))
    headers = ParameterHeaders(server)  # type: ignore[arg-type]
    refused = [await headers.rejection(calling(), [], server.run) is not None for _ in range(5)]
    assert refused == [False, False, True, True, False]
    assert (looked.call_count, compared.call_count) == (3, 2), "to look takes longer than all other checks"


LISTING = jsonrpc.Request(id=7, method="tools/list", params={"_meta": META})
ROUTING = [(b"mcp-protocol-version", MODERN.encode()), (b"mcp-method", b"tools/list")]


@pytest.mark.parametrize("more", [[], [(b"x-a", b"1"), (b"x-a", b"2")]], ids=["once", "another twice"])
def test_a_request_is_routed_by_what_its_headers_and_its_envelope_say(more: Any) -> None:
    route = route_of(LISTING, [*ROUTING, *more])
    assert isinstance(route, InboundModernRoute)
    assert route.protocol_version == MODERN
    assert route.client_info == META["io.modelcontextprotocol/clientInfo"]


@pytest.mark.parametrize("again", ROUTING, ids=["the version", "the method"])
def test_a_header_that_routes_may_not_be_repeated(again: Any) -> None:
    refused = route_of(LISTING, [*ROUTING, again])
    assert isinstance(refused, InboundLadderRejection)
    assert (refused.code, "header appears more than once" in refused.message) == (HEADER_MISMATCH, True)
    assert again[0].decode() in refused.message.lower()
    other = route_of(LISTING, [ROUTING[0], (b"mcp-method", b"tools/call")])
    assert isinstance(other, InboundLadderRejection)


def test_what_a_handler_reads_of_its_connection_is_made_when_it_is_read() -> None:
    route = route_of(LISTING, ROUTING)
    assert isinstance(route, InboundModernRoute)
    connection = EnvelopedConnection(route)
    assert (connection.protocol_version, connection.initialize_accepted) == (MODERN, True)
    assert "client_capabilities" not in vars(connection)
    copied = copy.copy(connection)
    connection.protocol_version = "kept"
    assert connection.client_params is not None
    assert connection.client_params.client_info.name == "modern"
    assert connection.initialized.is_set()
    assert connection.protocol_version == "kept", "what is there already stays"
    assert copied.state == {}
    for each in (connection, EnvelopedConnection(route), EnvelopedConnection.__new__(EnvelopedConnection)):
        with pytest.raises(AttributeError, match="'EnvelopedConnection' object has no attribute 'nothing'"):
            each.nothing  # noqa: B018
