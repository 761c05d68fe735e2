"""Which records a subcommand is about: the options that select them, and the records that a text identifies."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from mcp_sessions import conf
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.principals import is_known_principal, principal_named
from mcp_sessions.inventory.reach import reach
from mcp_sessions.inventory.search import lookups
from mcp_sessions.inventory.surroundings import now
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.drivers.synchronous import run_together
from mcp_sessions.store.factory import sync_store_for

_DURATION: Final = re.compile(r"([0-9]{1,7})([smhd])\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def add_endpoint(parser: ArgumentParser) -> None:
    """The option that `aliases_of` reads, for what reads the stores of these endpoints."""
    parser.set_defaults(reads_stores=True)
    parser.add_argument("--endpoint", choices=conf.aliases(), help="default: all endpoints")


def aliases_of(endpoint: str | None) -> tuple[str, ...]:
    return (endpoint,) if endpoint else conf.aliases()


def reached(command: BaseCommand, endpoint: str | None) -> tuple[str, ...]:
    """The endpoint, or all whose stores answer. The others are named, and the command exits with 1 when it has run.

    Raises: StoreUnavailable if none answers.
    """
    if endpoint:
        return (endpoint,)
    found = reach(conf.aliases())
    if found.away:
        words = f"{', '.join(found.away)}: the session store does not answer, and what it has is left out."
        command.stderr.write(command.style.WARNING(words))
        vars(command)["has_left_out"] = True
    return found.there


def left_out(command: BaseCommand) -> bool:
    """Whether `reached` has left out an endpoint."""
    return "has_left_out" in vars(command)


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
    command: BaseCommand,
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
    """The records that the options leave, where the stores answer.

    Raises: CommandError for a user who does not exist; StoreUnavailable.
    """
    owner = None if principal is None else principal_named(principal)
    if owner is not None and not is_known_principal(owner):
        raise CommandError(f"There is no user {owner}.")
    aliases = reached(command, endpoint)
    asks = active_within is not None or idle_for is not None
    moments = run_together([(sync_store_for(alias), now()) for alias in aliases if asks]) or [0]
    filters = Query(
        label=label,
        client=client,
        protocol=protocol,
        principal=owner,
        # Where the clocks of several stores differ, fewer records are meant: they may be about to end.
        active_since_ms=_before(max(moments), active_within),
        active_before_ms=_before(min(moments), idle_for),
    )
    return SessionQuery(aliases=aliases, kinds=(kind,) if kind else KINDS, filters=filters)


def _before(now_ms: int, age: timedelta | None) -> int | None:
    """The moment so long before, in milliseconds since the epoch; at the earliest, the first one of it."""
    return None if age is None else max(1, now_ms - age // timedelta(milliseconds=1))


def _duration(text: str) -> timedelta:
    """Raises: ArgumentTypeError."""
    found = _DURATION.match(text)
    if found is None:
        raise ArgumentTypeError(f"a time such as 90s, 15m, 2h or 1d, not {text!r}")
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
    record = found(among, text)
    if record is None:
        raise CommandError(f"No record has a fingerprint that starts with {text}, and no handle is {text}.")
    return record


def found(among: SessionQuery, text: str) -> MCPSession | None:
    """The record that the text identifies; None if it is gone.

    Raises: CommandError if there is more than one, or if the only one is not among those that the options leave.
    """
    matches = tuple(lookups(text))
    rows = replace(among, matches=matches).page(offset=0, limit=2).rows
    if len(rows) > 1:
        raise CommandError(
            f"More than one record is meant by {text}. Type more of it, or give --kind, --label or --principal."
        )
    if rows:
        return MCPSession.from_rows(rows)[0]
    if SessionQuery(aliases=reach(conf.aliases()).there, matches=matches).page(offset=0, limit=1).rows:
        raise CommandError(f"No record that the options leave is {text}, but there is one among the others.")
    return None


def _record_text(text: str) -> str:
    """Raises: ArgumentTypeError."""
    if not lookups(text):
        raise ArgumentTypeError(
            f"at least the first 8 digits of a fingerprint, the text of a handle, or a session id, not {text[:60]!r}"
        )
    return text
