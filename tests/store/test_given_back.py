"""What becomes of the places in the indexes when a record is not made, or ends: without a store."""

from collections.abc import Sequence
from typing import Any

import pytest

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Handshake, Session
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import indexes, revival, sessions, tombstones
from mcp_sessions.store.calls.indexes import EVER
from mcp_sessions.store.calls.validity import Moment
from tests.store.harness import CLAUDE, DAY, LIMITS, START, embedded_harness
from tests.store.test_kinds import basket
from tests.store.test_revival import an_id

ONE = "ab" * 32
AWAY = StoreUnavailable("away")
RESERVED: Sequence[Any] = [None]


class Steps:
    """An operation, step by step."""

    def __init__(self, operation: Any, *answers: Sequence[Any]) -> None:
        self._operation = operation
        self.calls: Sequence[Call[Any]] = next(operation)
        self.result: Any = None
        for answer in answers:
            self.get(*answer)

    def get(self, *results: Any) -> None:
        self._go(lambda: self._operation.send([*results]))

    def fails(self) -> None:
        self._go(lambda: self._operation.throw(AWAY))

    def _go(self, step: Any) -> None:
        self.calls = ()
        try:
            self.calls = step()
        except StopIteration as stop:
            self.result = stop.value

    @property
    def given_back(self) -> list[tuple[str, int]]:
        """Whose places, if they were not used after which moment."""
        assert {call.script for call in self.calls} <= {indexes.UNINDEX}
        return [(call.arguments[1].hex(), call.arguments[2]) for call in self.calls]


def create(handshake: Handshake = CLAUDE) -> Steps:
    work = sessions.create(ONE, principal="anonymous", handshake=handshake, limits=LIMITS)
    return Steps(work, RESERVED)


def a_session(handshake: Handshake = CLAUDE) -> Session:
    return Session(
        fingerprint=ONE,
        handshake=handshake,
        principal="anonymous",
        created_ms=START,
        deadline_ms=START + DAY,
        last_activity_ms=START + 5,
        expires_ms=START + 9,
        active=True,
        initialized=True,
        requests=1,
        last_call="ping",
        log_level=None,
        tools=frozenset(),
    )


def test_a_session_that_is_made_keeps_its_place() -> None:
    steps = create()
    steps.get(a_session())
    assert (steps.calls, steps.result) == ((), a_session())


@pytest.mark.parametrize("heard", [True, False])
def test_the_place_of_a_record_that_could_not_be_stored_is_given_back(heard: bool) -> None:
    steps = create()
    steps.fails()
    assert steps.given_back == [(ONE, EVER)]
    with pytest.raises(StoreUnavailable, match="away"):
        steps.get(None) if heard else steps.fails()


def test_the_place_of_a_fingerprint_that_ended_is_given_back_and_that_of_another_session_is_not() -> None:
    steps = create()
    steps.get("ended")
    assert steps.given_back == [(ONE, EVER)]
    with pytest.raises(ValueError, match=f"fingerprint {ONE[:12]} ended"):
        steps.get(None)
    steps = create()
    with pytest.raises(ValueError, match=f"fingerprint {ONE[:12]} exists"):
        steps.get("exists")


def test_a_record_that_ends_gives_back_its_place_unless_it_was_made_again() -> None:
    for handshake, used_ms in ((CLAUDE, EVER), (basket("b-1"), START + 5)):
        steps = Steps(sessions.end(ONE, principal=None, reason="deleted"))
        steps.get(sessions._Ended(a_session(handshake), has_streams=True))
        assert steps.given_back == [(ONE, used_ms)]
        steps.fails()
        assert steps.result == a_session(handshake), "it has ended"


def test_what_did_not_end_gives_nothing_back() -> None:
    steps = Steps(sessions.end(ONE, principal=None, reason="deleted", lasting_ms=DAY))
    steps.get(None)
    assert (steps.calls, steps.result) == ((), None)


def test_an_end_that_lasts_is_made_small_behind_it() -> None:
    """Of what no id opens again, nothing small is kept."""
    for handshake, small in ((CLAUDE, [tombstones.ADD]), (basket("b-1"), [])):
        steps = Steps(sessions.end(ONE, principal=None, reason="deleted", lasting_ms=DAY))
        steps.get(sessions._Ended(a_session(handshake), has_streams=False))
        steps.get(None)
        if small:
            assert [call.script for call in steps.calls] == small
            steps.get(None)
        assert [(call.script, call.home) for call in steps.calls] == [(tombstones.SHORTEN, ONE)]
        steps.fails()
        assert steps.result == a_session(handshake)


def test_of_many_that_end_none_is_looked_for_in_the_indexes_that_is_gone() -> None:
    work = sessions.end_many([ONE, "cd" * 32], reason="idle", token="t", shards=1, lasting_ms=0)
    steps = Steps(work)
    steps.get(None, AWAY)
    assert steps.calls == ()
    assert (steps.result.ended, steps.result.gone, steps.result.unknown) == ([], [ONE], ["cd" * 32])
    assert steps.result.failure is AWAY


@pytest.mark.parametrize("streams", [True, False])
def test_of_many_that_end_it_is_known_which_have_streams_also_if_the_indexes_are_away(streams: bool) -> None:
    steps = Steps(sessions.end_many([ONE], reason="idle", token="t", shards=1))
    steps.get(sessions._Ended(a_session(), has_streams=streams))
    assert steps.given_back == [(ONE, EVER)]
    steps.fails()
    assert steps.result.ended == [a_session()]
    assert steps.result.with_streams == ([ONE] if streams else [])


def test_who_does_not_open_a_session_again_gives_back_its_place() -> None:
    harness = embedded_harness()
    session_id = an_id(harness)

    def revive(*answers: Sequence[Any]) -> Steps:
        work = revival.revive(
            session_id, principal="anonymous", handshake=CLAUDE, limits=harness.limits, call="ping"
        )
        return Steps(work, *answers)

    lives = [False, None, Moment(session_id.created_ms, 0)]
    for ended in (
        [True, *lives[1:]],
        [False, "deleted", lives[2]],
        [*lives[:2], Moment(session_id.created_ms + 1, 0)],
    ):
        steps = revive(ended)
        assert (steps.calls, steps.result) == ((), None)
    steps = revive(lives, RESERVED)
    steps.get(None)
    assert steps.given_back == [(session_id.fingerprint, EVER)]
    steps.get(None)
    assert steps.result is None
    steps = revive(lives, RESERVED)
    found = revival.Found(a_session(), opened=False)
    steps.get(found)
    assert (steps.calls, steps.result) == ((), found)
