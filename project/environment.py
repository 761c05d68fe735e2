"""Settings from environment variables. An error about an invalid value names the variable.

By hand, because the errors of django-environ (0.14) do not. With it, DJANGO_HTTPS=ture means False, and so does an
empty variable; the error for MCP_MAX_BODY=many is "invalid literal for int() with base 10: 'many'"; "1,5" means 1.5
seconds; and a DATABASE_URL without a scheme gives an empty configuration, where dj-database-url names the schemes it
knows.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")
D = TypeVar("D")
#: Parses a string, or raises ValueError with a message that says what was expected.
Parser = Callable[[str], Any]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def read(name: str, parse: Callable[[str], T], default: D) -> T | D:
    """Return the value of the variable, or the default if it is empty or not set.

    Raises: ImproperlyConfigured, when `parse` raises ValueError with a message that says what was expected.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    try:
        return parse(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be {error}, not {value!r}.") from None


def boolean(value: str) -> bool:
    """Parse 1 or 0, in any of the usual spellings."""
    if value.lower() not in _TRUE | _FALSE:
        raise ValueError("1 or 0")
    return value.lower() in _TRUE


def seconds(value: str) -> float:
    """Parse a duration in seconds."""
    try:
        return float(value)
    except ValueError:
        raise ValueError("a number of seconds") from None


def count(value: str) -> int:
    """Parse a whole number."""
    try:
        return int(value)
    except ValueError:
        raise ValueError("a whole number") from None


def cap(value: str) -> int | None:
    """Parse a whole number, or `none` for no limit."""
    return None if value.lower() == "none" else count(value)


def words(value: str) -> list[str]:
    """Parse a list separated by commas."""
    return [word.strip() for word in value.split(",") if word.strip()]
