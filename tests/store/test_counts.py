"""What processes count: what every driver promises."""

from mcp_sessions.counting import BUCKETS, MOST_TOOLS, OTHER, OUTCOMES, TOOL_NUMBERS, Counts
from mcp_sessions.store.calls import counts
from mcp_sessions.store.calls.counts import DAY, HOUR, SPANS, WEEK, Read, Span
from tests.store.harness import MINUTE, Harness

THREE = Counts({"sessions_opened": 2, "refusals:404": 1})


def a_call(tool: str = "add", outcome: str = "ok", milliseconds: float = 20) -> Counts:
    made = Counts()
    made.add_call(tool, milliseconds, outcome)  # type: ignore[arg-type]
    return made


async def add(harness: Harness, some: Counts, *, by: str = "a", batch: str = "1") -> counts.Added:
    return await harness.store.run(counts.add(some, by=by, batch=batch, now_ms=harness.clock()))


async def read(harness: Harness, span: Span = HOUR) -> Read:
    return await harness.other.run(counts.read(span, now_ms=harness.clock()))


def summed(found: Read, name: str) -> int:
    return sum(step.get(name, 0) for step in found.numbers)


async def test_what_processes_count_is_added_up(harness: Harness) -> None:
    for by in ("a", "b"):
        for batch in ("1", "2"):
            await add(harness, THREE, by=by, batch=batch)
            await add(harness, a_call(), by=by, batch=f"calls {batch}")

    for span in SPANS:
        found = await read(harness, span)
        assert (summed(found, "sessions_opened"), summed(found, "refusals:404")) == (8, 4)
        assert [step["add"][OUTCOMES.index("ok")] for step in found.tools if step] == [4]
    total = harness.sync.run(counts.totals())
    assert total.numbers == {"sessions_opened": 8, "refusals:404": 4}
    assert total.tools["add"][-1] == 80, "milliseconds"


async def test_a_batch_that_is_sent_again_counts_once(harness: Harness) -> None:
    first = await add(harness, THREE)
    again = await add(harness, THREE)

    assert (first.begins, again.begins) == (True, False)
    assert summed(await read(harness), "sessions_opened") == 2


async def test_counts_are_in_the_step_of_the_stores_clock_however_wrong_the_processs_is(
    harness: Harness,
) -> None:
    wrong = harness.clock() - 90 * MINUTE
    added = await harness.store.run(counts.add(THREE, by="a", batch="1", now_ms=wrong))

    assert added.now_ms == harness.clock()
    assert (await read(harness)).numbers[-1]["sessions_opened"] == 2
    late = await harness.store.run(counts.read(HOUR, now_ms=wrong))
    assert late == await read(harness)


async def test_the_first_count_of_a_minute_says_so(harness: Harness) -> None:
    begins = []
    for batch in range(4):
        begins.append((await add(harness, THREE, batch=str(batch))).begins)
        harness.advance(MINUTE // 2)
    assert begins in ([True, False, True, False], [True, True, False, True])


async def test_steps_are_in_order_and_leave_when_their_span_is_over(harness: Harness) -> None:
    await add(harness, Counts({"seen": 1}), batch="1")
    harness.advance(2 * MINUTE)
    await add(harness, Counts({"seen": 5}), batch="2")

    assert [step.get("seen", 0) for step in (await read(harness)).numbers][-3:] == [1, 0, 5]
    harness.advance(HOUR.milliseconds + HOUR.step_ms)
    assert summed(await read(harness, HOUR), "seen") == 0
    assert summed(await read(harness, DAY), "seen") == 6
    harness.advance(DAY.milliseconds)
    assert (summed(await read(harness, DAY), "seen"), summed(await read(harness, WEEK), "seen")) == (0, 6)


async def test_measured_numbers_are_the_last_of_each_step(harness: Harness) -> None:
    for sessions in (7, 3):
        await harness.store.run(counts.set_numbers({"sessions": sessions}, now_ms=harness.clock()))
    for span in SPANS:
        assert (await read(harness, span)).numbers[-1] == {"sessions": 3}


async def test_tools_beyond_the_bound_are_counted_together(harness: Harness) -> None:
    some = Counts()
    for number in range(MOST_TOOLS + 300):
        some.add_call(f"tool-{number}", 1, "ok")
    for start in range(0, 500, 100):
        other = Counts()
        for number in range(start, start + 100):
            other.add_call(f"of-another-process-{number}", 1, "ok")
        for number, part in enumerate(counts.parts_of(other)):
            await add(harness, part, by="b", batch=f"{start} {number}")
    for number, part in enumerate(counts.parts_of(some)):
        await add(harness, part, batch=str(number))

    total = (await harness.store.run(counts.totals())).tools
    assert len(total) == MOST_TOOLS + 1
    assert sum(numbers[0] for numbers in total.values()) == 1000
    assert total[OTHER][0] == 1000 - MOST_TOOLS


async def test_tools_that_nobody_calls_any_more_make_room(harness: Harness) -> None:
    for number, part in enumerate(
        counts.parts_of(Counts({}, {f"old-{n}": [1] * TOOL_NUMBERS for n in range(MOST_TOOLS)}))
    ):
        await add(harness, part, batch=str(number))
    harness.advance(counts.KEPT_MS // 2)
    await add(harness, a_call("old-0"), batch="kept")
    await add(harness, a_call("early"), batch="early")
    harness.advance(counts.KEPT_MS // 2 + MINUTE)
    await add(harness, a_call("new"), batch="new")

    total = (await harness.store.run(counts.totals())).tools
    assert {"new", "old-0", OTHER} <= total.keys()
    assert "early" not in total


async def test_a_call_is_in_the_bucket_of_its_duration() -> None:
    for milliseconds, bucket in ((0, 0), (5, 0), (5.1, 1), (299_999, 13), (400_000, len(BUCKETS))):
        [numbers] = a_call(milliseconds=milliseconds).tools.values()
        assert numbers[len(OUTCOMES) :][:-1].index(1) == bucket
