"""What `State` asks of a store, and what it refuses without asking."""

from typing import Any

import pytest

from mcp_sessions.errors import StateError
from mcp_sessions.state import State


class Store:
    """Notes the calls, and answers each with the next reply."""

    def __init__(self, *replies: Any) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._replies = list(replies)

    async def run(self, work: Any, /) -> Any:
        self.asked.append((work.script.name, *work.arguments))
        return self._replies.pop(0)


def a_state(*replies: Any) -> tuple[State, Store]:
    store = Store(*replies)
    return State(store, "f" * 64, max_bytes=99), store


@pytest.mark.parametrize("name", ["", None, 7, b"name"])
async def test_a_name_is_a_string_that_is_not_empty(name: Any) -> None:
    state, store = a_state()
    for refused in (
        state.get(name),
        state.set(name, 1),
        state.delete("a", name),
        state.incr(name),
        state.append(name, 1),
    ):
        with pytest.raises(StateError, match="Names of state values are non-empty strings, not "):
            await refused
    assert store.asked == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
async def test_a_value_is_json(value: Any) -> None:
    state, store = a_state()
    for refused in (state.set("a", value), state.update({"b": 1, "a": value}), state.append("a", [value])):
        with pytest.raises(StateError, match="State values are JSON; this one is not: "):
            await refused
    assert store.asked == []


@pytest.mark.parametrize("amount", [True, False, "1", None, 1j])
async def test_only_numbers_are_added(amount: Any) -> None:
    state, store = a_state()
    with pytest.raises(StateError, match=r"incr\(\) adds numbers, not "):
        await state.incr("a", amount)
    assert store.asked == []


async def test_what_changes_nothing_asks_nobody() -> None:
    state, store = a_state()
    await state.update({})
    assert await state.delete() == 0
    assert store.asked == []


async def test_the_store_gets_names_values_and_the_bound() -> None:
    state, store = a_state([None], ['{"b":[1]}'], None, 2, "7", "1.5", 3, ["a"])
    assert await state.get("a", "nothing") == "nothing"
    assert await state.get("a") == {"b": [1]}
    await state.update({"a": {"b": [1]}, "c": "é"})
    assert await state.delete("a", "c") == 2
    assert [await state.incr("n"), await state.incr("n", -0.5)] == [7, 1.5]
    assert await state.append("items", None) == 3
    assert await state.keys() == ["a"]
    assert [name for name, *_ in store.asked] == [
        *("state_get", "state_get", "state_set", "state_delete", "state_incr", "state_incr", "state_append"),
        "state_get",
    ]
    assert store.asked[2][1:] == (99, b"a", b'{"b":[1]}', b"c", b'"\\u00e9"')
