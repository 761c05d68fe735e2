"""Requests to the client and cancellations, through whichever process they are answered or made."""

import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx2
import pytest

from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, cancelling, connected, messages
from tests.support.processes import wait_until

FAREWELL = 15.0


def answering(
    client: RawClient, url: str, received: Iterator[dict[str, Any]], result: dict[str, Any]
) -> tuple[dict[str, Any], httpx2.Response]:
    """Read until the server asks, and answer at `url`."""
    question = next(message for message in received if "id" in message and "method" in message)
    response = client.post(url, {"jsonrpc": "2.0", "id": question["id"], "result": result})
    return question, response


def test_an_elicitation_of_one_process_is_answered_through_the_other(
    a: str, b: str, client: RawClient
) -> None:
    with client.stream(a, client.calling("ask_age", name="Ann")) as response:
        received = messages(response)
        question, accepted = answering(client, b, received, {"action": "accept", "content": {"age": 33}})
        assert (question["method"], accepted.status_code) == ("elicitation/create", 202)
        assert question["params"]["message"] == "How old is Ann?"
        assert next(received)["result"]["structuredContent"] == {"result": "Ann is 33"}


@pytest.mark.protocol("H6")
def test_a_repeated_a_foreign_and_an_invented_answer_are_refused(a: str, b: str, client: RawClient) -> None:
    other = connected(b)
    answer = {"action": "accept", "content": {"age": 33}}
    with client.stream(a, client.calling("ask_age", name="Ann")) as response:
        received = messages(response)
        question = next(received)
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": answer}
        assert other.post(b, reply).status_code == 400
        assert other.post(a, reply).status_code == 400
        assert client.post(b, {**reply, "id": "invented"}).status_code == 400
        assert client.post(b, reply).status_code == 202
        assert client.post(a, reply).status_code == 400
        assert next(received)["result"]["structuredContent"] == {"result": "Ann is 33"}


def test_sampling_and_an_error_for_an_answer(a: str, b: str, client: RawClient) -> None:
    thought = {"role": "assistant", "content": {"type": "text", "text": "42"}, "model": "m"}
    with client.stream(b, client.calling("think")) as response:
        received = messages(response)
        question, _ = answering(client, a, received, thought)
        assert question["method"] == "sampling/createMessage"
        assert next(received)["result"]["structuredContent"] == {"result": "42"}
    with client.stream(b, client.calling("think")) as response:
        received = messages(response)
        error = {"code": -1, "message": "rejected by the user"}
        assert (
            client.post(a, {"jsonrpc": "2.0", "id": next(received)["id"], "error": error}).status_code == 202
        )
        assert next(received)["error"]["message"] == "rejected by the user"


def test_a_client_that_takes_its_time_reports_progress_through_the_other_process(
    a: str, b: str, client: RawClient, gate: Gate
) -> None:
    message = client.calling("ask_with_patience", seconds=30, gate=gate.path)
    with client.stream(a, message) as response:
        received = messages(response)
        question = next(received)
        for number in (1, 2):
            params = {"progressToken": question["params"]["_meta"]["progressToken"], "progress": number}
            told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            assert client.post(b, told).status_code == 202
            gate.reached()
            gate.open()
            assert gate.outcome() == "passed"
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        assert client.post(b, reply).status_code == 202
        assert next(received)["result"]["structuredContent"] == {"result": [1, 2]}


def test_a_request_that_nobody_answers_times_out_and_its_late_answer_is_refused(
    a: str, b: str, client: RawClient
) -> None:
    with client.stream(a, client.calling("ask_with_patience", seconds=0.3)) as response:
        received = messages(response)
        question = next(received)
        cancelled = next(received)
        assert (cancelled["method"], cancelled["params"]["requestId"]) == (
            "notifications/cancelled",
            question["id"],
        )
        assert next(received)["error"]["message"] == "Request 'elicitation/create' timed out"
    late = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
    wait_until(lambda: client.post(b, late).status_code == 400, what="the refusal of a late answer")


def test_a_request_on_the_standalone_stream_reaches_the_client_wherever_it_listens(
    a: str, b: str, client: RawClient
) -> None:
    answers: list[Any] = []
    with client.get(b) as listening:
        received = messages(listening)
        caller = threading.Thread(
            target=lambda: answers.append(client.call(a, "ask_on_the_standalone_stream"))
        )
        caller.start()
        question, accepted = answering(client, b, received, {"roots": [{"uri": "file:///here"}]})
        caller.join()
    assert (question["method"], accepted.status_code) == ("roots/list", 202)
    assert answers[0]["result"]["structuredContent"] == {"result": ["file:///here"]}


def test_a_client_is_sent_to_a_page_and_answers_through_the_other_process(a: str, b: str) -> None:
    client = connected(a, capabilities={"elicitation": {"form": {}, "url": {}}})
    with client.stream(a, client.calling("send_to_a_page")) as response:
        received = messages(response)
        question, accepted = answering(client, b, received, {"action": "accept"})
        assert question["params"]["url"] == "https://pay.example.com/1"
        assert (question["params"]["mode"], accepted.status_code) == ("url", 202)
        assert next(received)["result"]["structuredContent"] == {"result": "accept"}


def test_a_client_is_pinged_on_its_standalone_stream(a: str, b: str, client: RawClient) -> None:
    answers: list[Any] = []
    with client.get(a) as listening:
        received = messages(listening)
        caller = threading.Thread(target=lambda: answers.append(client.value(b, "ping_the_client")))
        caller.start()
        question, accepted = answering(client, b, received, {})
        caller.join()
    assert (question["method"], accepted.status_code, answers) == ("ping", 202, ["alive"])


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("ask_age", {"name": "Ann"}, "Elicitation not supported"),
        ("think", {}, "Sampling not supported"),
        ("ask_on_the_standalone_stream", {}, "List roots not supported"),
    ],
)
def test_a_client_without_the_capability_is_not_asked(
    a: str, tool: str, arguments: dict[str, Any], message: str
) -> None:
    """The tool gets the same error as from the SDK's own server and client."""
    client = connected(a, capabilities={})
    assert client.call(a, tool, **arguments)["error"] == {"code": -32600, "message": message}


@pytest.mark.protocol("H33")
def test_a_client_that_is_not_ready_is_not_asked(a: str) -> None:
    client = RawClient()
    response = client.post(a, client.initialize_message())
    client.session_id = response.headers["mcp-session-id"]
    assert "before the client is initialized" in client.call(a, "think")["error"]["message"]
    with client.get(a):
        """To listen is not to be ready."""
    assert "before the client is initialized" in client.call(a, "think")["error"]["message"]


@pytest.mark.protocol("H12")
def test_a_request_is_cancelled_through_the_other_process(
    a: str, b: str, client: RawClient, gate: Gate
) -> None:
    message = client.calling("wait", gate=gate.path)
    with client.stream(a, message) as response:
        gate.reached()
        assert client.post(b, cancelling(message)).status_code == 202
        assert next(messages(response))["error"]["code"] == -32800
    assert gate.outcome() == "cancelled"


def test_nobody_else_can_cancel_a_request(a: str, b: str, client: RawClient, gate: Gate) -> None:
    other = RawClient(ids=count(100))  # whose own requests have other ids than the one that it cancels
    other.initialize(b)
    message = client.calling("wait", gate=gate.path)
    with client.stream(a, message) as response:
        gate.reached()
        for url in (a, b):
            assert other.post(url, cancelling(message)).status_code == 202
            assert other.value(url, "add", a=1, b=1) == 2
        gate.open()
        assert answer_of_stream(response)["result"]["structuredContent"] == {"result": "passed"}


def answer_of_stream(response: httpx2.Response) -> dict[str, Any]:
    return list(messages(response))[-1]
