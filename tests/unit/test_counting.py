"""What a process counts before it is written."""

import threading

import pytest

from mcp_sessions import counting
from mcp_sessions.counting import MOST_NAMES, MOST_TOOLS, OTHER, Counts


@pytest.fixture
def alias() -> str:
    """An endpoint of which nothing has been counted."""
    return f"counted-{threading.get_native_id()}-{next(_numbers)}"


_numbers = iter(range(1_000_000))


def test_what_was_taken_is_counted_anew_and_known_since_the_start(alias: str) -> None:
    counting.count(alias, "sessions_opened")
    counting.count(alias, "sessions_ended", 3, reason="idle")
    counting.count_call(alias, "add", milliseconds=7, outcome="ok")

    assert counting.take(alias).numbers == {"sessions_opened": 1, "sessions_ended:idle": 3}
    counting.count(alias, "sessions_opened")
    assert counting.take(alias) == Counts({"sessions_opened": 1})
    assert counting.take(alias) == Counts()
    whole = counting.since_the_start(alias)
    assert (whole.numbers["sessions_opened"], whole.tools["add"][0]) == (2, 1)


def test_threads_lose_no_count(alias: str) -> None:
    def work() -> None:
        for _ in range(2_000):
            counting.count(alias, "seen")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in threads):
        taken += counting.take(alias).numbers.get("seen", 0)
    assert taken + counting.take(alias).numbers.get("seen", 0) == 16_000


def test_a_hundred_thousand_names_take_bounded_memory_and_no_call_is_lost(alias: str) -> None:
    for number in range(100_000):
        counting.count_call(alias, f"{number:06}" * 50, milliseconds=1, outcome="ok")
        counting.count(alias, "seen", reason=str(number))
        if number % 10_000 == 0:
            counting.take(alias)
    whole = counting.since_the_start(alias)
    assert len(whole.tools) == MOST_TOOLS + 1
    assert max(map(len, whole.tools)) == counting.NAME_CHARS
    assert sum(numbers[0] for numbers in whole.tools.values()) == 100_000
    assert whole.tools[OTHER][0] > 90_000
    assert len(whole.numbers) == MOST_NAMES


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        *((0, 0), (0.005, 0), (0.0051, 1), (0.01, 1), (0.025, 2), (0.05, 3), (0.1, 4), (0.25, 5), (0.5, 6)),
        *((1, 7), (2.5, 8), (5, 9), (10, 10), (30, 11), (60, 12), (300, 13), (300.1, 14), (10_000, 14)),
    ],
)
def test_a_call_is_in_the_first_bucket_whose_bound_it_does_not_exceed(seconds: float, bucket: int) -> None:
    counts = Counts()
    counts.add_call("add", seconds * 1000, "ok")
    assert counts.tools["add"] == [
        *(1, 0, 0, 0, 0),
        *(int(number == bucket) for number in range(15)),
        round(seconds * 1000),
    ]


def test_calls_are_counted_by_outcome_and_their_durations_add_up() -> None:
    counts = Counts()
    for number, outcome in enumerate(counting.OUTCOMES, 1):
        for _ in range(number):
            counts.add_call("add", 1.6, outcome)
    assert counts.tools == {"add": [1, 2, 3, 4, 5, 15, *[0] * 14, 30]}
    twice = Counts()
    for _ in range(2):
        twice.merge(counts)
    assert twice.tools == {"add": [2, 4, 6, 8, 10, 30, *[0] * 14, 60]}


def test_a_name_has_the_values_of_its_labels(alias: str) -> None:
    counting.count(alias, "streams", kind="listen", era="modern")
    counting.count_refusal(alias, 404)
    counting.count_limited(alias, "requests per principal")
    counting.count_refused_session(alias, "MAX_SESSIONS")
    assert counting.take(alias).numbers == {
        "streams:listen:modern": 1,
        "refusals:404": 1,
        "limited:requests per principal": 1,
        "sessions_refused": 1,
        "limited:MAX_SESSIONS": 1,
    }


def test_all_tools_beyond_the_most_are_counted_together() -> None:
    counts = Counts()
    for number in range(MOST_TOOLS + 3):
        counts.add_call(f"tool {number}", 1, "ok")
    assert len(counts.tools) == MOST_TOOLS + 1
    assert counts.tools[OTHER][0] == 3
