"""`expire` and `expire-all`: end records, on every node at once."""

from argparse import _SubParsersAction
from typing import Any

from django.core.management.base import BaseCommand

from mcp_sessions.ending import end_opened_before_now, end_sessions
from mcp_sessions.errors import NotAllEnded
from mcp_sessions.inventory.kinds import counted
from mcp_sessions.management.subcommands.selection import (
    add_endpoint,
    add_filters,
    add_records,
    aliases_of,
    chosen,
    only,
)
from mcp_sessions.models import MCPSession


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    expire = commands.add_parser("expire", help="end records, on every node at once")
    add_records(expire, nargs="+")
    add_filters(expire)
    expire.set_defaults(run=_expire)
    expire_all = commands.add_parser(
        "expire-all", help="end every session that was opened before now, also if Redis has lost it"
    )
    add_endpoint(expire_all)
    expire_all.set_defaults(run=_expire_all)


def _expire(command: BaseCommand, *, records: list[str], **options: Any) -> None:
    """End the records, or none if one of them is unknown."""
    among = chosen(**options)
    by_endpoint: dict[str, list[MCPSession]] = {}
    for session in [only(among, text) for text in records]:
        by_endpoint.setdefault(session.endpoint, []).append(session)
    for alias, sessions in by_endpoint.items():
        failure = None
        try:
            ended = end_sessions(alias, [session.fingerprint for session in sessions], by="shell")
        except NotAllEnded as error:
            ended, failure = error.ended, error
        for session in sessions:
            if session.fingerprint in ended:
                command.stdout.write(f"{session}: ended")
            elif failure is None:
                command.stdout.write(f"{session}: already gone")
        if failure is not None:
            raise failure


def _expire_all(command: BaseCommand, *, endpoint: str | None, **_: Any) -> None:
    """End every session that was opened before now, and say how many were open."""
    for alias in aliases_of(endpoint):
        total = sum(map(len, end_opened_before_now(alias, by="shell")))
        command.stdout.write(f"{alias}: {counted({'session': total}) if total else 'no session'} ended")
