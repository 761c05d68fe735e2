"""What the last requests of a record did: bounded, counted once each, and gone with their record."""

from mcp_sessions.store.calls import nodes, recent, sessions
from mcp_sessions.store.calls.recent import Past, Recent
from tests.store.harness import HOUR, MINUTE, Harness, a_fingerprint

MOST = 3


def past(number: int, outcome: str = "ok", call: str = "tools/call:add") -> Past:
    return Past(
        ended_ms=1_800_000_000_000 + number, took_ms=number, outcome=outcome, node="ab12cd34", call=call
    )


async def test_the_last_requests_are_known_newest_first_and_all_are_counted(harness: Harness) -> None:
    fingerprint = await harness.open()
    assert await harness.store.run(recent.note(fingerprint, [past(1), past(2, "error")], failed=1, most=MOST))
    assert await harness.other.run(recent.read(fingerprint, wanted=9, most=MOST)) == Recent(
        2, 1, [past(2, "error"), past(1)]
    )
    more = [past(3, "tool error"), past(4, "cancelled"), past(5, "interrupted")]
    await harness.other.run(recent.note(fingerprint, more, failed=2, most=MOST))
    assert harness.sync.run(recent.read(fingerprint, wanted=9, most=MOST)) == Recent(5, 3, more[::-1])
    assert harness.sync.run(recent.read(fingerprint, wanted=1, most=MOST)) == Recent(5, 3, more[:-2:-1])


async def test_more_at_once_than_are_kept_count_and_the_newest_stay(harness: Harness) -> None:
    fingerprint = await harness.open()
    many = [past(number) for number in range(10)]
    await harness.store.run(recent.note(fingerprint, many, failed=0, most=MOST))
    assert await harness.store.run(recent.read(fingerprint, wanted=9, most=MOST)) == Recent(
        10, 0, many[:-4:-1]
    )


async def test_many_records_are_noted_together_and_what_does_not_exist_is_passed_over(
    harness: Harness,
) -> None:
    known, unknown = [await harness.open() for _ in range(5)], a_fingerprint()
    calls = [recent.note(each, [past(7)], failed=0, most=MOST) for each in (*known, unknown)]
    assert await harness.store.run_all(calls) == [True] * 5 + [False]
    for each in known:
        assert (await harness.store.run(recent.read(each, wanted=1, most=MOST))).requests == [past(7)]
    assert await harness.store.run(recent.read(unknown, wanted=1, most=MOST)) == Recent(0, 0, [])


async def test_names_of_tools_that_clients_invent_are_one_short_line(harness: Harness) -> None:
    fingerprint = await harness.open()
    invented = past(1, call="tools/call:a\nb 6 7 o x ☃" + "x" * 1000)
    await harness.store.run(recent.note(fingerprint, [invented, past(2)], failed=0, most=MOST))
    [last, first] = (await harness.store.run(recent.read(fingerprint, wanted=9, most=MOST))).requests
    assert last == past(2)
    assert first.call.startswith("tools/call:a\\nb 6 7 o x \\u2603")
    assert len(first.call) <= 128


async def test_they_end_with_their_record(harness: Harness) -> None:
    ended, idle = await harness.open(), await harness.open()
    for each in (ended, idle):
        await harness.store.run(recent.note(each, [past(1)], failed=0, most=MOST))
    await harness.store.run(sessions.end(ended, principal=None, reason="deleted"))
    assert (await harness.store.run(recent.read(ended, wanted=1, most=MOST))).ended == 0
    harness.advance(2 * HOUR)
    assert (await harness.store.run(recent.read(idle, wanted=1, most=MOST))).ended == 0


async def test_the_report_of_a_silent_node_is_kept_and_that_of_one_that_leaves_is_not(
    harness: Harness,
) -> None:
    for node in ("left", "silent"):
        await harness.store.run(nodes.report(node, told=f'{{"of": "{node}"}}'))
    await harness.store.run(nodes.leave("left"))
    harness.advance(5 * MINUTE)
    await harness.store.run(nodes.report("other", told="{}"))
    found = harness.sync.run(nodes.reports())
    assert [(each.id, each.told()) for each in found] == [("other", {}), ("silent", {"of": "silent"})]
    harness.advance(6 * MINUTE)
    await harness.store.run(nodes.report("other", told="{}"))
    assert [each.id for each in harness.sync.run(nodes.reports())] == ["other"]
