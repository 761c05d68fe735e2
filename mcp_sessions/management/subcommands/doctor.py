"""`doctor`: looks for what is wrong, and says how to mend it."""

import json
import sys
from argparse import _SubParsersAction
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from django.core import checks
from django.core.management.base import BaseCommand

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory import leftovers
from mcp_sessions.inventory.figures import HOUR
from mcp_sessions.inventory.findings import Finding, Level, most_important_first
from mcp_sessions.inventory.overview import overview_of
from mcp_sessions.management.subcommands.selection import add_endpoint, aliases_of


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    doctor = commands.add_parser(
        "doctor",
        help="look at the settings, Redis, its keys and the nodes; exits with 1 if there is something to mend",
    )
    add_endpoint(doctor)
    doctor.add_argument("--json", action="store_true", dest="as_json", help="JSON, for programs")
    # Its own words, because wrong settings are what it looks for.
    doctor.set_defaults(run=_doctor, reads_stores=False)


def _doctor(command: BaseCommand, *, endpoint: str | None, as_json: bool, **_: Any) -> None:
    """Exits with 1 if there is an error or a warning."""
    found = _findings(aliases_of(endpoint))
    if as_json:
        command.stdout.write(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            command.stdout.write(f"{finding.level}: {finding.what}\n    {finding.cure}")
        if not found:
            command.stdout.write("Nothing is wrong that can be seen from here.")
    if any(finding.level != "note" for finding in found):
        sys.exit(1)


def _findings(aliases: Sequence[str]) -> list[Finding]:
    """All that is wrong, the worst first."""
    found = list(_of_settings())
    if any(finding.level == "error" for finding in found):
        return most_important_first(found)
    overview = overview_of(aliases, HOUR)
    found += overview.findings
    for cache in overview.servers:  # those that answer
        try:
            found += leftovers.of_keys(cache)
        except StoreUnavailable as error:
            found.append(
                Finding(
                    code="keys-unread",
                    level="note",
                    what=f"The keys of the cache {cache!r} could not be read: {error}.",
                    cure="Allow this user of Redis SCAN, if the keys are to be looked at.",
                )
            )
    return most_important_first(found)


def _of_settings() -> Iterator[Finding]:
    """What Django's system checks say of this app."""
    for message in checks.run_checks(tags=["mcp_sessions"]):
        if message.level >= checks.INFO:
            yield Finding(
                code=str(message.id), level=_level(message.level), what=message.msg, cure=message.hint or ""
            )


def _level(level: int) -> Level:
    return "error" if level >= checks.ERROR else "warning" if level >= checks.WARNING else "note"
