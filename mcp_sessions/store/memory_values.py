"""Session state in memory: what `lua/state_*.lua` does in Redis, to a dictionary of JSON texts. Pure."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from mcp_sessions.errors import StateError, StateTooLarge

_INT64: Final = range(-(2**63), 2**63)


def put(state: dict[str, str], values: Mapping[str, str], max_bytes: int) -> None:
    """Set all values or none. Raises: StateTooLarge."""
    changed = {**state, **values}
    if sum(_size(name) + _size(value) for name, value in changed.items()) > max_bytes:
        raise StateTooLarge("the session's state would exceed STATE_MAX_BYTES")
    state.update(values)


def incr(state: dict[str, str], name: str, amount: int | float, max_bytes: int) -> str:
    """Add to a number, 0 if there is none; the JSON text of the sum. Raises: StateError."""
    total = json.dumps(_sum(json.loads(state.get(name, "0")), amount))
    put(state, {name: total}, max_bytes)
    return total


def append(state: dict[str, str], name: str, item: str, max_bytes: int) -> int:
    """Append to a list, empty if there is none; its length. Raises: StateError."""
    items = json.loads(state.get(name, "[]"))
    if not isinstance(items, list):
        raise StateError("the value is no list")
    text = state[name].strip()[:-1] + "," if items else "["
    put(state, {name: text + item + "]"}, max_bytes)
    return len(items) + 1


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise StateError(f"not text that UTF-8 can hold: {error.reason}") from None


def _sum(before: Any, amount: int | float) -> int | float:
    """Integers are exact within 64 bits; anything else is a double, as in JSON."""
    if isinstance(before, bool) or not isinstance(before, (int, float)):
        raise StateError("the value is no number")
    if isinstance(before, int) and isinstance(amount, int):
        total: int | float = before + amount
        in_range = before in _INT64 and amount in _INT64 and total in _INT64
    else:
        total = float(before) + amount
        in_range = math.isfinite(total)
    if not in_range:
        raise StateError("the sum is out of range")
    return total
