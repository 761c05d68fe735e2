"""Sessions of the handshake era, row by row: their id, beginning and end, and what every process knows of them."""

import http.client
import json
import re
from typing import Any

import httpx2
import pytest

from mcp_sessions.documentation import page
from tests.support.mcp_client import RawClient, connected, messages

NOT_FOUND = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {
        "code": -32600,
        "message": "Session not found",
        "data": {"see": page("troubleshooting", "404")},
    },
}


@pytest.mark.protocol("H22")
def test_the_session_id_is_visible_ascii_and_long_enough_not_to_be_guessed(a: str) -> None:
    ids = set()
    for _ in range(3):
        client = connected(a)
        assert re.fullmatch(r"[\x21-\x7e]{43,}", client.session_id or "")
        ids.add(client.session_id)
    assert len(ids) == 3


@pytest.mark.protocol("H23")
def test_a_session_exists_for_every_process_before_its_initialize_is_answered(a: str, b: str) -> None:
    client = RawClient()
    response = client.post(a, client.initialize_message())
    client.session_id = response.headers["mcp-session-id"]
    assert client.post(b, client.request("ping")).json()["result"] == {}


@pytest.mark.protocol("H24")
def test_without_an_id_only_initialize_is_served(a: str, client: RawClient) -> None:
    stranger = RawClient()
    assert stranger.post(a, stranger.request("ping")).status_code == 400
    assert stranger.post(a, {"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 400
    assert stranger.delete(a).status_code == 400
    with stranger.get(a) as response:
        assert response.status_code == 400


def every_verb(url: str, client: RawClient) -> list[httpx2.Response]:
    """What each verb answers for a session that must not exist."""
    with client.get(url) as listening:
        listening.read()
    return [client.post(url, client.request("ping")), listening, client.delete(url)]


@pytest.mark.protocol("H25")
@pytest.mark.parametrize("session_id", ["unknown", "x" * 300, "with space", "ü", "{}", "*"])
def test_unknown_and_malformed_ids_get_the_same_404(a: str, b: str, session_id: str) -> None:
    client = RawClient(session_id=session_id)
    for url in (a, b):
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        for verb in ("POST", "GET", "DELETE"):
            headers = client.headers(mcp_session_id=None)
            connection.putrequest(verb, "/mcp")
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.putheader("mcp-session-id", session_id.encode())
            body = json.dumps(client.request("ping")).encode() if verb == "POST" else b""
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())) == (404, NOT_FOUND)
        connection.close()


@pytest.mark.protocol("H25", "H26")
def test_delete_on_one_process_ends_the_session_on_the_other(a: str, b: str, client: RawClient) -> None:
    assert client.value(b, "add", a=1, b=1) == 2
    with client.get(a) as listening:
        received = messages(listening)
        assert client.delete(b).status_code == 204
        assert list(received) == []
    for url in (b, a):
        for response in every_verb(url, client):
            assert (response.status_code, response.json()) == (404, NOT_FOUND)


@pytest.mark.protocol("H27")
@pytest.mark.parametrize(
    "params",
    [
        {"protocolVersion": 7},
        {"clientInfo": {}},
        {"clientInfo": "me"},
        {"capabilities": []},
        {"clientInfo": {"name": "x" * 20_000, "version": "1"}},
    ],
)
def test_a_failed_initialize_leaves_no_session_behind(a: str, params: dict[str, Any]) -> None:
    client = RawClient()
    response = client.post(a, client.initialize_message(**params))
    assert response.json()["error"]["code"] == -32602
    assert "mcp-session-id" not in response.headers


@pytest.mark.protocol("H30")
def test_a_missing_version_header_means_the_negotiated_version(a: str, b: str) -> None:
    client = RawClient(version="2025-06-18")
    client.initialize(a)
    message = client.request("tools/call", {"name": "who", "arguments": {}})
    response = client.post(b, message, mcp_protocol_version=None)
    assert response.json()["result"]["structuredContent"]["sdk_version"] == "2025-06-18"


@pytest.mark.protocol("H30")
@pytest.mark.parametrize("version", ["1999-01-01", "banana", ""])
def test_an_unknown_version_header_is_refused(a: str, client: RawClient, version: str) -> None:
    for response in (
        client.post(a, client.request("ping"), mcp_protocol_version=version),
        client.delete(a, mcp_protocol_version=version),
    ):
        assert response.status_code == 400
    with client.get(a, mcp_protocol_version=version) as listening:
        assert listening.status_code == 400
    assert client.value(a, "add", a=1, b=1) == 2


@pytest.mark.protocol("H31")
@pytest.mark.parametrize(
    ("offered", "negotiated"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ],
)
def test_a_supported_version_is_echoed_and_another_is_answered_with_the_latest(
    a: str, offered: str, negotiated: str
) -> None:
    client = RawClient()
    response = client.post(a, client.initialize_message(protocolVersion=offered))
    assert response.json()["result"]["protocolVersion"] == negotiated


@pytest.mark.protocol("H32")
def test_another_process_restores_what_the_client_really_negotiated(a: str, b: str) -> None:
    client = RawClient(version="2025-06-18")
    client.initialize(a, clientInfo={"name": "peculiar", "version": "7.3"}, capabilities={"sampling": {}})
    seen = client.call(b, "who")["result"]["structuredContent"]
    assert seen["client"] == {"name": "peculiar", "version": "7.3"}
    assert (seen["sdk_client"], seen["sdk_version"], seen["version"]) == (
        "peculiar",
        "2025-06-18",
        "2025-06-18",
    )
    assert (seen["sampling"], seen["roots"]) == (True, False)
    assert seen["principal"] == "anonymous"


def test_the_log_level_is_remembered_and_honoured_on_every_process(a: str, b: str, client: RawClient) -> None:
    assert client.post(a, client.request("logging/setLevel", {"level": "warning"})).json()["result"] == {}
    for url in (a, b):
        assert log_messages(client, url, "info") == []
        assert log_messages(client, url, "error") == ["error"]
    refused = client.post(a, client.request("logging/setLevel", {"level": "loud"})).json()
    assert refused["error"]["code"] == -32602
    assert log_messages(client, b, "info") == []


def log_messages(client: RawClient, url: str, level: str) -> list[str]:
    message = client.request("tools/call", {"name": "log", "arguments": {"level": level, "text": "x"}})
    with client.stream(url, message) as response:
        if response.headers["content-type"] == "application/json":
            return []
        return [message["params"]["level"] for message in messages(response) if "method" in message]


@pytest.mark.logs_fault("Not opt-in tools of this server")
def test_per_session_tools_are_the_same_on_every_process(a: str, b: str, client: RawClient) -> None:
    other = connected(b)
    assert "secret" not in tools(client, b)
    assert client.call(b, "secret")["error"]["message"] == "Unknown tool: secret"
    assert client.value(a, "enable", name="secret") == ["secret"]
    assert "secret" in tools(client, b)
    assert client.value(b, "secret") == "opened"
    assert "secret" not in tools(other, a)
    assert client.value(b, "disable", name="secret") == []
    assert "secret" not in tools(client, a)
    assert client.call(a, "enable", name="add")["result"]["isError"] is True


def tools(client: RawClient, url: str) -> set[str]:
    response = client.post(url, client.request("tools/list")).json()
    return {tool["name"] for tool in response["result"]["tools"]}


def test_state_is_one_for_all_processes_and_for_async_and_sync_tools(
    a: str, b: str, client: RawClient
) -> None:
    client.value(a, "remember", name="note", value={"nested": [1, None, "ü"]})
    recalled = client.call(b, "recall", name="note")["result"]["structuredContent"]
    assert recalled == {"value": {"nested": [1, None, "ü"]}}
    counts = [client.value(url, tool) for url in (a, b) for tool in ("count", "count_in_a_thread")]
    assert counts == [1, 2, 3, 4]
    assert client.value(b, "names") == ["counter", "note"]
    other = connected(a)
    assert other.value(a, "names") == []


def test_resources_and_prompts_see_the_session(a: str, b: str, client: RawClient) -> None:
    read = client.post(b, client.request("resources/read", {"uri": "everything://greeting"})).json()
    assert read["result"]["contents"][0]["text"] == "Hello, raw-client"
    prompt = client.post(a, client.request("prompts/get", {"name": "introduce"})).json()
    assert prompt["result"]["messages"][0]["content"]["text"] == "Introduce raw-client"
