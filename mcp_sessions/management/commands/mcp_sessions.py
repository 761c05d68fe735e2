"""`manage.py mcp_sessions`: list, show and force-expire sessions from a shell, and list the nodes."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mcp_sessions import conf
from mcp_sessions.ending import end_sessions
from mcp_sessions.errors import NotAllEnded, StoreUnavailable
from mcp_sessions.inventory import display
from mcp_sessions.inventory.listing import Prefix, SessionQuery
from mcp_sessions.inventory.nodes import nodes_of
from mcp_sessions.models import MCPSession
from mcp_sessions.records import FINGERPRINT_PREFIX
from mcp_sessions.store.calls import state
from mcp_sessions.store.factory import sync_store_for

_ROW: Final = "{:<12}  {:<24}  {:<24}  {:<10}  {:>12}  {:>12}  {:>8}  {}"


class Command(BaseCommand):
    help = "List, show and force-expire the open MCP sessions of this project, and list its nodes."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        list_ = commands.add_parser("list", help="list the sessions, most recently active first")
        list_.add_argument("--limit", type=int, default=50, help="sessions to list at most; default 50")
        show = commands.add_parser("show", help="show everything about one session, as JSON")
        _add_fingerprints(show, nargs=1)
        expire = commands.add_parser("expire", help="end sessions, on every node at once")
        _add_fingerprints(expire, nargs="+")
        nodes = commands.add_parser("nodes", help="list the nodes (server processes) by their heartbeats")
        for command in (list_, show, expire, nodes):
            command.add_argument("--endpoint", choices=conf.aliases(), help="default: all endpoints")

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        acts: dict[str, Callable[..., None]] = {
            "list": self.print_all,
            "show": self.print_one,
            "expire": self.end,
            "nodes": self.print_nodes,
        }
        aliases = (options["endpoint"],) if options["endpoint"] else conf.aliases()
        self._warn_about_memory(aliases)
        try:
            acts[command](aliases, **options)
        except StoreUnavailable as error:
            raise CommandError(f"The session store cannot be reached: {error}") from error

    def print_all(self, aliases: tuple[str, ...], *, limit: int, **_: Any) -> None:
        """Print a table of sessions."""
        page = SessionQuery(aliases=aliases).page(offset=0, limit=max(1, limit))
        self.stdout.write(
            _ROW.format(
                "SESSION", "CLIENT", "PRINCIPAL", "PROTOCOL", "ACTIVE", "EXPIRES IN", "REQUESTS", "ENDPOINT"
            )
        )
        for session in MCPSession.from_rows(page.rows):
            self.stdout.write(_ROW.format(*_cells(session)))
        self.stdout.write(f"{page.total} open")

    def print_one(self, aliases: tuple[str, ...], *, fingerprints: list[str], **_: Any) -> None:
        """Print one session as JSON."""
        session = _only(aliases, fingerprints[0])
        self.stdout.write(json.dumps(_document(session), indent=2, default=str))

    def print_nodes(self, aliases: tuple[str, ...], **_: Any) -> None:
        """Print a table of nodes."""
        for node in nodes_of(aliases):
            self.stdout.write(
                f"{node.id}  {node.host}  {node.pid}  {display.ago(node.seen)}  {node.endpoint}"
            )

    def end(self, aliases: tuple[str, ...], *, fingerprints: list[str], **_: Any) -> None:
        """End the sessions, or none if one of them is unknown."""
        by_endpoint: dict[str, list[MCPSession]] = {}
        for session in [_only(aliases, prefix) for prefix in fingerprints]:
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

    def _warn_about_memory(self, aliases: tuple[str, ...]) -> None:
        local = [alias for alias in aliases if not sync_store_for(alias).shared]
        if local:
            where = f"{', '.join(local)}: sessions are in the memory of the server processes"
            self.stderr.write(self.style.WARNING(f"{where} and cannot be seen from here."))


def _only(aliases: tuple[str, ...], prefix: str) -> MCPSession:
    """The session whose fingerprint starts so. Raises: CommandError if there is none, or more than one."""
    found = SessionQuery(aliases=aliases, matches=(Prefix(digits=prefix),)).page(offset=0, limit=2)
    if len(found.rows) != 1:
        problem = "No open session" if not found.rows else "More than one open session"
        raise CommandError(f"{problem} has a fingerprint that starts with {prefix}.")
    return MCPSession.from_rows(found.rows)[0]


def _add_fingerprints(parser: ArgumentParser, *, nargs: int | str) -> None:
    parser.add_argument(
        "fingerprints",
        nargs=nargs,
        type=_prefix,
        metavar="FINGERPRINT",
        help="all of it, or its first 8 or more digits",
    )


def _prefix(text: str) -> str:
    """Raises: ValueError, which the parser reports."""
    if not FINGERPRINT_PREFIX.match(text.lower()):
        raise ValueError(text)
    return text.lower()


def _cells(session: MCPSession) -> Iterator[Any]:
    yield session.short_fingerprint
    yield display.printable(session.client, 24)
    yield display.printable(session.principal_name, 24)
    yield display.printable(session.protocol_version, 10)
    yield display.ago(session.last_activity)
    yield display.remaining(session.record.expires)
    yield session.record.requests
    yield session.endpoint


def _document(session: MCPSession) -> dict[str, Any]:
    record = session.record
    return {
        "fingerprint": record.fingerprint,
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
        "initialized": record.initialized,
        "requests": record.requests,
        "last_call": record.last_call,
        "log_level": record.log_level,
        "tools": sorted(record.tools),
        "state": dict(sync_store_for(session.endpoint).run(state.items(record.fingerprint))),
    }
