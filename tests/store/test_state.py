"""Session state: JSON values by name, atomic for every process, bounded, alive as long as their session."""

import asyncio
import json

import pytest

from mcp_sessions.errors import SessionGone, StateError, StateTooLarge
from mcp_sessions.store.calls import sessions, state
from tests.store.harness import Harness, a_fingerprint

BYTES = 1_000


async def test_what_one_process_sets_another_gets(harness: Harness) -> None:
    fingerprint = await harness.open()
    values = {"fact": '"☃ and \\"quotes\\""', "": "[1,2]", "naïve ☃": '{"a": null}', "line\nbreak": "1.50"}

    await harness.store.run(state.set_values(fingerprint, values, max_bytes=BYTES))

    assert await harness.other.run(state.get(fingerprint, [*values, "other"])) == [*values.values(), None]
    assert await harness.other.run(state.names(fingerprint)) == sorted(values)
    assert harness.sync.run(state.texts(fingerprint)) == values
    assert harness.sync.run(state.items(fingerprint)) == {
        name: json.loads(text) for name, text in values.items()
    }


async def test_a_session_without_state_has_no_names(harness: Harness) -> None:
    fingerprint = await harness.open()

    assert await harness.store.run(state.names(fingerprint)) == []
    assert await harness.store.run(state.get(fingerprint, [])) == []
    assert harness.sync.run(state.items(fingerprint)) == harness.sync.run(state.texts(fingerprint)) == {}


async def test_getting_no_names_gives_no_values(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=BYTES))

    assert await harness.store.run(state.get(fingerprint, [])) == []


async def test_deleting_counts_what_was_set(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"a": "1", "b": "2"}, max_bytes=BYTES))

    assert await harness.other.run(state.delete(fingerprint, ["a", "c"])) == 1
    assert await harness.store.run(state.names(fingerprint)) == ["b"]
    assert await harness.store.run(state.delete(fingerprint, ["b"])) == 1
    assert await harness.store.run(state.delete(fingerprint, ["b"])) == 0
    assert await harness.store.run(state.names(fingerprint)) == []


async def test_the_bound_is_on_the_bytes_of_names_and_values_together(harness: Harness) -> None:
    fingerprint = await harness.open()
    fits = {"☃": '"' + "x" * (BYTES - 5) + '"'}

    await harness.store.run(state.set_values(fingerprint, fits, max_bytes=BYTES))

    with pytest.raises(StateTooLarge):
        await harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=BYTES))
    assert await harness.store.run(state.names(fingerprint)) == ["☃"]


async def test_what_is_too_large_changes_nothing_at_all(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"a": "1", "list": "[1]"}, max_bytes=BYTES))

    with pytest.raises(StateTooLarge):
        await harness.store.run(
            state.set_values(fingerprint, {"a": "2", "b": '"' + "x" * BYTES + '"'}, max_bytes=BYTES)
        )
    with pytest.raises(StateTooLarge):
        await harness.store.run(state.append(fingerprint, "list", '"' + "x" * BYTES + '"', max_bytes=BYTES))
    with pytest.raises(StateTooLarge):
        await harness.store.run(state.incr(fingerprint, "n", 1, max_bytes=10))
    with pytest.raises(StateTooLarge):
        await harness.store.run(state.incr(fingerprint, "a", 10**9, max_bytes=10))

    assert harness.sync.run(state.items(fingerprint)) == {"a": 1, "list": [1]}


async def test_space_that_was_given_back_can_be_used_again(harness: Harness) -> None:
    fingerprint = await harness.open()
    half = '"' + "x" * 490 + '"'
    for _ in range(5):
        await harness.store.run(state.set_values(fingerprint, {"a": half, "b": half}, max_bytes=BYTES))
        await harness.store.run(state.delete(fingerprint, ["a"]))
        await harness.store.run(state.set_values(fingerprint, {"b": "1"}, max_bytes=BYTES))

    await harness.store.run(state.set_values(fingerprint, {"c": half, "d": half}, max_bytes=BYTES))

    assert await harness.store.run(state.names(fingerprint)) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("before", "amount", "after"),
    [
        (None, 1, 1),
        (None, 0.5, 0.5),
        ("41", 1, 42),
        ("1", -3, -2),
        ("0.1", 0.2, 0.1 + 0.2),
        ("1.5", 1.5, 3.0),
        ("1e3", 1, 1001.0),
        ("9007199254740993", 2, 9007199254740995),
        ("9223372036854775806", 1, 9223372036854775807),
        ("-0.0", 1, 1.0),
        ("1e300", 1e300, 2e300),
    ],
)
async def test_numbers_add_up_as_in_python(
    harness: Harness, before: str | None, amount: int | float, after: int | float
) -> None:
    fingerprint = await harness.open()
    if before is not None:
        await harness.store.run(state.set_values(fingerprint, {"n": before}, max_bytes=BYTES))

    total = await harness.store.run(state.incr(fingerprint, "n", amount, max_bytes=BYTES))

    assert json.loads(total) == after
    assert type(json.loads(total)) is type(after)
    assert harness.sync.run(state.items(fingerprint)) == {"n": after}


@pytest.mark.parametrize(
    ("before", "amount"),
    [
        ('"1"', 1),
        ("true", 1),
        ("null", 1),
        ("[1]", 1),
        ("{}", 1),
        ("9223372036854775807", 1),
        ("-9223372036854775808", -1),
        ("1", 2**63),
        ("99999999999999999999", 1),
        ("1e308", 1e308),
    ],
)
async def test_what_is_not_a_number_or_exceeds_the_range_is_refused(
    harness: Harness, before: str, amount: int | float
) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"n": before}, max_bytes=BYTES))

    with pytest.raises(StateError):
        await harness.store.run(state.incr(fingerprint, "n", amount, max_bytes=BYTES))

    assert await harness.store.run(state.get(fingerprint, ["n"])) == [before]


async def test_concurrent_increments_are_all_counted(harness: Harness) -> None:
    fingerprint = await harness.open()

    await asyncio.gather(
        *[
            store.run(state.incr(fingerprint, "n", 1, max_bytes=BYTES))
            for store in (harness.store, harness.other)
            for _ in range(40)
        ]
    )

    assert await harness.store.run(state.get(fingerprint, ["n"])) == ["80"]


async def test_items_are_appended_in_order_and_counted(harness: Harness) -> None:
    fingerprint = await harness.open()

    lengths = [
        await harness.store.run(state.append(fingerprint, "facts", item, max_bytes=BYTES))
        for item in ('"a"', '{"b": [1, "]"]}', "[]", "null")
    ]

    assert lengths == [1, 2, 3, 4]
    assert harness.sync.run(state.items(fingerprint)) == {"facts": ["a", {"b": [1, "]"]}, [], None]}


async def test_an_empty_list_with_spaces_takes_its_first_item(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"list": " [ ] "}, max_bytes=BYTES))

    assert await harness.store.run(state.append(fingerprint, "list", "1", max_bytes=BYTES)) == 1
    assert await harness.store.run(state.append(fingerprint, "list", "2", max_bytes=BYTES)) == 2
    assert harness.sync.run(state.items(fingerprint)) == {"list": [1, 2]}


@pytest.mark.parametrize("before", ['"text"', "1", "{}", "null", '"[]"'])
async def test_appending_to_what_is_not_a_list_is_refused(harness: Harness, before: str) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"x": before}, max_bytes=BYTES))

    with pytest.raises(StateError):
        await harness.store.run(state.append(fingerprint, "x", "1", max_bytes=BYTES))

    assert await harness.store.run(state.get(fingerprint, ["x"])) == [before]


async def test_concurrent_appends_are_all_in_the_list(harness: Harness) -> None:
    fingerprint = await harness.open()

    lengths = await asyncio.gather(
        *[
            store.run(state.append(fingerprint, "list", str(n), max_bytes=BYTES))
            for store in (harness.store, harness.other)
            for n in range(40)
        ]
    )

    assert sorted(lengths) == list(range(1, 81))
    assert sorted(harness.sync.run(state.items(fingerprint))["list"]) == sorted([*range(40), *range(40)])


async def test_text_that_utf8_cannot_hold_is_refused(harness: Harness) -> None:
    fingerprint = await harness.open()

    with pytest.raises(StateError):
        await harness.store.run(state.set_values(fingerprint, {"\ud800": "1"}, max_bytes=BYTES))
    with pytest.raises(StateError):
        await harness.store.run(state.append(fingerprint, "x", '"\ud800"', max_bytes=BYTES))

    assert await harness.store.run(state.names(fingerprint)) == []


@pytest.mark.parametrize("how", ["unknown", "ended"])
async def test_state_of_a_session_that_is_gone_is_gone_and_none_is_created(
    harness: Harness, how: str
) -> None:
    fingerprint = a_fingerprint()
    if how == "ended":
        await harness.open(fingerprint=fingerprint)
        await harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=BYTES))
        await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
    store = harness.other

    for refused in (
        store.run(state.get(fingerprint, ["a"])),
        store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=BYTES)),
        store.run(state.delete(fingerprint, ["a"])),
        store.run(state.incr(fingerprint, "a", 1, max_bytes=BYTES)),
        store.run(state.append(fingerprint, "a", "1", max_bytes=BYTES)),
        store.run(state.names(fingerprint)),
    ):
        with pytest.raises(SessionGone):
            await refused

    assert harness.sync.run(state.items(fingerprint)) == {}


async def test_state_survives_as_long_as_its_session_is_touched(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(state.set_values(fingerprint, {"a": "1"}, max_bytes=BYTES))
    for _ in range(5):
        harness.clock.advance(harness.limits.idle_ms - 1)
        await harness.touch(fingerprint)

    assert await harness.store.run(state.get(fingerprint, ["a"])) == ["1"]
