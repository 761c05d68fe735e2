"""What the system checks share: how they build messages, and the entries that they inspect."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info
from django.core.checks import Warning as Advice

from mcp_sessions import conf
from mcp_sessions.conf import Endpoint
from mcp_sessions.documentation import page

TAG: Final = "mcp_sessions"

Apps = Sequence[AppConfig] | None
Found = list[CheckMessage]


def message(kind: type[Error | Advice | Info], number: str, text: str, hint: str) -> CheckMessage:
    return kind(text, hint=f"{hint} {page('checks', number.lower())}", id=f"{TAG}.{number}")


def setting() -> Mapping[Any, Any]:
    """MCP_SESSIONS, or an empty dictionary if it is none: E001 reports that, so the other checks need not."""
    value = getattr(settings, "MCP_SESSIONS", {})
    return value if isinstance(value, Mapping) else {}


def entries() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries that are dictionaries, by alias."""
    return ((alias, entry) for alias, entry in setting().items() if isinstance(entry, Mapping))


def endpoints() -> list[Endpoint]:
    """The entries without mistakes of their own; E001 to E004 report the others."""
    return [conf.endpoint(alias) for alias, entry in entries() if not conf.entry_problems(alias, entry)]


def names(aliases: Sequence[str]) -> str:
    return " and ".join(repr(alias) for alias in aliases)
