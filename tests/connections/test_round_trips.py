"""What is sent to Redis, what is sent again, and what errors mean: without a connection."""

from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mcp_sessions.connections.round_trips import (
    Gathering,
    Job,
    NoReply,
    Steps,
    round_trips,
    says_demoted,
    unavailable,
)
from mcp_sessions.store.calls import reading, state

MANY, OTHER, ONCE = reading.TOUCH, reading.GET, state.INCR
BROKEN = RedisConnectionError("broken")


def job(name: str, script: Any = MANY) -> Job:
    return script, [f"{name}:key"], ("now", name)


def lost(*, sent: bool = True, cause: Exception = BROKEN) -> NoReply:
    return NoReply(cause, sent=sent)


def drive(steps: Steps, *trips: Sequence[Any]) -> tuple[list[list[Sequence[Any]]], list[Any]]:
    """The commands of each round trip, and what comes of the replies to each."""
    sent = [next(steps)]
    for replies in trips:
        try:
            sent.append(steps.send(list(replies)))
        except StopIteration as stop:
            return sent, stop.value
    raise AssertionError("more is sent")


def names(sent: list[list[Sequence[Any]]]) -> list[list[Any]]:
    """The last argument of each command."""
    return [[command[-1] for command in trip] for trip in sent]


def test_a_script_is_sent_by_its_digest_and_in_full_if_redis_does_not_know_it() -> None:
    sent, replies = drive(round_trips([job("a"), job("b", OTHER)]), [NoScriptError("?"), b"of b"], [b"of a"])
    assert sent == [
        [("EVALSHA", MANY.sha, 1, "a:key", "now", "a"), ("EVALSHA", OTHER.sha, 1, "b:key", "now", "b")],
        [("EVAL", MANY.text, 1, "a:key", "now", "a")],
    ]
    assert replies == [b"of a", b"of b"]


def test_an_error_that_says_something_of_a_call_is_its_reply() -> None:
    wrong = ResponseError("wrong")
    sent, replies = drive(round_trips([job("a"), job("b")]), [wrong, b"of b"])
    assert (len(sent), replies) == (1, [wrong, b"of b"])


def test_what_a_broken_connection_lost_is_sent_again_once_if_it_may_be() -> None:
    late, hung = lost(cause=RedisTimeoutError("late")), lost(cause=TimeoutError("late"))
    jobs = [job("touch"), job("sent", ONCE), job("unsent", ONCE), job("late"), job("hung"), job("there")]
    sent, replies = drive(
        round_trips(jobs),
        [lost(), (kept := lost()), lost(sent=False), late, hung, b"there"],
        [b"again", (twice := lost())],
    )
    assert names(sent)[1:] == [["touch", "unsent"]]
    assert replies == [b"again", kept, twice, late, hung, b"there"]
    assert (late.is_late, hung.is_late, kept.is_late) == (True, True, False)


def test_a_server_that_has_lost_its_scripts_gets_them_with_what_is_sent_again() -> None:
    sent, replies = drive(
        round_trips([job("a"), job("b")]), [lost(), b"of b"], [NoScriptError("?")], [b"of a"]
    )
    assert [[command[0] for command in trip] for trip in sent] == [["EVALSHA"] * 2, ["EVALSHA"], ["EVAL"]]
    assert replies == [b"of a", b"of b"]


def test_calls_of_a_script_travel_in_runs_of_so_many_and_each_gets_its_reply() -> None:
    jobs = [job("a"), job("b", OTHER), job("c"), job("d")]
    sent, replies = drive(
        Gathering(together=True).round_trips(jobs, most=2), [[b"of a", b"of c"], [b"of d"], [b"of b"]]
    )
    assert sent == [
        [
            ("EVALSHA", MANY.sha, 2, "a:key", "c:key", "now", "a", "c"),
            ("EVALSHA", MANY.sha, 1, "d:key", "now", "d"),
            ("EVALSHA", OTHER.sha, 1, "b:key", "now", "b"),
        ]
    ]
    assert replies == [b"of a", b"of b", b"of c", b"of d"]


def test_a_run_has_the_time_of_its_first_call() -> None:
    jobs: list[Job] = [(MANY, ["a:key"], (1, "a")), (MANY, ["b:key"], (2, "b"))]
    [command] = next(Gathering(together=True).round_trips(jobs))
    assert command == ("EVALSHA", MANY.sha, 2, "a:key", "b:key", 1, "a", "b")


@pytest.mark.parametrize(("jobs", "together"), [(1, True), (2, False)])
def test_calls_that_travel_alone_get_what_is_in_the_list_of_one(jobs: int, together: bool) -> None:
    wrong = ResponseError("wrong")
    some = [job("a"), job("b")][:jobs]
    sent, replies = drive(Gathering(together=together).round_trips(some), [[b"of a"], wrong][:jobs])
    assert len(sent[0]) == jobs
    assert replies == [b"of a", wrong][:jobs]


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [("wrong", True), ("CROSSSLOT Keys in request", False), ("Keys must be in the same slot", False)],
)
def test_a_run_that_fails_is_repeated_call_by_call_and_of_several_servers_no_other_run_is_tried(
    error: str, goes_on: bool
) -> None:
    gathering = Gathering(together=True)
    sent, replies = drive(
        gathering.round_trips([job("a"), job("b"), job("c", OTHER)]),
        [ResponseError(error), [b"of c"]],
        [[b"of a"], (wrong := ResponseError("of b"))],
    )
    assert names(sent) == [["b", "c"], ["a", "b"]]
    assert replies == [b"of a", wrong, b"of c"]
    again = next(gathering.round_trips([job("a"), job("b")]))
    assert len(again) == (1 if goes_on else 2)


@pytest.mark.parametrize("error", [OutOfMemoryError("full"), ReadOnlyError("read only"), lost(sent=True)])
def test_what_says_nothing_of_the_calls_is_the_reply_of_each(error: Exception) -> None:
    jobs = [job("a", ONCE), job("b", ONCE)]
    sent, replies = drive(Gathering(together=True).round_trips(jobs), [error])
    assert (len(sent), replies) == (1, [error, error])


def test_a_call_that_is_alone_in_its_run_is_not_repeated() -> None:
    wrong = ResponseError("wrong")
    sent, replies = drive(
        Gathering(together=True).round_trips([job("a"), job("b", OTHER)]), [wrong, [b"of b"]]
    )
    assert (len(sent), replies) == (1, [wrong, b"of b"])


def test_a_server_that_is_no_primary_any_more_says_so_in_three_ways() -> None:
    said = (ReadOnlyError("x"), MasterDownError("x"), ResponseError("against a read only replica"))
    assert [says_demoted(each) for each in (*said, ResponseError("x"))] == [True, True, True, False]


def test_the_error_of_a_caller_says_what_went_wrong_in_so_many_words() -> None:
    error = unavailable(cause := RedisConnectionError("x" * 1_000))
    assert str(error) == "ConnectionError: " + "x" * (300 - len("ConnectionError: "))
    assert error.__cause__ is cause


def test_an_error_in_the_place_of_a_reply_holds_no_frames() -> None:
    with pytest.raises(RedisConnectionError) as raised:
        raise RedisConnectionError("x")
    assert raised.value.__traceback__ is not None
    made = NoReply(raised.value, sent=True)
    assert made.cause.__traceback__ is None
    assert (str(made), made.sent) == ("x", True)
