"""`list` and `show`: records as a table, and one of them as JSON."""

import json
import re
from argparse import ArgumentTypeError, _SubParsersAction
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, Final

from django.core.management.base import BaseCommand

from mcp_sessions.inventory import display
from mcp_sessions.inventory.documents import summary
from mcp_sessions.inventory.kinds import WITH_STATE, counted
from mcp_sessions.inventory.listing import BATCH, LocatedPage, SessionQuery
from mcp_sessions.management.subcommands.selection import add_filters, add_records, chosen, only
from mcp_sessions.models import MCPSession
from mcp_sessions.store.calls import state, subscriptions
from mcp_sessions.store.factory import sync_store_for

_ROW: Final = "{:<24}  {:<20}  {:<24}  {:<24}  {:<10}  {:>12}  {:>12}  {:>8}  {}"
_HEAD: Final = (
    "RECORD",
    "KIND",
    "CLIENT",
    "PRINCIPAL",
    "PROTOCOL",
    "ACTIVE",
    "EXPIRES IN",
    "REQUESTS",
    "ENDPOINT",
)


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    list_ = commands.add_parser("list", help="list the records, most recently active first")
    list_.add_argument("--limit", type=_limit, default=50, help="records to list at most; default 50")
    list_.add_argument(
        "--oldest-first", action="store_true", help="begin with those that were used longest ago"
    )
    list_.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="an array of objects, each on a line of its own, without a total",
    )
    add_filters(list_)
    list_.set_defaults(run=_list)
    show = commands.add_parser("show", help="show everything about one record, as JSON")
    add_records(show, nargs=1)
    show.add_argument("--json", action="store_true", help="which it is in any case")
    add_filters(show)
    show.set_defaults(run=_show)


def _list(command: BaseCommand, *, limit: int, oldest_first: bool, as_json: bool, **options: Any) -> None:
    query = chosen(command, **options)
    pages = _pages(replace(query, filters=replace(query.filters, ascending=oldest_first)), limit)
    first = next(pages)
    write = _write_json if as_json else _write_table
    write(command, chain([first], pages))
    if not as_json:
        command.stdout.write(counted(first.counts) if first.exact else f"at least {counted(first.counts)}")


def _pages(query: SessionQuery, limit: int) -> Iterator[LocatedPage]:
    """The first records in parts, each read when it is its turn: so many that no command of Redis takes long."""
    page = query.page(limit=min(limit, BATCH))
    yield page
    left = limit - len(page.rows)
    while left > 0 and page.after is not None:
        page = query.page(limit=min(left, BATCH), after=page.after)
        yield page
        left -= len(page.rows)


def _write_table(command: BaseCommand, pages: Iterable[LocatedPage]) -> None:
    command.stdout.write(_ROW.format(*_HEAD))
    for page in pages:
        for session in MCPSession.from_rows(page.rows):
            command.stdout.write(_ROW.format(*_cells(session)))


def _write_json(command: BaseCommand, pages: Iterable[LocatedPage]) -> None:
    """One array, with an object in each line."""
    before = "["
    for page in pages:
        for session in MCPSession.from_rows(page.rows):
            command.stdout.write(f"{before}\n{json.dumps(summary(session))}", ending="")
            before = ","
    command.stdout.write("[]" if before == "[" else "\n]")


def _show(command: BaseCommand, *, records: list[str], **options: Any) -> None:
    session = only(chosen(command, **options), records[0])
    command.stdout.write(json.dumps(_document(session), indent=2, default=str))


def _limit(text: str) -> int:
    """Raises: ArgumentTypeError."""
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < 1:
        raise ArgumentTypeError(f"a number from 1 on, not {text!r}")
    return int(text)


def _cells(session: MCPSession) -> Iterator[Any]:
    # Whole, because the other commands take it.
    yield session.shown_id
    yield session.kind_with_label
    yield display.printable(session.client, 24)
    yield display.printable(session.principal_name, 24)
    yield display.printable(session.protocol_version, 10)
    yield display.ago(session.last_activity)
    yield display.remaining(session.record.expires)
    yield session.record.requests
    yield session.endpoint


def _document(session: MCPSession) -> dict[str, Any]:
    """What is known of a record: all of it for a session, and for others what is meaningful for their kind."""
    record = session.record
    document: dict[str, Any] = {
        "fingerprint": record.fingerprint,
        "kind": record.kind,
        "label": record.label,
        "name": record.name,
        "endpoint": session.endpoint,
        "client_info": record.handshake.client_info,
        "capabilities": record.handshake.capabilities,
        "protocol_version": record.handshake.protocol_version,
        "principal": record.principal,
        "principal_name": session.principal_name,
        "created": record.created,
        "last_activity": record.last_activity,
        "expires": record.expires,
        "deadline": record.deadline,
        "requests": record.requests,
        "last_call": record.last_call,
    }
    if record.kind == "session":
        document["initialized"] = record.initialized
        document["revived"] = record.revived
        document["log_level"] = record.log_level
        document["tools"] = sorted(record.tools)
        document["resources"] = sync_store_for(session.endpoint).run(
            subscriptions.resources(record.fingerprint)
        )
    if record.kind in WITH_STATE:
        texts = sync_store_for(session.endpoint).run(state.texts(record.fingerprint))
        document["state_bytes"] = display.state_bytes(texts)
        document["state"] = {name: json.loads(text) for name, text in texts.items()}
    return document
