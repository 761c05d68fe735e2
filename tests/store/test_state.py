"""Session state: JSON values by name, atomic for every process, bounded, alive as long as their session."""

import asyncio
import json

import pytest

from mcp_sessions.errors import SessionGone, StateError, StateTooLarge
from tests.store.worlds import World, a_fingerprint

BYTES = 1_000


async def test_what_one_process_sets_another_gets(world: World) -> None:
    fingerprint = await world.open()
    values = {"fact": '"☃ and \\"quotes\\""', "": "[1,2]", "naïve ☃": '{"a": null}', "line\nbreak": "1.50"}

    await world.store.state_set(fingerprint, values, max_bytes=BYTES)

    assert await world.other.state_get(fingerprint, [*values, "other"]) == [*values.values(), None]
    assert await world.other.state_names(fingerprint) == sorted(values)
    assert world.directory.state(fingerprint) == {name: json.loads(text) for name, text in values.items()}


async def test_a_session_without_state_has_no_names(world: World) -> None:
    fingerprint = await world.open()

    assert await world.store.state_names(fingerprint) == []
    assert await world.store.state_get(fingerprint, []) == []
    assert world.directory.state(fingerprint) == {}


async def test_getting_no_names_gives_no_values(world: World) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"a": "1"}, max_bytes=BYTES)

    assert await world.store.state_get(fingerprint, []) == []


async def test_deleting_counts_what_was_set(world: World) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"a": "1", "b": "2"}, max_bytes=BYTES)

    assert await world.other.state_delete(fingerprint, ["a", "c"]) == 1
    assert await world.store.state_names(fingerprint) == ["b"]
    assert await world.store.state_delete(fingerprint, ["b"]) == 1
    assert await world.store.state_delete(fingerprint, ["b"]) == 0
    assert await world.store.state_names(fingerprint) == []


async def test_the_bound_is_on_the_bytes_of_names_and_values_together(world: World) -> None:
    fingerprint = await world.open()
    fits = {"☃": '"' + "x" * (BYTES - 5) + '"'}

    await world.store.state_set(fingerprint, fits, max_bytes=BYTES)

    with pytest.raises(StateTooLarge):
        await world.store.state_set(fingerprint, {"a": "1"}, max_bytes=BYTES)
    assert await world.store.state_names(fingerprint) == ["☃"]


async def test_what_is_too_large_changes_nothing_at_all(world: World) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"a": "1", "list": "[1]"}, max_bytes=BYTES)

    with pytest.raises(StateTooLarge):
        await world.store.state_set(fingerprint, {"a": "2", "b": '"' + "x" * BYTES + '"'}, max_bytes=BYTES)
    with pytest.raises(StateTooLarge):
        await world.store.state_append(fingerprint, "list", '"' + "x" * BYTES + '"', max_bytes=BYTES)
    with pytest.raises(StateTooLarge):
        await world.store.state_incr(fingerprint, "n", 1, max_bytes=10)
    with pytest.raises(StateTooLarge):
        await world.store.state_incr(fingerprint, "a", 10**9, max_bytes=10)

    assert world.directory.state(fingerprint) == {"a": 1, "list": [1]}


async def test_space_that_was_given_back_can_be_used_again(world: World) -> None:
    fingerprint = await world.open()
    half = '"' + "x" * 490 + '"'
    for _ in range(5):
        await world.store.state_set(fingerprint, {"a": half, "b": half}, max_bytes=BYTES)
        await world.store.state_delete(fingerprint, ["a"])
        await world.store.state_set(fingerprint, {"b": "1"}, max_bytes=BYTES)

    await world.store.state_set(fingerprint, {"c": half, "d": half}, max_bytes=BYTES)

    assert await world.store.state_names(fingerprint) == ["b", "c", "d"]


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
    world: World, before: str | None, amount: int | float, after: int | float
) -> None:
    fingerprint = await world.open()
    if before is not None:
        await world.store.state_set(fingerprint, {"n": before}, max_bytes=BYTES)

    total = await world.store.state_incr(fingerprint, "n", amount, max_bytes=BYTES)

    assert json.loads(total) == after
    assert type(json.loads(total)) is type(after)
    assert world.directory.state(fingerprint) == {"n": after}


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
async def test_what_is_no_number_or_leaves_the_range_is_refused(
    world: World, before: str, amount: int | float
) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"n": before}, max_bytes=BYTES)

    with pytest.raises(StateError):
        await world.store.state_incr(fingerprint, "n", amount, max_bytes=BYTES)

    assert await world.store.state_get(fingerprint, ["n"]) == [before]


async def test_concurrent_increments_are_all_counted(world: World) -> None:
    fingerprint = await world.open()

    await asyncio.gather(
        *[
            store.state_incr(fingerprint, "n", 1, max_bytes=BYTES)
            for store in (world.store, world.other)
            for _ in range(40)
        ]
    )

    assert await world.store.state_get(fingerprint, ["n"]) == ["80"]


async def test_items_are_appended_in_order_and_counted(world: World) -> None:
    fingerprint = await world.open()

    lengths = [
        await world.store.state_append(fingerprint, "facts", item, max_bytes=BYTES)
        for item in ('"a"', '{"b": [1, "]"]}', "[]", "null")
    ]

    assert lengths == [1, 2, 3, 4]
    assert world.directory.state(fingerprint) == {"facts": ["a", {"b": [1, "]"]}, [], None]}


async def test_an_empty_list_with_spaces_takes_its_first_item(world: World) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"list": " [ ] "}, max_bytes=BYTES)

    assert await world.store.state_append(fingerprint, "list", "1", max_bytes=BYTES) == 1
    assert await world.store.state_append(fingerprint, "list", "2", max_bytes=BYTES) == 2
    assert world.directory.state(fingerprint) == {"list": [1, 2]}


@pytest.mark.parametrize("before", ['"text"', "1", "{}", "null", '"[]"'])
async def test_appending_to_what_is_no_list_is_refused(world: World, before: str) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"x": before}, max_bytes=BYTES)

    with pytest.raises(StateError):
        await world.store.state_append(fingerprint, "x", "1", max_bytes=BYTES)

    assert await world.store.state_get(fingerprint, ["x"]) == [before]


async def test_concurrent_appends_are_all_in_the_list(world: World) -> None:
    fingerprint = await world.open()

    lengths = await asyncio.gather(
        *[
            store.state_append(fingerprint, "list", str(n), max_bytes=BYTES)
            for store in (world.store, world.other)
            for n in range(40)
        ]
    )

    assert sorted(lengths) == list(range(1, 81))
    assert sorted(world.directory.state(fingerprint)["list"]) == sorted([*range(40), *range(40)])


async def test_text_that_utf8_cannot_hold_is_refused(world: World) -> None:
    fingerprint = await world.open()

    with pytest.raises(StateError):
        await world.store.state_set(fingerprint, {"\ud800": "1"}, max_bytes=BYTES)
    with pytest.raises(StateError):
        await world.store.state_append(fingerprint, "x", '"\ud800"', max_bytes=BYTES)

    assert await world.store.state_names(fingerprint) == []


@pytest.mark.parametrize("how", ["unknown", "ended"])
async def test_state_of_a_session_that_is_gone_is_gone_and_none_is_created(world: World, how: str) -> None:
    fingerprint = a_fingerprint()
    if how == "ended":
        await world.open(fingerprint=fingerprint)
        await world.store.state_set(fingerprint, {"a": "1"}, max_bytes=BYTES)
        await world.store.end(fingerprint, principal=None, reason="deleted")
    store = world.other

    for refused in (
        store.state_get(fingerprint, ["a"]),
        store.state_set(fingerprint, {"a": "1"}, max_bytes=BYTES),
        store.state_delete(fingerprint, ["a"]),
        store.state_incr(fingerprint, "a", 1, max_bytes=BYTES),
        store.state_append(fingerprint, "a", "1", max_bytes=BYTES),
        store.state_names(fingerprint),
    ):
        with pytest.raises(SessionGone):
            await refused

    assert world.directory.state(fingerprint) == {}


async def test_state_survives_as_long_as_its_session_is_touched(world: World) -> None:
    fingerprint = await world.open()
    await world.store.state_set(fingerprint, {"a": "1"}, max_bytes=BYTES)
    for _ in range(5):
        world.clock.advance(world.limits.idle_ms - 1)
        await world.touch(fingerprint)

    assert await world.store.state_get(fingerprint, ["a"]) == ["1"]
