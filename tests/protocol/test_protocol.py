"""The handshake era, row by row, against two daphne processes on one Redis."""

import http.client
import json
import re
from typing import Any

import httpx2
import pytest

from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, cancelling, events, messages
from tests.support.processes import Process

NOT_FOUND = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}


@pytest.mark.protocol("H1")
def test_one_path_serves_every_verb_and_says_which(a: str, client: RawClient) -> None:
    response = client.http.put(a + "/mcp", headers=client.headers())
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST, DELETE, OPTIONS"
    assert client.http.options(a + "/mcp").status_code == 204


def test_a_trailing_slash_is_the_same_path(a: str, client: RawClient) -> None:
    client.path = "/mcp/"
    assert client.value(a, "add", a=1, b=2) == 3


@pytest.mark.protocol("H2")
@pytest.mark.parametrize(("origin", "status"), [("https://evil.example", 403), ("null", 403), ("", 403)])
def test_an_origin_that_is_not_allowed_is_refused(
    a: str, client: RawClient, origin: str, status: int
) -> None:
    for verb in ("POST", "GET", "DELETE", "OPTIONS"):
        response = client.http.request(verb, a + "/mcp", headers=client.headers(origin=origin))
        assert response.status_code == status
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.protocol("H2")
def test_an_allowed_origin_may_read_the_answer(a: str, client: RawClient) -> None:
    response = client.post(a, client.request("ping"), origin="https://app.example.com")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "mcp-session-id" in response.headers["access-control-expose-headers"]
    assert client.post(a, client.request("ping"), origin=a).status_code == 200


@pytest.mark.protocol("H3")
def test_a_host_that_is_not_served_is_refused(a: str, client: RawClient) -> None:
    assert client.post(a, client.request("ping"), host="evil.example").status_code == 421


@pytest.mark.protocol("H5")
def test_a_batch_is_refused(a: str, client: RawClient) -> None:
    response = client.post(a, [client.request("ping")])
    assert response.status_code == 400
    assert response.json()["error"]["message"].endswith("batches are not supported")


@pytest.mark.protocol("H6")
def test_an_accepted_notification_is_answered_202_without_a_body(a: str, client: RawClient) -> None:
    response = client.post(a, {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
    assert (response.status_code, response.content) == (202, b"")


@pytest.mark.protocol("H6")
def test_a_response_that_nobody_waits_for_is_not_accepted(a: str, client: RawClient) -> None:
    assert client.post(a, {"jsonrpc": "2.0", "id": 77, "result": {}}).status_code == 400


@pytest.mark.protocol("H7")
def test_a_quick_silent_call_is_answered_with_one_json_object(a: str, client: RawClient) -> None:
    response = client.post(a, client.request("tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}}))
    assert response.headers["content-type"] == "application/json"
    assert response.json()["result"]["structuredContent"] == {"result": 5}


@pytest.mark.protocol("H7", "H10")
def test_progress_arrives_while_the_tool_runs_and_the_response_ends_the_stream(
    a: str, client: RawClient, gate: Gate
) -> None:
    with client.stream(a, client.calling("report", gate=gate.path)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        seen = messages(response)
        first = next(seen)
        assert first["method"] == "notifications/progress"
        assert first["params"] == {"progressToken": "p", "progress": 1, "total": 2, "message": "waiting"}
        gate.reached()
        gate.open()
        assert next(seen)["params"]["progress"] == 2
        assert next(seen)["result"]["structuredContent"] == {"result": "passed"}
        assert next(seen, None) is None


@pytest.mark.protocol("H8")
@pytest.mark.parametrize(("version", "primed"), [("2025-11-25", True), ("2025-06-18", False)])
def test_a_stream_is_primed_for_clients_that_can_parse_it(
    a: str, gate: Gate, version: str, primed: bool
) -> None:
    client = RawClient(version=version)
    client.initialize(a)
    with client.stream(a, waiting(client, gate)) as response:
        gate.reached()
        gate.open()
        first = next(events(response))
        assert (first.data == "" and bool(first.id)) is primed


@pytest.mark.protocol("H11")
def test_a_client_that_leaves_has_not_cancelled(a: str, client: RawClient, gate: Gate) -> None:
    with client.stream(a, waiting(client, gate)):
        gate.reached()
    gate.open()
    assert gate.outcome() == "passed"


@pytest.mark.protocol("H12")
def test_a_cancelled_request_ends_with_the_sdks_error(a: str, client: RawClient, gate: Gate) -> None:
    message = waiting(client, gate)
    with client.stream(a, message) as response:
        gate.reached()
        assert client.post(a, cancelling(message)).status_code == 202
        last = list(messages(response))[-1]
    assert last["id"] == message["id"]
    assert last["error"]["code"] == -32800
    assert gate.outcome() == "cancelled"


def test_cancelling_what_does_not_run_changes_nothing(a: str, client: RawClient) -> None:
    for params in ({"requestId": 4711}, {"requestId": None}, {"requestId": [1]}, {}, None):
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        assert client.post(a, message if params is None else {**message, "params": params}).status_code == 202
    assert client.value(a, "add", a=1, b=1) == 2


@pytest.mark.protocol("H13")
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "text/html", None])
def test_a_post_must_accept_both_forms_of_answer(a: str, client: RawClient, accept: str | None) -> None:
    headers = client.headers(accept=accept or "image/png")
    assert client.http.post(a + "/mcp", json=client.request("ping"), headers=headers).status_code == 406


@pytest.mark.protocol("H13")
def test_wildcards_count_as_both(a: str, client: RawClient) -> None:
    assert client.post(a, client.request("ping"), accept="*/*").status_code == 200
    assert client.post(a, client.request("ping"), accept="application/*, text/*").status_code == 200


@pytest.mark.protocol("H13")
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_post_must_be_json(a: str, client: RawClient, content_type: str | None) -> None:
    assert client.post(a, client.request("ping"), content_type=content_type).status_code == 415
    assert client.post(a, client.request("ping"), content_type="application/json; charset=utf-8").is_success


@pytest.mark.protocol("H14", "H15", "H18")
def test_the_standalone_stream_opens_at_once_for_clients_that_accept_only_streams(
    a: str, client: RawClient
) -> None:
    with client.get(a) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["cache-control"] == "no-store, no-transform"
        assert next(response.iter_lines()).startswith(":")
    with client.get(a, accept="application/json") as response:
        assert response.status_code == 406


@pytest.mark.protocol("H16", "H17")
def test_the_newest_standalone_stream_delivers_and_carries_no_response(
    a: str, b: str, client: RawClient
) -> None:
    with client.get(a) as older, client.get(b) as newer:
        older_heard, newer_heard = messages(older), messages(newer)
        assert client.value(a, "announce") == "announced"
        message = next(newer_heard)
        assert message == {"jsonrpc": "2.0", "method": "notifications/resources/list_changed"}
        assert client.delete(a).status_code == 204
        assert list(newer_heard) == []
        assert list(older_heard) == []


@pytest.mark.protocol("H22")
def test_the_session_id_is_visible_ascii_and_long_enough_not_to_be_guessed(a: str) -> None:
    ids = set()
    for _ in range(3):
        client = RawClient()
        client.initialize(a)
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


def test_a_handler_that_raises_is_answered_as_the_sdk_answers_and_the_process_goes_on(
    a: str, client: RawClient
) -> None:
    result = client.call(a, "fail", message="secret detail")["result"]
    assert result["isError"] is True
    assert "secret detail" not in json.dumps(result)
    assert client.value(a, "add", a=1, b=1) == 2


@pytest.mark.parametrize("tool", ["leave", "leave_in_a_thread"])
def test_a_handler_cannot_end_the_process(a: str, client: RawClient, tool: str) -> None:
    assert client.call(a, tool)["error"] == {"code": -32603, "message": "Internal server error"}
    assert client.value(a, "add", a=1, b=1) == 2


def test_the_lifespan_is_entered_once_per_process_and_left_on_shutdown(
    processes: list[Process], client: RawClient
) -> None:
    url = processes[0].url
    assert [client.value(url, "lifespans") for _ in range(3)] == [1, 1, 1]


def test_per_session_tools_are_the_same_on_every_process(a: str, b: str, client: RawClient) -> None:
    other = RawClient()
    other.initialize(b)
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
    other = RawClient()
    other.initialize(a)
    assert other.value(a, "names") == []


def test_resources_and_prompts_see_the_session(a: str, b: str, client: RawClient) -> None:
    read = client.post(b, client.request("resources/read", {"uri": "everything://greeting"})).json()
    assert read["result"]["contents"][0]["text"] == "Hello, raw-client"
    prompt = client.post(a, client.request("prompts/get", {"name": "introduce"})).json()
    assert prompt["result"]["messages"][0]["content"]["text"] == "Introduce raw-client"


def waiting(client: RawClient, gate: Gate) -> dict[str, Any]:
    """A call that waits at the gate in silence."""
    return client.request("tools/call", {"name": "wait", "arguments": {"gate": gate.path}})
