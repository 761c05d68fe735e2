"""Clients with a session: every process serves it, a restart does not end it, DELETE does, for every process."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Pair, status_of
from tests.clients.driven import (
    ClientError,
    DrivenClient,
    Event,
    answer_of,
    driven,
    python_driver,
    typescript_driver,
)
from tests.support.mcp_client import RawClient
from tests.support.processes import Process
from tests.support.programs import python_with

pytestmark = [pytest.mark.clients, pytest.mark.slow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vintage:
    """One client library and what it speaks."""

    #: Makes the command of its driver; it may install the library first.
    command: Callable[[], Sequence[str]]
    #: The protocol version that it negotiates.
    version: str

    @property
    def knows_structured_results(self) -> bool:
        """They came with 2025-06-18."""
        return self.version >= "2025-06-18"


def old_python(requirements: str) -> list[str]:
    return python_driver(str(python_with(f"clients/{requirements}")), "python_1")


VINTAGES = {
    "python-1.9.4": Vintage(command=lambda: old_python("requirements-2025-03-26.txt"), version="2025-03-26"),
    "python-1.13.1": Vintage(command=lambda: old_python("requirements-2025-06-18.txt"), version="2025-06-18"),
    "python-2": Vintage(
        command=lambda: python_driver(sys.executable, "python_2", "legacy"), version="2025-11-25"
    ),
    "typescript-sdk-1": Vintage(command=lambda: typescript_driver("sdk"), version="2025-11-25"),
    "typescript-client-2": Vintage(command=lambda: typescript_driver("client"), version="2025-11-25"),
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.needs("npm") if name.startswith("typescript") else ())
        for name in VINTAGES
    ]
)
def vintage(request: pytest.FixtureRequest) -> Vintage:
    return VINTAGES[request.param]


@pytest.fixture
def client(vintage: Vintage, pair: Pair, tmp_path: Path) -> Iterator[DrivenClient]:
    """The client, connected through process A."""
    with driven(vintage.command(), tmp_path) as client:
        assert client.open(pair.url) == vintage.version
        yield client


def test_any_process_serves_a_session_until_it_is_deleted(
    client: DrivenClient, vintage: Vintage, pair: Pair
) -> None:
    assert pair.last_served("POST") == "A"
    session_id = pair.session_id()

    pair.switch.to = pair.b
    assert set(client.tools()) >= {"add", "hold", "remember"}
    assert remembered(client, vintage, "tea") == {"facts": ["tea"], "process": pair.b.pid}

    pair.a.restart()
    pair.switch.to = pair.a
    assert remembered(client, vintage, "cake") == {"facts": ["tea", "cake"], "process": pair.a.pid}
    assert status_of(pair.b, session_id) == 200

    pair.switch.to = pair.b
    client.close()
    assert pair.last_served("DELETE") == "B"
    assert [status_of(process, session_id) for process in (pair.a, pair.b)] == [404, 404]


def test_progress_arrives_while_the_tool_still_runs(
    client: DrivenClient, vintage: Vintage, pair: Pair, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pair.switch.to = pair.b
    client.tell("call", tool="hold", arguments={"gate": str(gate)})
    assert client.next_event() == Event(kind="progress", value=[1, 2, "waiting"])
    gate.touch()
    assert client.next_event() == Event(kind="progress", value=[2, 2, "released"])
    assert structured(answer_of(client.next_event()), vintage) == {"total": 2, "process": pair.b.pid}


def test_a_client_whose_session_is_gone_starts_a_new_one_and_goes_on(
    client: DrivenClient, vintage: Vintage, pair: Pair, tmp_path: Path
) -> None:
    remembered(client, vintage, "tea")
    first = pair.session_id()
    assert RawClient(session_id=first).delete(pair.b.url).status_code == 204
    with pytest.raises(ClientError):
        client.call("remember", fact="cake")

    with driven(vintage.command(), tmp_path) as again:
        assert again.open(pair.url) == vintage.version
        assert remembered(again, vintage, "cake")["facts"] == ["cake"]
        # The first client may come back for its standalone stream meanwhile, and name its session once more.
        assert pair.sessions() - {first}
        again.close()


@pytest.mark.needs("nginx")
def test_a_session_behind_round_robin_is_one_session(
    vintage: Vintage, processes: tuple[Process, Process], round_robin_url: str, tmp_path: Path
) -> None:
    with driven(vintage.command(), tmp_path) as client:
        client.open(round_robin_url)
        results = [remembered(client, vintage, fact) for fact in "abcdef"]
        client.close()
    assert [result["facts"] for result in results] == [list("abcdef")[:n] for n in range(1, 7)]
    assert {result["process"] for result in results} == {process.pid for process in processes}


def remembered(client: DrivenClient, vintage: Vintage, fact: str) -> Mapping[str, Any]:
    """What `remember` returned."""
    return structured(client.call("remember", fact=fact), vintage)


def structured(result: Mapping[str, Any], vintage: Vintage) -> Mapping[str, Any]:
    """The structured content; its text form, which says the same, for those that know no other."""
    assert not result.get("isError"), result
    text: Mapping[str, Any] = json.loads(result["content"][0]["text"])
    if vintage.knows_structured_results:
        assert result["structuredContent"] == text
    return text
