"""The handshake era, row by row, against two daphne processes on one Redis."""

import json
from typing import Any

import pytest

from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, cancelling, events, messages
from tests.support.processes import Process


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


@pytest.mark.logs_fault("RuntimeError: secret detail")
def test_a_handler_that_raises_is_answered_as_the_sdk_answers_and_the_process_goes_on(
    a: str, client: RawClient
) -> None:
    result = client.call(a, "fail", message="secret detail")["result"]
    assert result["isError"] is True
    assert "secret detail" not in json.dumps(result)
    assert client.value(a, "add", a=1, b=1) == 2


@pytest.mark.parametrize("tool", ["leave", "leave_in_a_thread"])
@pytest.mark.logs_fault("SystemExit: I am gone.")
def test_a_handler_cannot_end_the_process(a: str, client: RawClient, tool: str) -> None:
    assert client.call(a, tool)["error"] == {"code": -32603, "message": "Internal server error"}
    assert client.value(a, "add", a=1, b=1) == 2


def test_the_lifespan_is_entered_once_per_process_and_left_on_shutdown(
    processes: list[Process], client: RawClient
) -> None:
    url = processes[0].url
    assert [client.value(url, "lifespans") for _ in range(3)] == [1, 1, 1]


def waiting(client: RawClient, gate: Gate) -> dict[str, Any]:
    """A call that waits at the gate in silence."""
    return client.request("tools/call", {"name": "wait", "arguments": {"gate": gate.path}})
