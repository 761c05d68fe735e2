"""`block`, `unblock` and `blocks`: who is refused for a time, on every node."""

import json
import re
from argparse import ArgumentTypeError, _SubParsersAction
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from mcp_sessions import blocks, conf
from mcp_sessions.blocks import BLOCK_KINDS, Block, BlockKind
from mcp_sessions.inventory import display
from mcp_sessions.inventory.principals import principal_named
from mcp_sessions.management.subcommands.jobs import operator
from mcp_sessions.management.subcommands.token import moment
from mcp_sessions.texts import restored

_ROW: Final = "{:<6}  {:<10}  {:<40}  {:<12}  {:<22}  {:<16}  {}"
_HEAD: Final = ("BLOCK", "WHAT", "VALUE", "ENDPOINT", "UNTIL", "BY", "REASON")


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    block = commands.add_parser("block", help="refuse a principal, client name or address, on every node")
    block.add_argument("kind", choices=BLOCK_KINDS, metavar="WHAT", help=", ".join(BLOCK_KINDS))
    block.add_argument(
        "value", help="a principal as “show” prints it or a user name, a client’s name, an address or network"
    )
    block.add_argument(
        "--for",
        dest="until",
        type=moment,
        default=timedelta(days=1),
        help="12h, 30d, a date, or never, which is until it is lifted; default 1d",
    )
    block.add_argument("--endpoint", default="", choices=("", *conf.aliases()), help="default: all endpoints")
    block.add_argument("--reason", default="", help="for operators; clients do not see it")
    block.add_argument("--json", action="store_true", dest="as_json", help="the block as an object")
    block.set_defaults(run=_block)
    unblock = commands.add_parser("unblock", help="lift blocks, on every node")
    unblock.add_argument(
        "numbers", nargs="+", type=_key, metavar="BLOCK", help="its number, as “blocks” prints it"
    )
    unblock.set_defaults(run=_unblock)
    list_ = commands.add_parser("blocks", help="list the blocks that hold, newest first")
    list_.add_argument("--json", action="store_true", dest="as_json", help="an array of objects")
    list_.set_defaults(run=_list)


def _block(
    command: BaseCommand,
    *,
    kind: BlockKind,
    value: str,
    until: timedelta | datetime | None,
    endpoint: str,
    reason: str,
    as_json: bool,
    **_: Any,
) -> None:
    if kind == "principal":
        value = principal_named(value)
        if ":" not in value:
            raise CommandError(f"There is no user {value}, and no principal is called so.")
    duration = display.zoned(until) - datetime.now(UTC) if isinstance(until, datetime) else until
    try:
        made = blocks.block(kind, value, duration=duration, endpoint=endpoint, reason=reason, by=operator())
    except ValueError as error:
        raise CommandError(str(error)) from error
    said = f"{made.pk}: {made} is blocked {_until(made)}"
    command.stdout.write(json.dumps(_document(made), indent=2) if as_json else said)


def _document(block: Block) -> dict[str, Any]:
    """A block for programs. Its value is the original text: JSON can carry all of it."""
    return {
        "block": block.pk,
        "kind": block.kind,
        "value": restored(block.value),
        "endpoint": block.endpoint or None,
        "created": display.zoned(block.created).isoformat(timespec="seconds"),
        "expires": block.expires and display.zoned(block.expires).isoformat(timespec="seconds"),
        "by": block.by,
        "reason": block.reason,
    }


def _key(text: str) -> int:
    """Raises: ArgumentTypeError, also for a number that no database takes for a key."""
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < 1:
        raise ArgumentTypeError(f"the number of a block, not {text!r}")
    return int(text)


def _unblock(command: BaseCommand, *, numbers: list[int], **_: Any) -> None:
    found = Block.objects.in_bulk(numbers)
    unknown = sorted(set(numbers) - found.keys())
    if unknown:
        raise CommandError(f"There is no block {unknown[0]}. “blocks” lists them.")
    for each in found.values():
        lifted = blocks.unblock([each], by=operator())
        command.stdout.write(f"{each.pk}: {each} is {'no longer blocked' if lifted else each.state}")


def _list(command: BaseCommand, *, as_json: bool, **_: Any) -> None:
    if as_json:
        command.stdout.write(json.dumps([_document(each) for each in blocks.active()], indent=2))
        return
    command.stdout.write(_ROW.format(*_HEAD))
    for each in blocks.active():
        cells = (
            each.pk,
            each.kind,
            display.printable(each.value, 40),
            display.printable(each.endpoint, 12) or "all",
            _until(each),
            display.printable(each.by, 16),
            display.printable(each.reason, 60),
        )
        command.stdout.write(_ROW.format(*cells).rstrip())


def _until(block: Block) -> str:
    return (
        "until it is lifted"
        if block.expires is None
        else f"until {display.zoned(block.expires):%Y-%m-%d %H:%M %Z}"
    )
