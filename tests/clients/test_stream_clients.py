"""Clients that are asked, and clients that lose their stream: whichever process each of their requests lands on."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Pair, status_of
from tests.clients.driven import DrivenClient, Event, answer_of, driven, python_driver, typescript_driver
from tests.support.processes import Process, wait_until

pytestmark = [pytest.mark.clients, pytest.mark.slow]


def python() -> Sequence[str]:
    return python_driver(sys.executable, "python_2", "legacy")


def typescript_sdk() -> Sequence[str]:
    return typescript_driver("sdk")


def typescript_client() -> Sequence[str]:
    return typescript_driver("client")


typescripts = [
    pytest.param(typescript_sdk, marks=pytest.mark.needs("npm")),
    pytest.param(typescript_client, marks=pytest.mark.needs("npm")),
]


@pytest.fixture(params=[python, *typescripts])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DrivenClient]:
    """A client that is not connected yet."""
    with driven(request.param(), tmp_path) as client:
        yield client


@pytest.mark.needs("nginx")
def test_behind_round_robin_a_client_is_asked_and_its_answers_are_heard(
    client: DrivenClient, processes: tuple[Process, Process], round_robin_url: str, tmp_path: Path
) -> None:
    client.open(round_robin_url)
    heard = []
    open_gate = {"ask": {"gate": str(tmp_path)}, "sample": {}}
    for tool, question, answer in [("ask", "How old?", "33"), ("sample", "What is the answer?", "42")] * 3:
        client.tell("call", tool=tool, arguments=open_gate[tool])
        assert client.next_event() == Event(kind="asked", value=question)
        heard.append(structured(client))
        assert heard[-1]["heard"] == answer
        client.call("add", a=1, b=1)
    assert {each["process"] for each in heard} <= {process.pid for process in processes}
    client.close()


@pytest.mark.needs("nginx")
def test_behind_round_robin_a_client_comes_back_for_a_stream_that_the_server_closed(
    client: DrivenClient, round_robin_url: str, tmp_path: Path
) -> None:
    client.open(round_robin_url)
    for n in range(2):
        gate = tmp_path / f"gate{n}"
        client.tell("call", tool="hang_up", arguments={"gate": str(gate)})
        assert client.next_event() == Event(kind="progress", value=[1, 2, "waiting"])
        gate.touch()
        assert client.next_event() == Event(kind="progress", value=[2, 2, "released"])
        assert structured(client)["total"] == 2
    client.close()


def test_a_client_is_asked_by_one_process_and_answers_through_the_other(
    client: DrivenClient, pair: Pair, tmp_path: Path
) -> None:
    client.open(pair.url)
    gate = tmp_path / "gate"
    client.tell("call", tool="hold", arguments={"gate": str(tmp_path)})
    while client.next_event().kind != "answer":
        pass
    session_id, before = pair.session_id(), len(pair.switch.served)
    client.tell("call", tool="ask", arguments={"gate": str(gate)})
    wait_until(lambda: len(pair.switch.served) > before, what="the call")
    pair.switch.to = pair.b
    gate.touch()
    assert client.next_event() == Event(kind="asked", value="How old?")
    assert structured(client) == {"heard": "33", "process": pair.a.pid}
    assert pair.last_served("POST") == "B"
    client.close()
    assert pair.last_served("DELETE") == "B"
    assert [status_of(process, session_id) for process in (pair.a, pair.b)] == [404, 404]


def test_a_client_whose_stream_was_closed_comes_back_to_the_other_process(
    client: DrivenClient, pair: Pair, tmp_path: Path
) -> None:
    client.open(pair.url)
    gate = tmp_path / "gate"
    client.tell("call", tool="hang_up", arguments={"gate": str(gate)})
    assert client.next_event() == Event(kind="progress", value=[1, 2, "waiting"])
    pair.switch.to = pair.b
    wait_until(lambda: pair.last_served("GET") == "B", what="the client to come back")
    gate.touch()
    assert client.next_event() == Event(kind="progress", value=[2, 2, "released"])
    assert structured(client) == {"total": 2, "process": pair.a.pid}
    client.close()


@pytest.mark.parametrize("command", typescripts)
def test_a_resumption_token_is_good_for_any_process(command: Any, pair: Pair, tmp_path: Path) -> None:
    """The program that made the call is gone; another one goes on with its session and its token."""
    gate = tmp_path / "gate"
    call = {"tool": "hold", "arguments": {"gate": str(gate)}}
    with driven(command(), tmp_path) as client:
        client.open(pair.url)
        left = client.ask("leave", **call)
    pair.switch.to = pair.b
    gate.touch()
    with driven(command(), tmp_path) as again:
        result = again.ask("resume", url=pair.url, **left, **call)
        assert result["structuredContent"] == {"total": 2, "process": pair.a.pid}
        again.close()
    assert pair.last_served("GET") == "B"
    assert status_of(pair.a, left["session"]) == 404


def structured(client: DrivenClient) -> Any:
    """The structured content of the answer that comes next."""
    return answer_of(client.next_event())["structuredContent"]
