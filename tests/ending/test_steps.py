"""What is done for an end, in which order, and what goes on where a step fails: with a store that is played."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings

from mcp_sessions import conf, counting, ending
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import SessionsEnded
from mcp_sessions.errors import NotAllEnded, StoreUnavailable
from mcp_sessions.records import KINDS
from mcp_sessions.session import Session
from mcp_sessions.signals import session_ended
from mcp_sessions.store.calls import counts, endings, streams, sweeps
from mcp_sessions.store.calls.endings import Ending
from mcp_sessions.store.calls.sessions import Ends
from mcp_sessions.store.calls.sweeps import Swept
from tests.inventory.stores import START
from tests.inventory.stores import session as a_session

ONE, TWO = a_session(0), a_session(1)
OF_A_CLIENT = a_session(2, kind="caller")
CONVERSATION = a_session(3, kind="conversation")


def ends(*ended: Session, streams: Sequence[str] = (), failure: StoreUnavailable | None = None) -> Ends:
    return Ends(ended=ended, with_streams=streams, gone=[], unknown=[], failure=failure)


class Played:
    """A store, and the nodes and receivers, who all do nothing but remember what came, in order."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        #: What a step answers, or raises.
        self.answers: dict[str, Any] = {}

    def run(self, step: Any) -> Any:
        self.steps.append(step)
        answer = self.answers.get(step if isinstance(step, str) else step[0])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def names(self) -> list[str]:
        return [step if isinstance(step, str) else step[0] for step in self.steps]


@pytest.fixture(autouse=True)
def one_endpoint(settings: LazySettings) -> None:
    """No Redis here."""
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused"}}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    found = Played()
    monkeypatch.setattr(ending, "sync_store_for", lambda _: found)
    monkeypatch.setattr(endings, "begin", lambda begun: ("begin", begun))
    monkeypatch.setattr(endings, "finish", lambda token: ("finish", token))
    monkeypatch.setattr(endings.AtWork, "say", lambda _: ["say"])
    monkeypatch.setattr(ending, "_ends", lambda alias, begun: ("ends", alias, begun.token))
    monkeypatch.setattr(streams, "forget", lambda fingerprints: ("forget", list(fingerprints)))
    monkeypatch.setattr(counts, "add", lambda number, **more: ("count", dict(number.numbers), more))
    monkeypatch.setattr(outside, "notify_all", lambda alias, told: found.steps.append(("tell", alias, told)))
    monkeypatch.setattr(ending, "_log", lambda *facts: found.steps.append(("log", *facts)))
    monkeypatch.setattr(ending, "time", SimpleNamespace(time=lambda: START / 1000))

    def receive(fingerprint: str, reason: str, **_: Any) -> None:
        found.steps.append(("signal", fingerprint, reason))

    session_ended.connect(receive)
    yield found
    session_ended.disconnect(receive)


def end_batch(going_on: Any = lambda: None, **more: Any) -> Ends:
    return ending.end_batch("default", [ONE.fingerprint], by="ada", going_on=going_on, **more)


def test_the_intention_comes_first_and_is_forgotten_last(played: Played) -> None:
    played.answers["ends"] = ends(ONE, OF_A_CLIENT, CONVERSATION, streams=[ONE.fingerprint])
    found = end_batch(token="t", why="a leak", before_ms=5, going_on=lambda: played.steps.append("going on"))
    begun = Ending(
        token="t",
        fingerprints=[ONE.fingerprint],
        reason="expired_by_operator",
        by="ada",
        why="a leak",
        before_ms=5,
    )
    assert found.ended == (ONE, OF_A_CLIENT, CONVERSATION)
    told = SessionsEnded(fingerprints=tuple(each.fingerprint for each in found.ended))
    beside = {"by": "t", "batch": "t", "now_ms": START, "beside": [("finish", "t")]}
    assert played.steps == [
        ("begin", begun),
        ("ends", "default", "t"),
        ("log", "default", found.ended, "expired_by_operator", "ada", "a leak"),
        ("tell", "default", told),
        *(("signal", ONE.fingerprint, "expired_by_operator"), "say", "going on"),
        *(("signal", CONVERSATION.fingerprint, "expired_by_operator"), "say", "going on"),
        ("forget", [ONE.fingerprint]),
        ("count", {"sessions_ended:expired_by_operator": 1}, beside),
    ]


def test_where_nothing_ends_nobody_is_told_and_the_intention_is_forgotten(played: Played) -> None:
    played.answers["ends"] = ends()
    end_batch()
    assert played.names() == ["begin", "ends", "count"]
    played.steps.clear()
    played.answers["ends"] = ends(ONE, failure=StoreUnavailable("away"))
    assert end_batch().failure is not None
    assert played.names() == ["begin", "ends", "log", "tell", "signal", "say", "count"]
    assert played.steps[-1][2]["beside"] == [], "a node is to finish it"


@pytest.mark.parametrize("step", ["forget", "count"])
def test_what_has_ended_has_ended_although_the_store_goes_away(
    played: Played, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    played.answers |= {"ends": ends(ONE, streams=[ONE.fingerprint]), step: StoreUnavailable("away")}
    assert end_batch().ended == (ONE,)
    assert "Ends of sessions may be announced again: away" in caplog.text
    assert ("count" in played.names()) is (step == "count")


def test_receivers_are_told_although_nobody_hears_that_they_are_at_work(played: Played) -> None:
    played.answers |= {"ends": ends(ONE, TWO), "say": StoreUnavailable("away")}
    going_on: list[int] = []
    end_batch(going_on=lambda: going_on.append(1))
    assert (played.names().count("signal"), len(going_on)) == (2, 2)


def test_many_end_in_batches_of_two_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def batch(alias: str, fingerprints: Sequence[str], **_: Any) -> Ends:
        batches.append(len(fingerprints))
        failure = StoreUnavailable("away") if len(batches) == 4 else None
        return ends(*(ONE._replace(fingerprint=each) for each in fingerprints[:1]), failure=failure)

    monkeypatch.setattr(ending, "end_batch", batch)
    assert len(ending.end_sessions("default", [f"{number}" for number in range(401)] * 2)) == 3
    assert batches == [200, 200, 1]
    with pytest.raises(NotAllEnded) as caught:
        ending.end_sessions("default", ["a"])
    assert caught.value.ended == {"a"}
    assert ending.end_sessions("default", []) == frozenset()


class Node:
    """One that serves the endpoint."""

    id = "0ff1ce"

    def __init__(self, played: Played) -> None:
        self.store = SimpleNamespace(run=self._run, run_all=self._run_all)
        self._played = played

    async def _run(self, step: Any) -> Any:
        return self._played.run(step)

    async def _run_all(self, steps: Sequence[Any]) -> list[Any]:
        return [self._played.run(step) for step in steps]

    def notify(self, node: str, told: Any) -> None:
        self._played.steps.append(("tell itself", node, told))

    async def notify_others(self, told: Any) -> None:
        self._played.steps.append(("tell others", told))


@pytest.fixture
def node(played: Played) -> Any:
    return Node(played)


async def test_each_ending_that_others_left_is_finished(
    played: Played, node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end_over(_node: Any, alias: str, fingerprints: Any, *, token: str) -> None:
        played.steps.append(("over", token))

    async def announce(_node: Any, alias: str, ended: Any, *, reason: str, by: str, begun: Any) -> None:
        played.steps.append(("announce", begun.token, reason, by))

    def left(token: str, reason: Any) -> Ending:
        return Ending(token=token, fingerprints=[ONE.fingerprint], reason=reason, by="ada")

    found = {"a": ends(ONE), "b": ends(), "c": ends(ONE, failure=StoreUnavailable("away")), "d": ends(ONE)}
    monkeypatch.setattr(endings, "overdue", lambda: "overdue")
    monkeypatch.setattr(ending, "end_over", end_over)
    monkeypatch.setattr(ending, "_announce", announce)
    monkeypatch.setattr(ending, "_ends", lambda _, begun: begun.token)
    played.answers = {
        **found,
        "overdue": [left("o", "over"), *(left(token, "deleted") for token in found), left("p", "over")],
    }
    await ending.finish_endings(node, "default")
    assert played.steps == [
        "overdue",
        ("over", "o"),
        *("a", ("announce", "a", "deleted", "ada"), ("finish", "a")),
        *("b", ("finish", "b")),
        *("c", ("announce", "c", "deleted", "ada")),
        *("d", ("announce", "d", "deleted", "ada"), ("finish", "d")),
        ("over", "p"),
    ]


@pytest.mark.parametrize("complete", [True, False])
async def test_each_record_whose_time_is_over_has_a_reason_of_its_own(
    played: Played, node: Any, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    old = CONVERSATION._replace(expires_ms=9, deadline_ms=9)
    counted: list[tuple[Any, ...]] = []
    monkeypatch.setattr(counting, "count", lambda *what, reason: counted.append((*what, reason)))
    monkeypatch.setattr(sweeps, "sweep", lambda fingerprints, *, token, limits: ("sweep", token))
    monkeypatch.setattr(sweeps, "forget", lambda fingerprints, *, token: ("swept", fingerprints, token))
    played.answers["sweep"] = Swept(ended=[ONE, OF_A_CLIENT, old], lost=[], foreign=[], complete=complete)
    played.answers["say"] = StoreUnavailable("away")
    await ending.end_over(node, "default", [ONE.fingerprint], token="t")
    assert played.steps == [
        ("sweep", "t"),
        ("log", "default", [ONE], "idle", "time"),
        *(("signal", ONE.fingerprint, "idle"), "say"),
        ("log", "default", [old], "max_age", "time"),
        *(("signal", old.fingerprint, "max_age"), "say"),
        ("forget", [ONE.fingerprint]),
        ("swept", [each.fingerprint for each in (ONE, OF_A_CLIENT, old)], "t"),
        *([("finish", "t")] if complete else []),
    ]
    assert counted == [
        ("default", "sessions_ended", 1, "idle"),
        ("default", "sessions_ended", 0, "max_age"),
    ]
    played.steps.clear()
    played.answers["sweep"] = Swept(ended=[], lost=[], foreign=[], complete=True)
    await ending.end_over(node, "default", [ONE.fingerprint], token="t")
    assert played.names() == ["sweep", "forget", "finish"]


@pytest.mark.parametrize(
    "begun", [None, Ending(token="t", fingerprints=[], reason="deleted", by="x", why="a leak")]
)
async def test_a_node_hears_itself_first_and_others_when_receivers_have(
    played: Played, node: Any, begun: Ending | None
) -> None:
    played.answers |= {"forget": StoreUnavailable("away"), "say": StoreUnavailable("away")}
    await ending._announce(node, "default", [ONE, OF_A_CLIENT], reason="deleted", by="ada", begun=begun)
    told = SessionsEnded(fingerprints=(ONE.fingerprint, OF_A_CLIENT.fingerprint))
    assert played.steps == [
        ("log", "default", [ONE, OF_A_CLIENT], "deleted", "ada", "a leak" if begun else ""),
        ("tell itself", "0ff1ce", told),
        ("signal", ONE.fingerprint, "deleted"),
        *(["say"] if begun else []),
        ("tell others", told),
        ("forget", [ONE.fingerprint]),
    ]


@pytest.mark.parametrize(
    ("more", "lasts"),
    [({}, False), ({"ON_MISS": "revive"}, True), ({"ON_STORE_DOWN": "serve"}, True)],
)
def test_an_id_that_opens_a_session_again_has_a_tombstone_for_as_long(
    settings: LazySettings, more: dict[str, Any], lasts: bool
) -> None:
    settings.MCP_SESSIONS = {"default": {"SERVER": "unused", "MAX_AGE": 7_200, **more}}
    assert conf.endpoint("default").limits.max_age_ms == 7_200_000
    assert ending._lasting_ms("default") == (7_200_000 if lasts else 0)


def test_only_what_is_a_session_to_tools_is_signalled() -> None:
    records = [a_session(0, kind=kind) for kind in KINDS]
    assert [each["kind"] for each in ending._signals(records, "default", "idle")] == [
        "session",
        "conversation",
    ]
    assert ending._with_streams(records) == [records[0].fingerprint]
