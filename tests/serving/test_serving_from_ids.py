"""What a process serves from session ids while the store is away: for how long, what it remembers, what it writes."""

import time
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import ids
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.errors import RecordSealed, StoreUnavailable, TooManySessions
from mcp_sessions.ids import SignedId
from mcp_sessions.serving import outage as serving_outage
from mcp_sessions.serving.outage import Outage, _in_batches
from mcp_sessions.store.calls import revival, sessions
from mcp_sessions.transport import sse
from tests.serving.contexts import Process
from tests.store.harness import CLAUDE, START

AWAY = StoreUnavailable("away")
WHO = Identity(principal="user:1", credential="token 1")


class Serving(Process):
    """A process that serves without the store; by the store's clock it is `now`."""

    def __init__(self, **conf: Any) -> None:
        # Not the same object as the constant: settings may come from the environment.
        super().__init__(**{"on_store_down": "".join("serve"), "retry": 2.5, **conf})
        self.now = START
        self.node.validity = mock.Mock(min_created_ms=0, now_ms=lambda: self.now)
        self.outage = Outage(self.context)

    def minted(self, max_age_ms: int = 60_000) -> SignedId:
        return ids.mint(CLAUDE, principal="user:1", namespace="", created_ms=self.now, max_age_ms=max_age_ms)

    def over(self, session_id: SignedId) -> bool:
        return self.outage.serve(session_id, "user:1", AWAY) is None


def test_a_session_is_what_its_id_says_until_its_id_is_over() -> None:
    process = Serving()
    session_id = process.minted()
    process.now = session_id.deadline_ms - 1
    session = process.outage.serve(session_id, "user:1", AWAY)
    assert session is not None
    assert (session.fingerprint, session.principal, session.handshake) == (
        session_id.fingerprint,
        "user:1",
        CLAUDE,
    )
    assert (session.created_ms, session.last_activity_ms) == (START, process.now)
    assert session.deadline_ms == session.expires_ms == START + 60_000
    assert (session.active, session.initialized, session.is_stored) == (True, True, False)
    assert (session.requests, session.last_call, session.log_level, session.tools) == (
        0,
        "",
        None,
        frozenset(),
    )
    assert (process.outage.served, process.outage.lasts) == (1, True)
    process.now += 1
    assert process.over(session_id)
    assert process.outage.served == 1


@pytest.mark.parametrize(
    ("conf", "error"), [({"on_store_down": "503"}, AWAY), ({}, RecordSealed("no key opens it"))]
)
def test_what_is_not_served_without_the_store_fails_with_the_stores_error(
    conf: dict[str, Any], error: StoreUnavailable
) -> None:
    process = Serving(**conf)
    for act in (
        lambda: process.outage.serve(process.minted(), "user:1", error),
        lambda: process.outage.open(CLAUDE, WHO, error),
    ):
        with pytest.raises(StoreUnavailable) as raised:
            act()
        assert raised.value is error
    assert (process.outage.served, process.outage._opened) == (0, {})


def test_an_end_is_remembered_for_as_long_as_an_id_could_be_valid_and_the_newest_ones_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_outage, "MOST_ENDED", 2)
    process = Serving(max_age=100)
    one, two, three = (process.minted() for _ in range(3))
    with mock.patch.object(time, "monotonic", return_value=1_000.0) as clock:
        process.outage.hear_ended([one.fingerprint, one.fingerprint])
        process.outage.hear_ended([one.fingerprint, two.fingerprint])
        assert [process.over(each) for each in (one, two, three)] == [True, True, False]
        clock.return_value += 50
        process.outage.hear_ended([three.fingerprint])
        assert [process.over(each) for each in (one, two, three)] == [False, True, True]
        clock.return_value += 50
        process.outage.hear_ended([])
        assert process.over(two)
        clock.return_value += 0.1
        process.outage.hear_ended([])
        assert [process.over(each) for each in (two, three)] == [False, True]
    elsewhere = Serving(on_store_down="503")
    elsewhere.outage.hear_ended([one.fingerprint])
    assert not elsewhere.outage._ends


def test_so_many_ends_and_openings_are_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_outage, "MOST_UNWRITTEN", 2)
    process = Serving()
    opened = [process.outage.open(CLAUDE, WHO, AWAY)[0] for _ in range(3)]
    assert list(process.outage._opened) == [each.fingerprint for each in opened[:2]]
    for each in opened:
        process.outage.end(each, "user:1")
    assert list(process.outage._leaving) == [each.fingerprint for each in opened[:2]]
    assert all(process.over(each) for each in opened), "here it is over at once"


async def test_what_was_opened_is_recorded_with_its_credential_and_for_as_long_as_it_was_used() -> None:
    process = Serving(idle_ttl=3_000, first_ttl=60)
    used, unused = (process.outage.open(CLAUDE, WHO, AWAY)[0] for _ in range(2))
    assert used.unwritten
    process.outage.serve(used, "user:1", AWAY)
    process.store.away = True
    with pytest.raises(StoreUnavailable):
        await process.outage.settle()
    process.store.away = False
    await process.outage.settle()
    found = [await process.harness.store.run(sessions.get(each.fingerprint)) for each in (used, unused)]
    assert [each.expires_ms - START for each in found if each] == [3_000_000, 60_000]
    assert [each.active for each in found if each] == [True, False]
    assert [each.handshake.name for each in found if each] == ["token 1", "token 1"]
    assert not process.outage._opened
    asked = len(process.store.asked)
    await process.outage.settle()
    assert len(process.store.asked) == asked


@pytest.mark.parametrize(
    ("conf", "unwritten", "recorded", "capped", "asked", "left"),
    [
        ({}, False, True, False, ["end"], ""),
        ({}, False, False, False, ["end"], ""),
        ({}, True, False, False, ["record", "end"], ""),
        ({"on_miss": "revive"}, False, False, False, ["record", "end"], ""),
        ({"on_miss": "revive"}, False, True, False, ["record", "end"], ""),
        ({}, True, False, True, ["record", "end", "bury"], ""),
        ({}, True, False, True, ["record", "end", "revived"], "leaving"),
    ],
)
async def test_an_end_is_written_of_what_is_recorded_and_of_what_may_be_opened_again(
    monkeypatch: pytest.MonkeyPatch,
    conf: dict[str, str],
    unwritten: bool,
    recorded: bool,
    capped: bool,
    asked: list[str],
    left: str,
) -> None:
    process = Serving(**{key: "".join(value) for key, value in conf.items()})
    minted = process.minted()
    session_id = process.outage.open(CLAUDE, WHO, AWAY)[0] if unwritten else minted
    process.outage._opened.clear()
    if recorded:
        await process.harness.open(principal="user:1", fingerprint=session_id.fingerprint)
    did: list[str] = []
    ends: list[Any] = []
    record, bury = revival.revive, revival.bury

    async def end(node: Any, alias: str, fingerprint: str, **how: Any) -> Any:
        did.append("end")
        ends.append((node, alias, fingerprint, how))
        if capped:
            return None
        return await process.store.run(sessions.end(fingerprint, principal="user:1", reason=how["reason"]))

    def revive(*about: Any, **more: Any) -> Any:
        did.append("record")
        assert (more["flags"], more["call"]) == (revival.USED, "")
        return record(*about, **more)

    def bury_it(*about: Any, **more: Any) -> Any:
        did.append(asked[-1])
        return bury(*about, **more)

    monkeypatch.setattr(serving_outage, "aend_session", end)
    monkeypatch.setattr(revival, "revive", revive)
    monkeypatch.setattr(revival, "bury", bury_it)
    if capped and not left:
        too_many = TooManySessions(per_principal=True)
        monkeypatch.setattr(process.store, "run", mock.AsyncMock(side_effect=[too_many, "buried"]))
    process.outage.end(session_id, "user:1")
    await process.outage.settle()
    assert did == asked
    how = {"reason": "deleted", "by": "user:1", "principal": "user:1"}
    assert ends == [(process.node, "default", session_id.fingerprint, how)]
    assert list(process.outage._leaving) == ([session_id.fingerprint] if left else [])


async def test_who_listens_is_told_to_come_back_when_the_store_is_there_again() -> None:
    process = Serving()
    stream, left = process.outage.listen(), process.outage.listen()
    assert left.on_close is not None
    left.on_close()
    process.store.away = True
    with pytest.raises(StoreUnavailable):
        await process.outage.settle()
    assert stream.open
    process.store.away = False
    await process.outage.settle()
    assert (stream.open, stream._frames) == (False, [sse.retry(2.5)])
    assert left._frames == []
    asked = len(process.store.asked)
    await process.outage.settle()
    assert len(process.store.asked) == asked, "nobody listens"


async def test_a_batch_of_which_nothing_can_be_written_is_the_last_that_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_outage, "BATCH", 2)
    tried: list[int] = []

    async def write(number: int) -> None:
        tried.append(number)
        if number != 2:
            raise AWAY

    with pytest.raises(StoreUnavailable, match="the store is still away"):
        await _in_batches(write, [(number,) for number in range(1, 8)])
    assert tried == [1, 2, 3, 4]
    await _in_batches(write, [])
