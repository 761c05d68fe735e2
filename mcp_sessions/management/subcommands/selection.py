"""Which records a subcommand is about: the options that select them, and the records that a text identifies."""

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError

from mcp_sessions import conf
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.principals import principal_named
from mcp_sessions.inventory.search import lookups
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.calls.queries import Query


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
    parser.add_argument(
        "--principal", help="only records of this principal, as “show” prints it, or of this user"
    )
    add_endpoint(parser)


def chosen(
    *,
    endpoint: str | None = None,
    kind: Kind | None = None,
    label: str | None = None,
    principal: str | None = None,
    **_: Any,
) -> SessionQuery:
    """The records that the options leave."""
    owner = None if principal is None else principal_named(principal)
    filters = Query(label=label, principal=owner)
    return SessionQuery(aliases=aliases_of(endpoint), kinds=(kind,) if kind else KINDS, filters=filters)


def add_records(parser: ArgumentParser, *, nargs: int | str) -> None:
    """The records themselves, each of which `only` finds."""
    parser.add_argument(
        "records",
        nargs=nargs,
        type=_record_text,
        metavar="RECORD",
        help="a fingerprint, or its first 8 or more digits, or the text of a handle",
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
    if not rows and SessionQuery(aliases=conf.aliases(), matches=matches).page(offset=0, limit=1).rows:
        raise CommandError(f"No record that the options leave is {text}, but there is one among the others.")
    return MCPSession.from_rows(rows)[0] if rows else None


def _record_text(text: str) -> str:
    """Raises: ValueError, which the parser reports."""
    if not lookups(text):
        raise ValueError(text)
    return text
