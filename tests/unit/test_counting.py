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
