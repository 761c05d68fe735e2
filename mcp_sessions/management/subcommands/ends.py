"""`expire` and `expire-all`: end records, on every node at once."""

import json
import sys
from argparse import _SubParsersAction
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from mcp_sessions.audit.models import GONE, EndingJob
from mcp_sessions.inventory.kinds import counted
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Picked, Prefix
from mcp_sessions.inventory.search import lookups
from mcp_sessions.jobs import driving, everything
from mcp_sessions.jobs.selection import snapshot
from mcp_sessions.jobs.table import entries
from mcp_sessions.management.subcommands.jobs import carry_out, document, operator
from mcp_sessions.management.subcommands.selection import (
    add_endpoint,
    add_filters,
    add_records,
    chosen,
    found,
    left_out,
    reached,
)
from mcp_sessions.models import MCPSession

#: What is said of a record that is gone, and of one that may be where the store is away.
_GONE: Final = "already gone"
_NOT_FOUND: Final = "not found where the stores answer"
#: Options that say which records end if none is named.
_FILTERS: Final = (
    "endpoint",
    "kind",
    "label",
    "principal",
    "client",
    "protocol",
    "active_within",
    "idle_for",
)


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    expire = commands.add_parser("expire", help="end records, on every node at once")
    add_records(expire, nargs="*")
    add_filters(expire)
    expire.add_argument("--all", action="store_true", dest="every", help="every record that there is now")
    expire.add_argument("--yes", action="store_true", help="do not ask")
    expire.add_argument(
        "--json",
        action="store_true",
        dest="as_json",
        help="the job as an object, as “jobs list” has it, with what became of each record that is named",
    )
    _add_reason(expire)
    expire.set_defaults(run=_expire)
    expire_all = commands.add_parser(
        "expire-all", help="end every session that was opened before now, also if Redis has lost it"
    )
    add_endpoint(expire_all)
    _add_reason(expire_all)
    expire_all.set_defaults(run=_expire_all)


def _add_reason(parser: Any) -> None:
    parser.add_argument("--reason", default="", help="why, for the log and the audit")


def _expire(
    command: BaseCommand,
    *,
    records: list[str],
    every: bool,
    yes: bool,
    reason: str,
    as_json: bool,
    **options: Any,
) -> None:
    """End the records that are named, or those that the filters leave."""
    if not records and not every and not any(options.get(name) for name in _FILTERS):
        raise CommandError("Name the records, or give filters; --all ends every record.")
    among = chosen(command, **options)
    if records:
        _expire_named(command, among, records, reason, as_json=as_json)
        return
    taken = snapshot(among)
    (command.stderr if as_json else command.stdout).write(f"{taken.described}: {taken.expected:,}")
    if not yes and not _confirmed(command):
        raise CommandError("Nothing was ended. Add --yes to end them without being asked.")
    job = driving.begin(taken, by=operator(), reason=reason)
    carry_out(command, job, told=(lambda job: _write_json(command, document(job))) if as_json else None)


def _confirmed(command: BaseCommand) -> bool:
    if not sys.stdin.isatty():
        return False
    # Not on stdout, which may be a file.
    command.stderr.write("End them? [y/N] ", ending="")
    command.stderr.flush()
    try:
        return input().strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
        return False


def _expire_named(
    command: BaseCommand, among: SessionQuery, texts: Sequence[str], reason: str, *, as_json: bool
) -> None:
    """End them, or none if a text means several. What is gone already is none of the command's failures."""
    by_text = {text: found(among, text) for text in texts}
    word = _NOT_FOUND if left_out(command) else _GONE
    missing = {_shown(text): word for text, record in by_text.items() if record is None}
    records = list({each.fingerprint: each for each in by_text.values() if each is not None}.values())
    if as_json and not records:
        _write_json(command, {"job": None, "outcomes": missing})
    elif not as_json:
        for text, word in missing.items():
            command.stdout.write(f"{text}: {word}")
    if not records:
        return
    picked = Picked(fingerprints=tuple(each.fingerprint for each in records))
    aliases = tuple(dict.fromkeys(each.endpoint for each in records))
    job = driving.begin(
        snapshot(replace(among, aliases=aliases, matches=(picked,))), by=operator(), reason=reason
    )

    def told(job: EndingJob) -> None:
        outcomes = _outcomes(job, records)
        if as_json:
            by_fingerprint = {record.fingerprint: outcome for record, outcome in outcomes}
            _write_json(command, document(job) | {"outcomes": missing | by_fingerprint})
            return
        for record, outcome in outcomes:
            command.stdout.write(f"{record}: {outcome}")

    carry_out(command, job, told=told)


def _shown(text: str) -> str:
    """A session id is a credential: its fingerprint is shown in its place."""
    [first, *_] = lookups(text)
    return first.digits if isinstance(first, Prefix) else text


def _outcomes(job: EndingJob, records: Sequence[MCPSession]) -> list[tuple[MCPSession, str]]:
    """What became of each record."""
    known = dict(entries().filter(job=job).values_list("fingerprint", "outcome"))
    words = {GONE: _GONE}
    found = [(record, known.get(record.fingerprint, GONE)) for record in records]
    return [(record, words.get(outcome, outcome)) for record, outcome in found]


def _write_json(command: BaseCommand, facts: dict[str, Any]) -> None:
    command.stdout.write(json.dumps(facts, indent=2))


def _expire_all(command: BaseCommand, *, endpoint: str | None, reason: str, **_: Any) -> None:
    """End every session that was opened before now, and say how many were open."""
    for alias in reached(command, endpoint):
        job = everything.begin(alias, by=operator(), reason=reason)
        carry_out(command, job, told=lambda job, alias=alias: command.stdout.write(_all_ended(alias, job)))  # type: ignore[misc]


def _all_ended(alias: str, job: EndingJob) -> str:
    return f"{alias}: {counted({'session': job.ended}) if job.ended else 'no session'} ended"
