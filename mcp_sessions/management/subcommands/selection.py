"""Which records a subcommand is about: the options that select them, and the records that a text identifies."""

import re
from argparse import ArgumentParser
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import CommandError
from django.utils import timezone

from mcp_sessions import conf
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.principals import is_known_principal, principal_named
from mcp_sessions.inventory.search import lookups
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.calls.queries import Query

_DURATION: Final = re.compile(r"([0-9]{1,7})([smhd])\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def add_endpoint(parser: ArgumentParser) -> None:
    """The option that `aliases_of` reads, for what reads the stores of these endpoints."""
    parser.set_defaults(reads_stores=True)
    parser.add_argument("--endpoint", choices=conf.aliases(), help="default: all endpoints")


def aliases_of(endpoint: str | None) -> tuple[str, ...]:
    return (endpoint,) if endpoint else conf.aliases()


def add_filters(parser: ArgumentParser) -> None:
    """The options that `chosen` reads."""
    parser.add_argument("--kind", choices=KINDS, help="default: all kinds")
    parser.add_argument("--label", help="only handles of this kind, or conversations with this key")
    parser.add_argument("--client", help="only records of the client with exactly this name")
    parser.add_argument("--protocol", help="only records of clients that speak this protocol version")
    parser.add_argument(
        "--principal",
        "--user",
        metavar="USER",
        help="only records of this user, by the exact name, or of this principal, as “show” prints it",
    )
    parser.add_argument(
        "--active-within",
        type=_duration,
        metavar="TIME",
        help="only what was used within, say, 90s, 15m, 2h or 1d",
    )
    parser.add_argument(
        "--idle-for", type=_duration, metavar="TIME", help="only what was not used within that time"
    )
    add_endpoint(parser)


def chosen(
    *,
    endpoint: str | None = None,
    kind: Kind | None = None,
    label: str | None = None,
    client: str | None = None,
    protocol: str | None = None,
    principal: str | None = None,
    active_within: timedelta | None = None,
    idle_for: timedelta | None = None,
    **_: Any,
) -> SessionQuery:
    """The records that the options leave. Raises: CommandError for a user who does not exist."""
    owner = None if principal is None else principal_named(principal)
    if owner is not None and not is_known_principal(owner):
        raise CommandError(f"There is no user {owner}.")
    filters = Query(
        label=label,
        client=client,
        protocol=protocol,
        principal=owner,
        active_since_ms=_before_now(active_within),
        active_before_ms=_before_now(idle_for),
    )
    return SessionQuery(aliases=aliases_of(endpoint), kinds=(kind,) if kind else KINDS, filters=filters)


def _before_now(age: timedelta | None) -> int | None:
    """The moment so long ago, in milliseconds since the epoch."""
    return None if age is None else round((timezone.now() - age).timestamp() * 1000)


def _duration(text: str) -> timedelta:
    """Raises: ValueError, which the parser reports."""
    found = _DURATION.match(text)
    if found is None:
        raise ValueError(text)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def add_records(parser: ArgumentParser, *, nargs: int | str) -> None:
    """The records themselves, each of which `only` finds."""
    parser.add_argument(
        "records",
        nargs=nargs,
        type=_record_text,
        metavar="RECORD",
        help="a fingerprint, or its first 8 or more digits, the text of a handle, or a session id",
    )


def only(among: SessionQuery, text: str) -> MCPSession:
    """The record that the text identifies. Raises: CommandError if there is none, or more than one."""
    found = replace(among, matches=tuple(lookups(text))).page(offset=0, limit=2)
    if len(found.rows) != 1:
        if not found.rows:
            raise CommandError(
                f"No record has a fingerprint that starts with {text}, and no handle is {text}."
            )
        raise CommandError(
            f"More than one record is meant by {text}. Type more of it, or give --kind, --label or --principal."
        )
    return MCPSession.from_rows(found.rows)[0]


def _record_text(text: str) -> str:
    """Raises: ValueError, which the parser reports."""
    if not lookups(text):
        raise ValueError(text)
    return text
