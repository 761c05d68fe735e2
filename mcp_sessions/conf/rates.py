"""RATE_LIMITS: how often something may be done, for whom, as the settings write it. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

#: What is counted, besides "tool NAME", and for whom it may be.
REQUESTS: Final = "requests"
INITIALIZE: Final = "initialize"
HANDLES: Final = "handles"
STREAMS: Final = "streams"
TOOL: Final = "tool "
PRINCIPAL: Final = "principal"
SESSION: Final = "session"
ADDRESS: Final = "address"
_WHOM: Final[Mapping[str, tuple[str, ...]]] = {
    REQUESTS: (PRINCIPAL, SESSION, ADDRESS),
    INITIALIZE: (PRINCIPAL, ADDRESS),
    HANDLES: (PRINCIPAL, ADDRESS),
    STREAMS: (PRINCIPAL, SESSION, ADDRESS),
}
_OF_TOOLS: Final = (PRINCIPAL, SESSION, ADDRESS)

_RATE: Final = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,5})?(s|m|h|d)\Z")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NAMED: Final = re.compile(r"(.+) per (\w+)\Z", re.DOTALL)
#: The longest time in which a bucket fills, in milliseconds.
_LONGEST_MS: Final = 366 * 86_400_000


class Rate(NamedTuple):
    """A token bucket: it holds so many tokens, and fills evenly in `period_ms`."""

    tokens: int
    period_ms: int


class Limit(NamedTuple):
    """One entry of RATE_LIMITS."""

    what: str
    whom: str
    rate: Rate

    def __str__(self) -> str:
        return f"{self.what} per {self.whom}"


def limits_of(setting: Mapping[str, str]) -> Mapping[str, tuple[Limit, ...]]:
    """The entries of RATE_LIMITS, by what they count. Raises: ValueError, with what does not fit."""
    found: dict[str, tuple[Limit, ...]] = {}
    for name, text in setting.items():
        named = _NAMED.match(str(name))
        what, whom = named.groups() if named else ("", "")
        allowed = _OF_TOOLS if what.startswith(TOOL) and what != TOOL else _WHOM.get(what, ())
        if whom not in allowed:
            raise ValueError(f"it counts nothing under {name!r}")
        found[what] = (*found.get(what, ()), Limit(what, whom, _rate(text)))
    return found


def are_limits(value: Any) -> bool:
    """Whether a value is a RATE_LIMITS."""
    try:
        return isinstance(value, Mapping) and limits_of(value) is not None
    except ValueError:
        return False


def _rate(text: Any) -> Rate:
    found = _RATE.match(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is no rate")
    period_ms = int(found[2] or 1) * _UNIT_MS[found[3]]
    if period_ms > _LONGEST_MS:
        raise ValueError(f"{text!r} is longer than a year")
    return Rate(int(found[1]), period_ms)
