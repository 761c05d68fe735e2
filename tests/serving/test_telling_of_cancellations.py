"""When the other nodes are told of a cancellation, and what is told of it while they cannot be."""

import asyncio
from typing import Any

import pytest

from mcp_sessions.cluster.notifications import Cancelled, Notification
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving import cancellations
from mcp_sessions.serving.admission import name_of
from mcp_sessions.serving.cancellations import Cancellations
from tests.serving.contexts import Process


class Telling(Process):
    """A process whose broadcasts take until a test says so."""

    def __init__(self, **conf: Any) -> None:
        super().__init__(**conf)
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.node.broadcast = self._broadcast  # type: ignore[method-assign]
        self.cancellations = Cancellations(self.context)

    async def _broadcast(self, message: Notification) -> bool:
        self.node.broadcasts.append(message)
        await self.goes_on.wait()
        return self.node.takes

    def begin(self, fingerprint: str, *request_ids: Any) -> "list[asyncio.Task[bool]]":
        return [asyncio.create_task(self.cancellations.tell(fingerprint, each)) for each in request_ids]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "PAUSE_SECONDS", 0)


def cancelled(fingerprint: str, *request_ids: Any) -> Cancelled:
    return Cancelled(requests=tuple(name_of(fingerprint, each) for each in request_ids))


async def test_what_comes_at_the_same_time_is_told_together_and_what_comes_meanwhile_next() -> None:
    process = Telling()
    process.goes_on.clear()
    first = process.begin("a", 1, 2, "1")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = process.begin("a", 1, 3)
    await asyncio.sleep(0)
    assert not any(each.done() for each in first)
    process.goes_on.set()
    assert await asyncio.gather(*first, *later) == [True] * 5
    assert process.node.broadcasts == [cancelled("a", 1, 2), cancelled("a", 3)]
    await process.settle()
    assert await asyncio.gather(*process.begin("a", 1)) == [True]
    assert process.node.broadcasts[2:] == [cancelled("a", 1)], "anew: the first was told"


async def test_one_broadcast_names_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "MOST_NAMED", 2)
    process = Telling()
    assert all(await asyncio.gather(*process.begin("a", 1, 2, 3)))
    assert process.node.broadcasts == [cancelled("a", 1, 2), cancelled("a", 3)]


async def test_who_waits_is_refused_when_the_store_does_not_take_them() -> None:
    process = Telling()
    process.node.takes = False
    outcomes = await asyncio.gather(*process.begin("a", 1, 2), return_exceptions=True)
    assert [type(each) for each in outcomes] == [StoreUnavailable] * 2
    process.node.takes = True
    assert await asyncio.gather(*process.begin("a", 1)) == [True]


async def test_who_waits_when_the_process_stops_was_not_promised_anything() -> None:
    process = Telling()
    process.goes_on.clear()
    [waiting] = process.begin("a", 1)
    for _ in range(3):
        await asyncio.sleep(0)
    for task in tuple(process.tasks):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 10)


async def test_as_many_are_told_in_a_minute_as_requests_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    process, loop, seconds = (
        Telling(max_requests_per_session=2, max_requests=3),
        asyncio.get_running_loop(),
        1_000.0,
    )
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + seconds)

    async def tell(fingerprint: str, number: int) -> bool:
        return await process.cancellations.tell(fingerprint, number)

    assert [await tell("a", number) for number in range(3)] == [True, True, False]
    assert [await tell(*each) for each in (("b", 1), ("c", 1))] == [True, False]
    seconds += cancellations.WINDOW_SECONDS - 30
    assert not await tell("a", 9)
    seconds += 30
    assert [await tell("a", number) for number in range(3)] == [True, True, False]
