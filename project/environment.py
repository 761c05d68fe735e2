"""Settings from environment variables. A value that does not fit is refused with a sentence that names the variable.

By hand, because django-environ (0.14) does not do that. There, DJANGO_HTTPS=ture is False, and so is an empty variable;
the error for MCP_MAX_BODY=many is "invalid literal for int() with base 10: 'many'", without the name; "1,5" is 1.5
seconds; and a DATABASE_URL without a scheme is an empty configuration. dj-database-url refuses that one by its scheme.
"""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")
D = TypeVar("D")
#: Converts a string, or raises ValueError with a message that says what was expected.
Parser = Callable[[str], Any]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def read(name: str, parse: Callable[[str], T], default: D) -> T | D:
    """The variable's value, or the default if it is empty or not set.

    Raises: ImproperlyConfigured if `parse` raises ValueError; its message says what was expected.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    try:
        return parse(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be {error}, not {value!r}.") from None


def boolean(value: str) -> bool:
    """1 or 0, in any usual spelling."""
    if value.lower() not in _TRUE | _FALSE:
        raise ValueError("1 or 0")
    return value.lower() in _TRUE


def seconds(value: str) -> float:
    """A duration in seconds."""
    try:
        return float(value)
    except ValueError:
        raise ValueError("a number of seconds") from None


def count(value: str) -> int:
    """A whole number."""
    try:
        return int(value)
    except ValueError:
        raise ValueError("a whole number") from None


def cap(value: str) -> int | None:
    """A whole number, or `none` for no limit."""
    return None if value.lower() == "none" else count(value)


def moment(value: str) -> datetime:
    """A moment in ISO 8601, with its offset from UTC."""
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        parsed = None
    if parsed is None or parsed.utcoffset() is None:
        raise ValueError("a moment with its offset, as 2026-11-26T19:30:00+00:00")
    return parsed


def words(value: str) -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in value.split(",") if word.strip()]


def pairs(value: str) -> dict[str, str]:
    """Names and what belongs to each, separated by commas."""
    found = [entry.partition("=") for entry in words(value)]
    if not all(sign for _, sign, _ in found):
        raise ValueError("entries such as “requests per principal=600/m”, separated by commas")
    return {name.strip(): text.strip() for name, _, text in found}
