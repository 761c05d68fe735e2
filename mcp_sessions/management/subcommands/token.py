"""`manage.py mcp_sessions token`: make, list and revoke personal access tokens."""

import re
from argparse import ArgumentTypeError, _SubParsersAction
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from mcp_sessions import conf
from mcp_sessions.authentication.models import from_now
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory import display
from mcp_sessions.management.subcommands.jobs import operator
from mcp_sessions.tokens import DEFAULT_LIFETIME, PREFIX_CHARS, PersonalToken, create_token, revoke_token

_ROW: Final = "{:<14}  {:<20}  {:<24}  {:<24}  {:<12}  {:>10}  {:>12}  {}"
_HEAD: Final = ("TOKEN", "USER", "NAME", "SCOPES", "ENDPOINT", "STATE", "LAST USED", "EXPIRES")
_LIFETIME: Final = re.compile(r"(\d{1,5})([hd])\Z")


def add_arguments(commands: "_SubParsersAction[Any]") -> None:
    token = commands.add_parser("token", help="make, list and revoke personal tokens")
    token.set_defaults(run=run)
    acts = token.add_subparsers(dest="act", required=True)
    create = acts.add_parser("create", help="make a token for a user, and print it: once, it is not stored")
    create.add_argument("username")
    create.add_argument("--scope", action="append", default=[], help="what the token allows; may be repeated")
    create.add_argument("--name", default="", help="what it is for, such as the client's name")
    create.add_argument(
        "--endpoint", default="", choices=("", *conf.aliases()), help="default: all endpoints"
    )
    create.add_argument(
        "--expires",
        type=moment,
        default=DEFAULT_LIFETIME,
        help=f"12h, 30d, a date, or never; default {DEFAULT_LIFETIME.days}d",
    )
    list_ = acts.add_parser("list", help="list tokens, newest first")
    list_.add_argument("--user", dest="username", help="only those of this user")
    revoke = acts.add_parser("revoke", help="refuse a token from now on, on every node")
    revoke.add_argument("prefix", metavar="TOKEN", help="how it begins, as “list” prints it")


def run(command: BaseCommand, *, act: str, **options: Any) -> None:
    """Raises: CommandError."""
    acts: Mapping[str, Callable[..., None]] = {"create": _create, "list": _list, "revoke": _revoke}
    acts[act](command, **options)


def _create(
    command: BaseCommand,
    *,
    username: str,
    scope: list[str],
    name: str,
    endpoint: str,
    expires: timedelta | datetime | None,
    **_: Any,
) -> None:
    user = _user(username)
    until = from_now(expires) if isinstance(expires, timedelta) else expires
    scopes = " ".join(word for each in scope for word in each.split())
    token, text = create_token(user, name=name[:100], scopes=scopes, endpoint=endpoint, expires=until)
    command.stderr.write(f"{token}: for {username}, {_until(token)}. It is not shown again:")
    command.stdout.write(text)


def _list(command: BaseCommand, *, username: str | None, **_: Any) -> None:
    tokens = PersonalToken.objects.select_related("user")
    if username is not None:
        tokens = tokens.filter(user=_user(username))
    command.stdout.write(_ROW.format(*_HEAD))
    for token in tokens:
        cells = (
            token.prefix,
            display.printable(token.user.get_username(), 20),
            display.printable(token.name, 24),
            display.printable(token.scopes, 24),
            display.printable(token.endpoint, 12) or "all",
            token.state,
            "never" if token.last_used is None else display.ago(token.last_used),
            _until(token),
        )
        command.stdout.write(_ROW.format(*cells))


def _revoke(command: BaseCommand, *, prefix: str, **_: Any) -> None:
    # Somebody may paste the whole text of a token that has leaked.
    token = PersonalToken.objects.filter(prefix=prefix[:PREFIX_CHARS]).first()
    if token is None:
        raise CommandError(f"No token begins with {prefix[:PREFIX_CHARS]}. “token list” prints them.")
    try:
        ended = revoke_token(token, by=operator())
    except StoreUnavailable as error:
        raise CommandError(
            f"{token}: revoked, but not all of its sessions could be ended: {error}. Revoke it again when Redis "
            "answers."
        ) from error
    command.stdout.write(f"{token}: revoked{f', {ended} sessions ended' if ended else ''}")


def _user(username: str) -> Any:
    model = get_user_model()
    try:
        return model._default_manager.get(**{model.USERNAME_FIELD: username})
    except model.DoesNotExist:
        raise CommandError(f"There is no user {username}.") from None


def _until(token: PersonalToken) -> str:
    if token.expires is None:
        return "never expires"
    return f"until {display.zoned(token.expires):%Y-%m-%d %H:%M %Z}"


def moment(text: str) -> timedelta | datetime | None:
    """A lifetime, a moment, or None for never. Raises: ArgumentTypeError."""
    if text == "never":
        return None
    if (lifetime := _LIFETIME.match(text)) is not None and (number := int(lifetime[1])):
        return timedelta(hours=number) if lifetime[2] == "h" else timedelta(days=number)
    try:
        found = parse_datetime(text) if parse_date(text) is None else datetime.fromisoformat(text)
        aware = timezone.make_aware(found) if found is not None and timezone.is_naive(found) else found
        if aware is not None:
            aware = aware.astimezone(UTC)  # as databases keep it, which ends with the year 9999
    except (ValueError, OverflowError):
        aware = None
    if aware is None:
        raise ArgumentTypeError(f"12h, 30d, a date such as 2027-01-31, or never; not {text!r}")
    if aware <= display.now_like(aware):
        raise ArgumentTypeError(f"a time that is not over, not {text}")
    return aware if settings.USE_TZ else timezone.make_naive(aware)
