"""Whichever process an HTTP request lands on: streams that are resumed, announcements, subscriptions."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from httpx2 import ServerSentEvent

from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, connected, events, hearing_of_tools, message_of, messages

FAREWELL = 15.0


def progress(message: dict[str, Any]) -> Any:
    return message["params"]["progress"]


@pytest.mark.protocol("H19", "H20")
def test_a_stream_cut_in_the_middle_goes_on_through_the_other_process(
    a: str, b: str, client: RawClient, gate: Gate
) -> None:
    message = client.calling("count_to", number=10, gate=gate.path)
    with client.stream(a, message) as response:
        seen = [event for _, event in zip(range(4), events(response), strict=False)]
    gate.reached()
    assert [progress(message_of(event)) for event in seen[1:]] == [0, 1, 2]
    with client.get(b, last_event_id=seen[-1].id) as resumed:
        received = messages(resumed)
        assert [progress(next(received)) for _ in range(2)] == [3, 4]
        gate.open()
        assert [progress(next(received)) for _ in range(5)] == [5, 6, 7, 8, 9]
        assert next(received)["result"]["structuredContent"] == {"result": 10}
        assert next(received, None) is None


@pytest.mark.protocol("H20")
def test_a_stream_can_be_resumed_from_its_start_after_the_tool_has_ended(
    a: str, b: str, client: RawClient, gate: Gate
) -> None:
    with client.stream(a, client.calling("count_to", number=4, gate=gate.path)) as response:
        start = next(events(response))
    gate.reached()
    gate.open()
    assert gate.outcome() == "passed"
    for url in (b, a, b):
        with client.get(url, last_event_id=start.id) as resumed:
            seen = list(messages(resumed))
        assert [progress(message) for message in seen[:-1]] == [0, 1, 2, 3]
        assert seen[-1]["result"]["structuredContent"] == {"result": 4}


@pytest.mark.protocol("H17", "H20")
def test_the_newer_of_two_connections_that_resume_one_stream_delivers(
    a: str, b: str, client: RawClient, gate: Gate
) -> None:
    with client.stream(a, client.calling("count_to", number=4, gate=gate.path)) as response:
        start = next(events(response))
    gate.reached()
    with client.get(a, last_event_id=start.id) as older:
        older_lines = messages(older)
        assert progress(next(older_lines)) == 0
        with client.get(b, last_event_id=start.id) as newer:
            gate.open()
            assert len(list(messages(newer))) == 5
        assert all("result" not in message for message in older_lines)


@pytest.mark.protocol("H9")
def test_a_stream_that_the_handler_closes_says_when_to_come_back(
    a: str, b: str, client: RawClient, gate: Gate
) -> None:
    with client.stream(a, client.calling("leave_and_come_back", gate=gate.path)) as response:
        text = response.read().decode()
    assert text.rstrip().endswith("retry: 1000")
    seen = list(events(response))
    gate.reached()
    with client.get(b, last_event_id=seen[-1].id) as resumed:
        received = messages(resumed)
        gate.open()
        assert progress(next(received)) == 2
        assert next(received)["result"]["structuredContent"] == {"result": "came back"}


def until_closed(response: httpx2.Response) -> list[ServerSentEvent]:
    """The events of a stream that its handler closes, before a comment that keeps it open would come."""
    seen = list(events(response))
    assert seen[-1].retry == 1000
    return seen


@pytest.mark.protocol("H9")
def test_a_handler_may_close_its_stream_as_often_as_the_client_resumes_it_anywhere(
    a: str, b: str, client: RawClient, gate: Gate
) -> None:
    times = 3
    client.http = httpx2.Client(timeout=FAREWELL / 2)
    call = client.calling("leave_often", times=times, gate=gate.path)
    with client.http, client.stream(a, call) as response:
        seen = until_closed(response)
        for url in (b, a, b):
            gate.reached()
            times -= 1
            with client.get(url, last_event_id=[event.id for event in seen if event.id][-1]) as resumed:
                gate.open()
                seen += until_closed(resumed) if times else list(events(resumed))
    received = [message_of(event) for event in seen if event.data]
    assert [progress(message) for message in received[:-1]] == [0, 1, 2]
    assert received[-1]["result"]["structuredContent"] == {"result": "came back"}


@pytest.mark.protocol("H9")
def test_a_handler_closes_the_connection_on_which_its_client_listens_elsewhere(
    a: str, b: str, client: RawClient
) -> None:
    client.http = httpx2.Client(timeout=FAREWELL / 2)
    with client.http:
        with client.get(b) as listening:
            assert client.value(a, "leave_the_listener") == "left"
            [start, *_] = until_closed(listening)
        client.value(a, "announce")
        with client.get(b, last_event_id=start.id) as again:
            assert next(messages(again))["method"] == "notifications/resources/list_changed"


@pytest.mark.protocol("H21")
@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "1",
        lambda _: "../../etc",
        lambda event_id: event_id + "0" * 20,
        lambda event_id: "0" * 8 + event_id[8:],
        lambda event_id: event_id[:9] + "f" * 16 + event_id[25:],
    ],
)
def test_a_foreign_or_malformed_event_id_is_refused(
    a: str, b: str, client: RawClient, gate: Gate, change: Callable[[str], str]
) -> None:
    with client.stream(a, client.calling("count_to", number=2, gate=gate.path)) as response:
        start = next(events(response))
    gate.reached()
    gate.open()
    with client.get(b, last_event_id=change(start.id or "")) as resumed:
        assert resumed.status_code == 400


@pytest.mark.protocol("H21")
def test_an_event_id_opens_nothing_for_another_session(a: str, b: str, client: RawClient, gate: Gate) -> None:
    with client.stream(a, client.calling("count_to", number=2, gate=gate.path)) as response:
        start = next(events(response))
    gate.reached()
    gate.open()
    other = connected(b)
    for url in (a, b):
        with other.get(url, last_event_id=start.id) as resumed:
            assert resumed.status_code == 400


@pytest.mark.protocol("H17")
def test_what_is_said_while_nobody_listens_comes_with_the_next_stream_and_only_once(
    a: str, b: str, client: RawClient
) -> None:
    for _ in range(3):
        client.value(a, "announce")
    with client.get(b) as listening:
        received = messages(listening)
        assert [next(received)["method"] for _ in range(3)] == ["notifications/resources/list_changed"] * 3
        client.value(b, "log", level="info", text="on its own stream")
    client.value(b, "announce")
    with client.get(a) as listening:
        received = messages(listening)
        assert next(received)["method"] == "notifications/resources/list_changed"
        assert client.delete(b).status_code == 204
        assert list(received) == []


@pytest.mark.protocol("H26")
def test_the_end_of_a_session_closes_its_streams_everywhere_and_cancels_handlers_that_wait_for_its_client(
    a: str, b: str, client: RawClient
) -> None:
    with (
        client.get(b) as listening,
        client.stream(b, client.calling("ask_age", name="Ann")) as asking,
    ):
        asked = messages(asking)
        listened = messages(listening)
        assert next(asked)["method"] == "elicitation/create"
        assert client.delete(a).status_code == 204
        assert all("result" not in message for message in asked)
        assert list(listened) == []
    assert client.post(b, client.request("ping")).status_code == 404


@pytest.mark.protocol("M5")
def test_an_announcement_reaches_both_eras_on_every_process(a: str, b: str, client: RawClient) -> None:
    teller = connected(a)
    with hearing_of_tools(b) as heard, client.get(b) as standalone:
        told = messages(standalone)
        assert teller.value(a, "change_tools") == "told"
        assert next(heard)["method"] == "notifications/tools/list_changed"
        assert next(told)["method"] == "notifications/tools/list_changed"


def test_resource_subscriptions_belong_to_the_session_and_hold_on_every_process(
    a: str, b: str, client: RawClient
) -> None:
    uri = "everything://greeting"
    assert client.post(a, client.request("resources/subscribe", {"uri": uri})).json()["result"] == {}
    with client.get(b) as listening:
        received = messages(listening)
        client.value(a, "update", uri="everything://another")
        client.value(a, "update", uri=uri)
        told = next(received)
        assert (told["method"], told["params"]) == ("notifications/resources/updated", {"uri": uri})
        assert client.post(b, client.request("resources/unsubscribe", {"uri": uri})).json()["result"] == {}
        client.value(b, "update", uri=uri)
        client.value(b, "announce")
        assert next(received)["method"] == "notifications/resources/list_changed"


def test_a_session_that_subscribes_to_too_much_gets_an_error(a: str, b: str, client: RawClient) -> None:
    for number in range(100):
        uri = f"everything://{number}"
        assert "result" in client.post(a, client.request("resources/subscribe", {"uri": uri})).json()
    refused = client.post(b, client.request("resources/subscribe", {"uri": "everything://more"})).json()
    assert "100" in refused["error"]["message"]


def test_a_session_whose_tools_change_is_told(a: str, b: str, client: RawClient) -> None:
    with client.get(b) as listening:
        received = messages(listening)
        assert client.value(a, "enable", name="secret") == ["secret"]
        assert next(received)["method"] == "notifications/tools/list_changed"
