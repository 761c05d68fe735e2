"""`manage.py mcp_sessions`: list, show and force-expire records, block clients, list nodes, and manage tokens."""

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import translation

from mcp_sessions.errors import StoreUnavailable, UnsupportedLookup
from mcp_sessions.inventory.display import ENGLISH
from mcp_sessions.management.subcommands import (
    blocks,
    doctor,
    ends,
    jobs,
    listing,
    nodes,
    selection,
    token,
    watching,
)
from mcp_sessions.store.factory import sync_store_for

#: The exit code where whoever read the output has left, as `head` does; that of a shell for SIGPIPE.
LEFT_CODE: Final = 141


class Command(BaseCommand):
    help = (
        "List, show and force-expire the MCP sessions and other records of this project, block clients, list its "
        "nodes, and make and revoke personal access tokens."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="subcommand", required=True)
        for group in (listing, ends, jobs, blocks, nodes, token, watching, doctor):
            group.add_arguments(commands)

    def handle(
        self, *args: Any, run: Callable[..., None], reads_stores: bool = False, **options: Any
    ) -> None:
        if reads_stores:
            self._warn_about_memory(selection.aliases_of(options["endpoint"]))
        try:
            # Scripts read what it says, so it does not depend on LANGUAGE_CODE.
            with translation.override(ENGLISH):
                run(self, **options)
            self.stdout.flush()
        except BrokenPipeError:
            # Nor can Python say what is left when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
            sys.exit(LEFT_CODE)
        except StoreUnavailable as error:
            raise CommandError(f"The session store cannot be reached: {error}") from error
        except UnsupportedLookup as error:
            raise CommandError(str(error)) from error
        if vars(self).pop("has_left_out", False):
            sys.exit(1)

    def _warn_about_memory(self, aliases: tuple[str, ...]) -> None:
        local = [alias for alias in aliases if not sync_store_for(alias).shared]
        if local:
            where = f"{', '.join(local)}: sessions are in the memory of the server processes"
            self.stderr.write(self.style.WARNING(f"{where} and cannot be seen from here."))
