"""Session state: a mapping of names to JSON values, one per session, which lives and dies with it.

Values are JSON texts. Every call raises SessionGone if the session is gone, and creates nothing then; `items` and
`texts` are the exceptions.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mcp_sessions.errors import SessionGone, StateError, StateTooLarge
from mcp_sessions.store.call import SEALED, Call, Script, is_readable

_PARTS: Final = ("session", "state")
_SEALED: Final = SEALED.decode()

GET: Final = Script("state_get", "_record", "_state", repeatable=True)
SET: Final = Script("state_set", "_record", "_state", repeatable=True)
DELETE: Final = Script("state_delete", "_record", "_state")
INCR: Final = Script("state_incr", "_record", "_state")
APPEND: Final = Script("state_append", "_record", "_state")


def get(fingerprint: str, names: Sequence[str]) -> Call[list[str | None]]:
    """The JSON texts, None where a name is not set."""
    if not names:
        return Call(GET, fingerprint, _PARTS, (), lambda home, reply: _value(home, reply)[:0])
    return Call(GET, fingerprint, _PARTS, _utf8(names), _texts)


def set_values(fingerprint: str, values: Mapping[str, str], *, max_bytes: int) -> Call[None]:
    """Set all values or none. Raises StateTooLarge: the total of names and values in bytes of UTF-8."""
    _check_names(values)
    texts = [text for pair in values.items() for text in pair]
    arguments = (max_bytes, *_utf8(texts))
    return Call(SET, fingerprint, _PARTS, arguments, _value, secrets=range(2, len(arguments), 2))


def delete(fingerprint: str, names: Sequence[str]) -> Call[int]:
    """Delete names; how many were set."""
    return Call(DELETE, fingerprint, _PARTS, _utf8(names), _value)


def incr(fingerprint: str, name: str, amount: int | float, *, max_bytes: int) -> Call[str]:
    """Add to a number (0 if not set), return the JSON text of the sum. Raises StateError if it is not a number.

    Integers are exact within 64 bits, and a sum beyond them is a StateError; anything else is a double, as in JSON.
    """
    _check_names([name])
    arguments = (max_bytes, *_utf8([name]), json.dumps(amount))
    return Call(INCR, fingerprint, _PARTS, arguments, lambda *reply: json.dumps(json.loads(_value(*reply))))


def append(fingerprint: str, name: str, item: str, *, max_bytes: int) -> Call[int]:
    """Append a JSON text to a list (empty if not set), return its length. Raises StateError if it is not a list."""
    _check_names([name])
    # In a list of its own, which is sealed item by item: a number by itself would not be.
    arguments = (max_bytes, *_utf8([name, f"[{item}]"]))
    return Call(
        APPEND, fingerprint, _PARTS, arguments, lambda *reply: len(json.loads(_value(*reply))), secrets=(2,)
    )


def names(fingerprint: str) -> Call[list[str]]:
    """The names that are set, sorted."""
    return Call(GET, fingerprint, _PARTS, (), lambda *reply: [name for name, _ in _pairs(_value(*reply))])


def items(fingerprint: str) -> Call[dict[str, Any]]:
    """The decoded values by name, sorted; empty if the session is gone."""
    return Call(GET, fingerprint, _PARTS, (), _items)


def texts(fingerprint: str) -> Call[dict[str, str]]:
    """The values by name, sorted, as the JSON texts that count for `max_bytes`; empty if the session is gone."""
    return Call(GET, fingerprint, _PARTS, (), _texts_by_name)


def _texts_by_name(fingerprint: str, reply: Any) -> dict[str, str]:
    pairs = _pairs(reply[0]) if is_readable(fingerprint, reply) else []
    return {name: value.decode() for name, value in pairs}


def _items(fingerprint: str, reply: Any) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in _texts_by_name(fingerprint, reply).items()}


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [(name.decode(), value) for name, value in sorted(zip(flat[::2], flat[1::2], strict=True))]


def _texts(fingerprint: str, reply: Any) -> list[str | None]:
    return [None if value is None else value.decode() for value in _value(fingerprint, reply)]


def _value(fingerprint: str, reply: Any) -> Any:
    """The one value of a reply."""
    if reply == -1:
        raise StateTooLarge("the session's state would exceed STATE_MAX_BYTES")
    if reply == -2:
        raise StateError("the value is of another type than the operation needs, or out of range")
    if not is_readable(fingerprint, reply):
        raise SessionGone("the session is gone")
    return reply[0] if reply else None


def _check_names(names: Iterable[str]) -> None:
    """Raises: StateError for a name with which its state could not be read any more where there are ENCRYPTION_KEYS."""
    if any(_SEALED in name for name in names):
        raise StateError("a name may not contain the mark of encrypted values")


def _utf8(texts: Sequence[str]) -> list[bytes]:
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise StateError(f"not text that UTF-8 can hold: {error.reason}") from None
