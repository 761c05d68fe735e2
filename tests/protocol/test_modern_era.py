"""Requests of protocol version 2026-07-28, which have no session, on the same path as those that have one."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gates import Gate
from tests.support.mcp_client import META, MODERN, RawClient, answer_of, events, hearing_of_tools
from tests.support.processes import ENVIRONMENT, Process, daphne, started


def call(client: RawClient, tool: str, **more: Any) -> tuple[dict[str, Any], dict[str, str | None]]:
    """A self-contained tools/call and its headers."""
    arguments = more.pop("arguments", {})
    message = client.request("tools/call", {"name": tool, "arguments": arguments, "_meta": META, **more})
    return message, {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}


def ask(client: RawClient, url: str, tool: str, **more: Any) -> dict[str, Any]:
    message, headers = call(client, tool, **more)
    response = client.post(url, message, **headers)
    assert response.status_code == 200, response.text
    assert "mcp-session-id" not in response.headers
    return answer_of(response)["result"]  # type: ignore[no-any-return]


@pytest.mark.protocol("M1", "M2", "M6")
def test_both_eras_are_served_on_one_path_and_only_one_has_sessions(a: str, client: RawClient) -> None:
    modern = RawClient()
    assert ask(modern, a, "add", arguments={"a": 20, "b": 22})["structuredContent"] == {"result": 42}
    assert ask(modern, a, "session_or_none")["structuredContent"] == {"result": "none"}
    assert client.value(a, "session_or_none") != "none"
    assert client.value(a, "add", a=1, b=2) == 3


@pytest.mark.protocol("M2")
def test_a_session_id_means_nothing_in_the_modern_era(a: str, client: RawClient) -> None:
    message, headers = call(client, "session_or_none")
    response = client.post(a, message, last_event_id="whatever", **headers)
    assert answer_of(response)["result"]["structuredContent"] == {"result": "none"}
    stranger = RawClient(session_id="unknown")
    message, headers = call(stranger, "session_or_none")
    assert stranger.post(a, message, **headers).status_code == 200


@pytest.mark.protocol("M2")
def test_a_tool_that_wants_a_session_says_that_there_is_none(a: str, processes: list[Process]) -> None:
    result = ask(RawClient(), a, "recall", arguments={"name": "x"})
    assert result["isError"]
    assert "There is no session here." in result["content"][0]["text"]
    assert "Traceback" not in processes[0].log.read_text()


def test_get_and_delete_do_not_exist_in_the_modern_era(a: str, client: RawClient) -> None:
    assert client.delete(a, mcp_protocol_version=MODERN).status_code == 405
    with client.get(a, mcp_protocol_version=MODERN) as response:
        assert response.status_code == 405
    assert client.value(a, "add", a=1, b=1) == 2


@pytest.mark.protocol("M1", "H30")
def test_a_version_that_nobody_knows_is_rejected_with_the_versions_that_are_known(a: str) -> None:
    client = RawClient()
    message, headers = call(client, "add")
    message["params"]["_meta"] = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    response = client.post(a, message, **{**headers, "mcp_protocol_version": "2099-01-01"})
    assert response.status_code == 400
    assert MODERN in response.text


@pytest.mark.protocol("M3")
def test_closing_the_stream_cancels_the_work(a: str, gate: Gate) -> None:
    client = RawClient()
    message, headers = call(client, "report", arguments={"gate": gate.path})
    message["params"]["_meta"] = {**META, "progressToken": "p"}
    with client.stream(a, message, **headers) as response:
        next(events(response))
        gate.reached()
    assert gate.outcome() == "cancelled"


@pytest.mark.protocol("M4")
def test_request_state_is_sealed_and_opens_on_every_process(a: str, b: str) -> None:
    client = RawClient()
    asked = ask(client, a, "confirm")
    state = asked["requestState"]
    assert asked["resultType"] == "input_required"
    assert "asked" not in state
    answers = {"ok": {"action": "accept", "content": {"ok": True}}}
    confirmed = ask(client, b, "confirm", requestState=state, inputResponses=answers)
    assert confirmed["structuredContent"] == {"result": "confirmed"}
    message, headers = call(client, "confirm", requestState=state[:-4] + "AAAA", inputResponses=answers)
    assert "error" in answer_of(client.post(b, message, **headers))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Process]:
    """A process whose secret key can be changed between starts; request states need no Redis."""
    process = daphne("alone", tmp_path, MCP_SERVER="tests.served.everything.server")
    with started([process]):
        yield process


@pytest.mark.protocol("M4")
def test_request_state_survives_a_rotation_of_the_secret_key(alone: Process) -> None:
    client = RawClient()
    old = ENVIRONMENT["DJANGO_SECRET_KEY"]
    answers = {"ok": {"action": "accept", "content": {"ok": True}}}
    state = ask(client, alone.url, "confirm")["requestState"]
    alone.environment |= {"DJANGO_SECRET_KEY": "quite-another-key", "DJANGO_SECRET_KEY_FALLBACKS": old}
    alone.restart()
    confirmed = ask(client, alone.url, "confirm", requestState=state, inputResponses=answers)
    assert confirmed["structuredContent"] == {"result": "confirmed"}
    alone.environment["DJANGO_SECRET_KEY_FALLBACKS"] = ""
    alone.restart()
    message, headers = call(client, "confirm", requestState=state, inputResponses=answers)
    assert "error" in answer_of(client.post(alone.url, message, **headers))


@pytest.mark.protocol("M5")
def test_listeners_hear_what_a_handler_publishes(a: str) -> None:
    with hearing_of_tools(a) as heard:
        caller = threading.Thread(target=ask, args=(RawClient(), a, "change_tools"))
        caller.start()
        assert next(heard)["method"] == "notifications/tools/list_changed"
        caller.join()
