"""What one process counts of its requests, and when it writes that."""

import secrets
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import counting
from mcp_sessions.counting import OUTCOMES
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving import counts as serving_counts
from mcp_sessions.serving.counts import CountsWriter
from mcp_sessions.serving.observing import REQUEST_CANCELLED, Begun, Ended
from mcp_sessions.store.calls import counts
from mcp_sessions.store.servers import ServerFacts
from tests.serving.contexts import Process
from tests.store.harness import START


class Counting(Process):
    """Counts the calls of a server that says of the tools in `tools` whether it has them, and nothing of others."""

    def __init__(self, tools: dict[str, bool] | None = None, **conf: Any) -> None:
        super().__init__(alias=f"counted-{secrets.token_hex(4)}", **conf)
        self.tools = tools or {}
        self.streams = 3
        self.writer = CountsWriter(self.context, self.tools.get, lambda: self.streams)
        self.node.validity.ahead_ms = self.harness.clock() - self.node.validity.now_ms()

    @property
    def new(self) -> counting.Counts:
        """What was counted and is not taken yet."""
        return counting.since_the_start(self.conf.alias)

    async def totals(self) -> counting.Counts:
        return await self.harness.store.run(counts.totals())


def ended(call: str, *, code: int | None = None, failed: bool = False, ms: float = 7) -> Ended:
    return Ended(Begun(1, "session", "f" * 64, call, "", "", "", 10.0), 10.0 + ms / 1000, code, failed)


def outcomes(counted: counting.Counts) -> dict[str, dict[str, int]]:
    return {
        tool: {name: number for name, number in zip(OUTCOMES, numbers, strict=False) if number}
        for tool, numbers in counted.tools.items()
    }


async def test_requests_are_counted_by_how_they_ended_and_calls_by_tool_too() -> None:
    process = Counting({"add": True, "none": False})
    process.writer.hear(
        [
            ended("tools/call:add", ms=7),
            ended("tools/call:add", failed=True, ms=40),
            ended("tools/call:none", code=-32602),
            ended("ping"),
            ended("ping", code=REQUEST_CANCELLED),
        ]
    )
    counted = process.new
    assert {
        name: counted.numbers[f"requests:{name}"] for name in ("ok", "tool error", "error", "cancelled")
    } == {
        "ok": 2,
        "tool error": 1,
        "error": 1,
        "cancelled": 1,
    }
    assert outcomes(counted) == {"add": {"ok": 1, "tool error": 1}, "(unknown)": {"error": 1}}
    assert counted.tools["add"][-1] == 47, "milliseconds"
    await process.settle()


async def test_a_tool_of_which_only_handlers_know_is_counted_by_its_name_once_it_has_succeeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_counts, "MOST_TOOLS", 2)
    process = Counting()
    process.writer.hear(
        [ended("tools/call:a", failed=True), ended("tools/call:a"), ended("tools/call:a", code=1)]
    )
    process.writer.hear([ended("tools/call:b"), ended("tools/call:c")])
    assert outcomes(process.new) == {
        "(unknown)": {"ok": 1, "tool error": 1},
        "a": {"ok": 1, "error": 1},
        "b": {"ok": 1},
    }
    await process.settle()


async def test_once_a_minute_of_the_store_a_process_counts_itself_and_its_streams() -> None:
    process, now = Counting(), [START - START % 60_000]
    process.node.validity = mock.Mock(now_ms=lambda: now[0])
    process.writer.hear([])
    now[0] += 59_999
    process.writer.hear([])
    assert process.new.numbers == {"nodes": 1, "streams": 3}
    now[0] += 1
    process.streams = 4
    process.writer.hear([])
    assert process.new.numbers == {"nodes": 2, "streams": 7}
    await process.settle()
    assert process.writer.writes() == ()


async def open_streams(process: Counting) -> list[int | None]:
    """What the steps of the hour have, from the first one that was counted on."""
    read = await process.harness.store.run(counts.read(counts.HOUR, now_ms=process.harness.clock()))
    found = [step.get("streams") for step in read.numbers]
    return found[next(n for n, each in enumerate(found) if each is not None) :]


async def test_after_an_outage_a_minute_has_the_streams_that_are_open_and_not_those_of_every_minute() -> None:
    process = Counting()
    process.node.validity = mock.Mock(now_ms=process.harness.clock)
    process.harness.clock.now -= process.harness.clock.now % 60_000
    for minute in range(10):
        for _ in range(3):
            process.store.away = 2 <= minute < 7
            process.writer.hear([ended("ping")])
            await process.settle()
            process.harness.clock.now += 20_000
    assert await open_streams(process) == [3, 3, None, None, None, None, None, 3, 3, 3, None]
    assert (await process.totals()).numbers["requests:ok"] == 30


async def test_after_the_clock_of_the_store_was_set_back_streams_are_told_at_once() -> None:
    process = Counting()
    process.node.validity = mock.Mock(now_ms=process.harness.clock)
    process.writer.hear([])
    await process.settle()
    process.harness.clock.now -= 7_200_000
    for _ in range(2):
        process.writer.hear([])
        await process.settle()
    assert await open_streams(process) == [3]
    process.node.validity = mock.Mock(now_ms=lambda: process.harness.clock() - 60_000)
    process.writer.hear([])
    await process.settle()
    assert await open_streams(process) == [3], "two readings of the clock may differ"


async def test_what_was_counted_is_written_once() -> None:
    process = Counting({"add": True})
    process.writer.hear([ended("tools/call:add")])
    await process.settle()
    await process.writer.write()
    totals = await process.totals()
    assert (totals.numbers["requests:ok"], totals.numbers["nodes"]) == (1, 1)
    assert outcomes(totals) == {"add": {"ok": 1}}


async def test_what_the_store_does_not_take_is_written_later_with_what_is_counted_meanwhile() -> None:
    process = Counting()
    process.store.away = True
    for _ in range(3):
        process.writer.hear([ended("ping")])
        await process.settle()
    process.store.away = False
    await process.writer.write()
    assert (await process.totals()).numbers["requests:ok"] == 1, "the oldest first"
    await process.writer.write()
    assert (await process.totals()).numbers["requests:ok"] == 3


async def test_all_that_was_counted_is_written_however_much_it_is() -> None:
    process = Counting()
    names = [f"name-{number}" for number in range(3 * counts.NUMBERS_TOGETHER)]
    for name in names:
        counting.count(process.conf.alias, name)
    await process.writer.write()
    assert (await process.totals()).numbers == dict.fromkeys(names, 1)


async def test_nothing_new_is_written_while_something_is_being_written() -> None:
    process = Counting()
    async with process.writer._writing:
        process.writer.hear([ended("ping")])
        assert not process.tasks
    process.writer.hear([])
    assert len(process.tasks) == 1
    await process.settle()


def facts(**known: Any) -> ServerFacts:
    return ServerFacts(
        **{
            **dict.fromkeys(ServerFacts.__dataclass_fields__),
            "refusal": "",
            "used_memory": 1,
            "evicted": 0,
            "seconds": 0.001,
            **known,
        }
    )


@pytest.mark.parametrize(
    ("found", "measured"),
    [
        ([], {"sessions": 2}),
        (
            [
                facts(used_memory=10, evicted=1, seconds=0.002),
                facts(used_memory=20, evicted=2, seconds=0.003),
            ],
            {"sessions": 2, "memory": 30, "evicted": 3, "latency_us": 3000},
        ),
        ([facts(), facts(refusal="NOPERM", seconds=0.002)], {"sessions": 2, "latency_us": 2000}),
    ],
)
async def test_the_first_of_a_minute_measures_what_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, found: list[ServerFacts], measured: dict[str, int]
) -> None:
    monkeypatch.setattr("mcp_sessions.store.servers.facts_of", lambda _: found)
    process = Counting()
    for _ in range(2):
        await process.harness.open()
    process.writer.hear([])
    await process.settle()
    hour = await process.harness.store.run(counts.read(counts.HOUR, now_ms=process.harness.clock()))
    assert {
        name: number for name, number in hour.numbers[-1].items() if name not in ("nodes", "streams")
    } == measured
    asked = len(process.store.asked)
    process.writer.hear([ended("ping")])
    await process.settle()
    assert len(process.store.asked) == asked + 1, "it measures once in a minute"


async def test_a_store_that_goes_away_while_it_is_measured_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(_: str) -> list[ServerFacts]:
        raise StoreUnavailable("away")

    monkeypatch.setattr("mcp_sessions.store.servers.facts_of", away)
    process = Counting()
    process.writer.hear([ended("ping")])
    await process.settle()
    await process.writer.write()
    assert (await process.totals()).numbers["requests:ok"] == 1
    process.store.away = True
    counting.count(process.conf.alias, "more")
    await process.writer.write()
    process.store.away = False
    await process.writer.write()
    assert (await process.totals()).numbers["more"] == 1
