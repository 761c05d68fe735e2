"""What malformed and hostile requests get: a clear refusal, and nothing else happens."""

import http.client
import json
import socket
from contextlib import closing
from typing import Any

import httpx2
import pytest

from tests.support.mcp_client import META, MODERN, RawClient
from tests.support.processes import Process

BODIES: list[Any] = [
    b"",
    b"{",
    b"null",
    b"7",
    b'"text"',
    b"\xff\xfe\x00",
    b"[" * 60_000,
    b'{"a":' * 60_000,
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"n":NaN}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"n":' + b"9" * 6000 + b"}}",
    {"jsonrpc": "2.0", "id": None, "method": "ping"},
    {"jsonrpc": "2.0", "id": {}, "method": "ping"},
    {"jsonrpc": "2.0", "id": 1, "method": None},
    {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]},
    {"jsonrpc": "1.0", "id": 1, "method": "ping"},
    {"jsonrpc": "2.0", "id": 1, "result": "text"},
    {"jsonrpc": "2.0", "id": "not asked", "result": {}},
    {"jsonrpc": "2.0", "id": "not asked", "error": {"code": 1, "message": "no"}},
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body)[:40])
def test_a_malformed_body_is_refused_with_a_jsonrpc_error_and_the_session_lives_on(
    a: str, client: RawClient, processes: list[Process], body: Any
) -> None:
    refused = client.post(a, body)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"]
    assert refused.json()["id"] is None
    assert client.value(a, "add", a=1, b=1) == 2
    assert_quiet(processes[0])


@pytest.mark.parametrize("body", BODIES[:-2], ids=lambda body: repr(body)[:40])
def test_a_malformed_opening_makes_no_session(a: str, body: Any) -> None:
    response = RawClient().post(a, body)
    assert response.status_code == 400
    assert "mcp-session-id" not in response.headers


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", {"name": 7}, -32602),
        ("tools/call", {"name": ["a", {}]}, -32602),
        ("prompts/get", {"name": {"a": []}}, -32602),
        ("tools/call", {}, -32602),
        ("tools/list", {"cursor": 7}, -32602),
        ("no/such/method", {}, -32601),
        ("resources/read", {"uri": "everything://nothing"}, -32602),
        ("prompts/get", {"name": "\ud800"}, None),
        ("tools/call", {"name": "\ud800\n\u0000", "arguments": {}}, None),
        ("logging/setLevel", {"level": 7}, -32602),
        ("\ud800 method\n", {}, -32601),
    ],
)
def test_a_wellformed_request_for_nonsense_gets_the_sdks_error(
    a: str, client: RawClient, processes: list[Process], method: str, params: dict[str, Any], code: int | None
) -> None:
    response = client.post(a, client.request(method, params))
    assert response.status_code == 200
    answer = response.json()
    assert code is None or answer["error"]["code"] == code
    assert "error" in answer or answer["result"]["isError"]
    assert_quiet(processes[0])
    assert client.value(a, "add", a=1, b=1) == 2


def test_a_body_beyond_the_limit_is_refused_unread(a: str, client: RawClient) -> None:
    message = client.request("tools/call", {"name": "add", "arguments": {"text": "x" * 5_000_000}})
    assert client.post(a, message).status_code == 413
    assert client.value(a, "add", a=1, b=1) == 2


def test_a_declared_length_that_lies_is_not_believed(a: str, client: RawClient) -> None:
    """A chunked body declares no length; the bound still holds."""
    head = "\r\n".join(f"{name}: {value}" for name, value in client.headers().items())
    host, port = a.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"POST /mcp HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n{head}\r\n\r\n".encode()
        )
        for _ in range(6):
            connection.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(100).split(b" ")[1] == b"413"


def test_large_headers_and_odd_ones_do_no_harm(a: str, client: RawClient, processes: list[Process]) -> None:
    for headers in ({"accept": "," * 5000}, {"content_type": ";;;,"}, {"mcp_session_id": "{" * 5000}):
        assert client.post(a, client.request("ping"), **headers).status_code in {404, 406, 415}
    assert client.value(a, "add", a=1, b=1) == 2
    assert_quiet(processes[0])


def status_with(url: str, client: RawClient, *more: tuple[str, str], without: str = "") -> int:
    """The status of a ping with these lines of headers besides its own."""
    host = url.removeprefix("http://")
    headers = {"host": host, "origin": url, **client.headers()}
    headers.pop(without, None)
    body = json.dumps(client.request("ping")).encode()
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.putrequest("POST", "/mcp", skip_host=True, skip_accept_encoding=True)
        for header in (*headers.items(), ("content-length", str(len(body))), *more):
            connection.putheader(*header)
        connection.endheaders(body)
        return connection.getresponse().status


@pytest.mark.parametrize("name", ["host", "origin", "mcp-session-id", "mcp-protocol-version", "content-type"])
def test_a_header_that_decides_something_may_not_be_repeated(a: str, client: RawClient, name: str) -> None:
    host = a.removeprefix("http://")
    headers = {"host": host, "origin": a, **client.headers()}
    assert status_with(a, client) == 200
    assert status_with(a, client, (name, headers[name])) == 400
    assert status_with(a, client, (name.title(), headers[name])) == 400


@pytest.mark.protocol("H13")
def test_a_header_that_is_a_list_may_be_on_several_lines(a: str, client: RawClient) -> None:
    stream, json_ = ("accept", "text/event-stream"), ("Accept", "application/json")
    assert status_with(a, client, stream, json_, without="accept") == 200
    assert status_with(a, client, json_, stream, ("accept", "text/html"), without="accept") == 200
    assert status_with(a, client, json_, json_, without="accept") == 406


def test_a_header_that_decides_nothing_may_be_repeated(a: str, client: RawClient) -> None:
    through_proxies = (("x-forwarded-for", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2"), ("via", "1.1 x"))
    assert status_with(a, client, *through_proxies, *through_proxies) == 200


def test_a_client_of_the_modern_era_may_accept_on_several_lines(a: str) -> None:
    client = RawClient()
    params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": META}
    headers = client.headers(
        accept=None, mcp_protocol_version=MODERN, mcp_method="tools/call", mcp_name="add"
    )
    lines = [*headers.items(), ("accept", "application/json"), ("accept", "text/event-stream")]
    body = json.dumps(client.request("tools/call", params)).encode()
    answer = client.http.post(a + "/mcp", content=body, headers=lines)
    assert answer.json()["result"]["structuredContent"] == {"result": 3}


def test_a_page_may_send_the_parameters_of_tools_in_headers(a: str, client: RawClient) -> None:
    lines = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, Mcp-Param-Region"),
        ("access-control-request-headers", "mcp-param-shop, x-secret, mcp-param-, mcp-param-a b"),
    ]
    answer = client.http.options(a + "/mcp", headers=lines)
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert answer.status_code == 204
    assert allowed[-2:] == ["mcp-param-region", "mcp-param-shop"]
    assert {"content-type", "mcp-session-id"} <= set(allowed)
    assert "x-secret" not in allowed


def test_a_request_that_is_never_finished_disturbs_nobody(a: str, client: RawClient) -> None:
    host, port = a.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert client.value(a, "add", a=1, b=1) == 2
    assert client.value(a, "add", a=1, b=1) == 2


def test_a_websocket_is_refused_without_a_word_in_the_log(a: str, processes: list[Process]) -> None:
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    headers = {**upgrade, "sec-websocket-key": "MDEyMzQ1Njc4OWFiY2RlZg=="}
    assert httpx2.get(a + "/mcp", headers=headers).status_code == 403
    assert_quiet(processes[0])


@pytest.mark.logs_fault("surrogates not allowed")  # the SDK cannot send what the tool returns
def test_text_that_utf_8_cannot_carry_comes_back_as_it_went(a: str, client: RawClient) -> None:
    body = json.dumps(
        client.request("tools/call", {"name": "remember", "arguments": {"name": "x", "value": "\ud800"}})
    )
    assert client.post(a, body.encode()).status_code == 200
    recalled = client.call(a, "recall", name="x")
    assert "error" in recalled or recalled["result"]


def assert_quiet(process: Process) -> None:
    """Nothing above a warning, and no traceback, is in the log of a process."""
    output = process.log.read_text(errors="replace")
    assert "Traceback" not in output
    assert " ERROR " not in output
