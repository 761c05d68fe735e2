"""`manage.py mcp_sessions`: list, show and force-expire sessions and other records, list nodes, and manage tokens."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mcp_sessions import conf
from mcp_sessions.ending import end_opened_before_now, end_sessions
from mcp_sessions.errors import NotAllEnded, StoreUnavailable, UnsupportedLookup
from mcp_sessions.inventory import display
from mcp_sessions.inventory.kinds import WITH_STATE, counted
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.nodes import nodes_of
from mcp_sessions.inventory.principals import principal_named
from mcp_sessions.inventory.search import lookups
from mcp_sessions.management import token_command
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.calls import state
from mcp_sessions.store.calls.queries import Query
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


class Command(BaseCommand):
    help = (
        "List, show and force-expire the MCP sessions and other records of this project, list its nodes, and make and "
        "revoke personal access tokens."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        list_ = commands.add_parser("list", help="list the records, most recently active first")
        list_.add_argument("--limit", type=int, default=50, help="records to list at most; default 50")
        show = commands.add_parser("show", help="show everything about one record, as JSON")
        _add_records(show, nargs=1)
        expire = commands.add_parser("expire", help="end records, on every node at once")
        _add_records(expire, nargs="+")
        expire_all = commands.add_parser(
            "expire-all", help="end every session that was opened before now, also if Redis has lost it"
        )
        nodes = commands.add_parser("nodes", help="list the nodes (server processes) by their heartbeats")
        token_command.add_arguments(
            commands.add_parser("token", help="make, list and revoke personal tokens")
        )
        for command in (list_, show, expire):
            command.add_argument("--kind", choices=KINDS, help="default: all kinds")
            command.add_argument("--label", help="only handles of this kind, or conversations with this key")
            command.add_argument(
                "--principal", help="only records of this principal, as “show” prints it, or of this user"
            )
        for command in (list_, show, expire, expire_all, nodes):
            command.add_argument("--endpoint", choices=conf.aliases(), help="default: all endpoints")

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        if command == "token":
            return token_command.run(self, **options)
        aliases = (options["endpoint"],) if options["endpoint"] else conf.aliases()
        acts: dict[str, Callable[..., None]] = {
            "list": self.print_all,
            "show": self.print_one,
            "expire": self.end,
            "expire-all": self.end_all,
            "nodes": self.print_nodes,
        }
        self._warn_about_memory(aliases)
        try:
            acts[command](_chosen(aliases, **options), **options)
        except StoreUnavailable as error:
            raise CommandError(f"The session store cannot be reached: {error}") from error
        except UnsupportedLookup as error:
            raise CommandError(str(error)) from error

    def print_all(self, chosen: SessionQuery, *, limit: int, **_: Any) -> None:
        """Print a table of records."""
        page = chosen.page(offset=0, limit=max(1, limit))
        self.stdout.write(_ROW.format(*_HEAD))
        for session in MCPSession.from_rows(page.rows):
            self.stdout.write(_ROW.format(*_cells(session)))
        self.stdout.write(counted(page.counts))

    def print_one(self, chosen: SessionQuery, *, records: list[str], **_: Any) -> None:
        """Print one record as JSON."""
        session = _only(chosen, records[0])
        self.stdout.write(json.dumps(_document(session), indent=2, default=str))

    def print_nodes(self, chosen: SessionQuery, **_: Any) -> None:
        """Print a table of nodes."""
        for node in nodes_of(chosen.aliases):
            self.stdout.write(
                f"{node.id}  {node.host}  {node.pid}  {display.ago(node.seen)}  {node.endpoint}"
            )

    def end(self, chosen: SessionQuery, *, records: list[str], **_: Any) -> None:
        """End the records, or none if one of them is unknown."""
        by_endpoint: dict[str, list[MCPSession]] = {}
        for session in [_only(chosen, text) for text in records]:
            by_endpoint.setdefault(session.endpoint, []).append(session)
        for alias, sessions in by_endpoint.items():
            failure = None
            try:
                ended = end_sessions(alias, [session.fingerprint for session in sessions], by="shell")
            except NotAllEnded as error:
                ended, failure = error.ended, error
            for session in sessions:
                if session.fingerprint in ended:
                    self.stdout.write(f"{session}: ended")
                elif failure is None:
                    self.stdout.write(f"{session}: already gone")
            if failure is not None:
                raise failure

    def end_all(self, chosen: SessionQuery, **_: Any) -> None:
        """End every session that was opened before now, and say how many were open."""
        for alias in chosen.aliases:
            total = sum(map(len, end_opened_before_now(alias, by="shell")))
            self.stdout.write(f"{alias}: {counted({'session': total}) if total else 'no session'} ended")

    def _warn_about_memory(self, aliases: tuple[str, ...]) -> None:
        local = [alias for alias in aliases if not sync_store_for(alias).shared]
        if local:
            where = f"{', '.join(local)}: sessions are in the memory of the server processes"
            self.stderr.write(self.style.WARNING(f"{where} and cannot be seen from here."))


def _chosen(
    aliases: tuple[str, ...],
    *,
    kind: Kind | None = None,
    label: str | None = None,
    principal: str | None = None,
    **_: Any,
) -> SessionQuery:
    """The records that the options leave."""
    owner = None if principal is None else principal_named(principal)
    filters = Query(label=label, principal=owner)
    return SessionQuery(aliases=aliases, kinds=(kind,) if kind else KINDS, filters=filters)


def _only(chosen: SessionQuery, text: str) -> MCPSession:
    """The record that the text identifies. Raises: CommandError if there is none, or more than one."""
    found = replace(chosen, matches=tuple(lookups(text))).page(offset=0, limit=2)
    if len(found.rows) != 1:
        if not found.rows:
            raise CommandError(
                f"No record has a fingerprint that starts with {text}, and no handle is {text}."
            )
        raise CommandError(
            f"More than one record is meant by {text}. Type more of it, or give --kind, --label or --principal."
        )
    return MCPSession.from_rows(found.rows)[0]


def _add_records(parser: ArgumentParser, *, nargs: int | str) -> None:
    parser.add_argument(
        "records",
        nargs=nargs,
        type=_record,
        metavar="RECORD",
        help="a fingerprint, or its first 8 or more digits, or the text of a handle",
    )


def _record(text: str) -> str:
    """Raises: ValueError, which the parser reports."""
    if not lookups(text):
        raise ValueError(text)
    return text


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
    if record.kind in WITH_STATE:
        texts = sync_store_for(session.endpoint).run(state.texts(record.fingerprint))
        document["state_bytes"] = display.state_bytes(texts)
        document["state"] = {name: json.loads(text) for name, text in texts.items()}
    return document
