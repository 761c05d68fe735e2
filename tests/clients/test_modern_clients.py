"""Clients of the modern era: no session, so any process answers anything, and a restart is not noticed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.clients.conftest import Pair
from tests.clients.driven import (
    ClientError,
    DrivenClient,
    Event,
    answer_of,
    driven,
    python_driver,
    typescript_driver,
)

VERSION = "2026-07-28"
COMMANDS: dict[str, Callable[[], Sequence[str]]] = {
    "python-2": lambda: python_driver(sys.executable, "python_2", VERSION),
    "typescript-client-2": lambda: typescript_driver("client", VERSION),
}

pytestmark = [pytest.mark.clients, pytest.mark.slow]


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.needs("npm") if name.startswith("typescript") else ())
        for name in COMMANDS
    ]
)
def client(request: pytest.FixtureRequest, pair: Pair, tmp_path: Path) -> Iterator[DrivenClient]:
    """The client, which has learnt from process A what the server can do."""
    with driven(COMMANDS[request.param](), tmp_path) as client:
        assert client.open(pair.url) == VERSION
        yield client


def test_any_process_answers_and_no_session_is_made(client: DrivenClient, pair: Pair) -> None:
    assert set(client.tools()) >= {"add", "hold", "remember"}
    pair.switch.to = pair.b
    assert client.call("add", a=1, b=2)["structuredContent"] == {"total": 3, "process": pair.b.pid}
    pair.a.restart()
    pair.switch.to = pair.a
    assert client.call("add", a=3, b=4)["structuredContent"] == {"total": 7, "process": pair.a.pid}
    client.close()
    assert {(request.method, request.session) for request in pair.switch.served} == {("POST", None)}


def test_progress_arrives_while_the_tool_still_runs(client: DrivenClient, pair: Pair, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    client.tell("call", tool="hold", arguments={"gate": str(gate)})
    assert client.next_event() == Event(kind="progress", value=[1, 2, "waiting"])
    gate.touch()
    assert client.next_event() == Event(kind="progress", value=[2, 2, "released"])
    result = answer_of(client.next_event())
    assert result["structuredContent"] == {"total": 2, "process": pair.a.pid}


def test_a_tool_that_needs_a_session_says_so(client: DrivenClient) -> None:
    try:
        result = client.call("remember", fact="tea")
    except ClientError as error:
        pytest.fail(f"a failing tool is a result, not {error}")
    assert result["isError"]
