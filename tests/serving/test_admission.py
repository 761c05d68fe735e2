"""What a process admits at the same time, and what of it is left when it is over."""

import asyncio
import secrets
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_sessions import counting
from mcp_sessions.conf import Endpoint
from mcp_sessions.serving.admission import Admission, correlation, name_of


class Exchange:
    """A request of a session; its handler runs until it is told to end, or is cancelled."""

    def __init__(self, fingerprint: str, request_id: str | int = 1) -> None:
        self.session = SimpleNamespace(fingerprint=fingerprint)
        self.request = SimpleNamespace(id=request_id)
        self.task: Any = None
        self.response: Any = None
        self.cancelled = False
        self.ends = asyncio.Event()

    async def run(self) -> None:
        await self.ends.wait()
        self.response = {"result": {}}

    def interrupted(self) -> Any:
        return {"error": "interrupted"}

    def respond(self, response: Any) -> None:
        self.response = response

    def cancel(self) -> None:
        self.cancelled = True


def admission(**conf: Any) -> Any:
    settings = Endpoint(alias=f"admits-{secrets.token_hex(4)}", server="no.server", **conf)
    return Admission(lambda: settings)


def limited(of: Any) -> dict[str, int]:
    """How often which cap has refused something."""
    numbers = counting.since_the_start(of._conf().alias).numbers
    return {name.partition(":")[2]: number for name, number in numbers.items()}


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_requests_and_notifications_count_until_they_are_over() -> None:
    admits = admission(max_requests=3, max_requests_per_session=2)
    one, release = Exchange("a"), asyncio.Event()
    admits.run(one)
    assert admits.may_run("a")
    admits.run_notification("a", release.wait())
    assert not admits.may_run("a")
    assert admits.may_run("b")
    other = Exchange("b")
    admits.run(other)
    assert not admits.may_run("c")
    assert limited(admits) == {"MAX_REQUESTS_PER_SESSION": 1, "MAX_REQUESTS": 1}
    assert len(admits.tasks) == 3
    assert admits.of("a") == [one]
    assert set(admits) == {one, other}

    release.set()
    await settled()
    assert (admits.may_run("a"), len(admits.tasks), admits.notifications) == (True, 2, set())
    for each in (one, other):
        each.ends.set()
    await settled()
    assert (admits.tasks, list(admits), admits.of("a"), one.task) == ([], [], [], None)
    assert not admits._exchanges, "nothing stays of sessions that were served once"
    assert not admits._notifications_of
    admits.waiting = 2
    assert all(admits.may_wait(runs=True) for _ in range(3))
    admits.waiting = 3
    assert not admits.may_wait(runs=True)


async def test_a_session_with_two_requests_keeps_the_one_that_goes_on() -> None:
    admits = admission()
    one, other = Exchange("a"), Exchange("a", 2)
    for each in (one, other):
        admits.run(each)
    one.ends.set()
    await settled()
    assert admits.of("a") == [other]
    other.ends.set()
    await settled()


async def test_a_request_that_was_cancelled_before_it_began_is_answered() -> None:
    admits, exchange = admission(), Exchange("a")
    admits.run(exchange)
    exchange.task.cancel()
    await settled()
    assert exchange.response == {"error": "interrupted"}
    assert list(admits) == []


async def test_what_waits_for_the_store_counts_with_what_runs_unless_it_runs_nothing_itself() -> None:
    admits, exchange = admission(max_requests=2), Exchange("a")
    admits.run(exchange)
    assert admits.may_wait(runs=True)
    admits.waiting = 1
    assert not admits.may_wait(runs=True)
    assert admits.may_wait(runs=False)
    admits.waiting = 2
    assert [admits.may_wait(runs=False) for _ in range(2)] == [False, False]
    assert limited(admits) == {"MAX_REQUESTS": 3}
    exchange.ends.set()
    await settled()


async def test_streams_count_from_their_opening_to_their_end() -> None:
    admits = admission(max_streams=2)
    assert [admits.open_stream() for _ in range(3)] == [True, True, False]
    assert admits.streams == 2
    admits.close_stream()
    assert (admits.streams, admits.open_stream()) == (1, True)
    assert limited(admits) == {"MAX_STREAMS": 1}


async def test_a_cancellation_finds_the_request_however_its_id_is_spelled_and_no_other() -> None:
    admits = admission()
    running = [Exchange("a", "7"), Exchange("a", 7), Exchange("a", "seven"), Exchange("b", 7)]
    for each in running:
        admits.run(each)
    assert not admits.cancel("a", 8)
    assert not admits.cancel("c", 7)
    assert not any(each.cancelled for each in running)
    assert admits.cancel("a", 7)
    assert [each.cancelled for each in running] == [True, True, False, False]
    admits.cancel_named([name_of("a", 8), name_of("b", 8), name_of("c", 7)])
    assert [each.cancelled for each in running] == [True, True, False, False]
    admits.cancel_named([name_of("a", "seven"), name_of("b", "7")])
    assert all(each.cancelled for each in running)
    for each in running:
        each.ends.set()
    await settled()


@pytest.mark.parametrize(("spelled", "same"), [(7, 7), ("7", 7), ("07", 7), ("7a", "7a"), ("", "")])
def test_ids_are_compared_as_the_sdk_compares_them(spelled: str | int, same: str | int) -> None:
    assert correlation(spelled) == same


def test_a_request_has_a_short_name_however_long_its_id_is() -> None:
    assert [len(name_of("a", each)) for each in (7, "x" * 256, "\ud800")] == [18, 18, 18]
    assert name_of("a", "7") == name_of("a", 7) != name_of("b", 7)
