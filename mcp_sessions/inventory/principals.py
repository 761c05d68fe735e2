"""Principals as the admin and the commands show them, and the principals that a name may stand for.

A principal says who authentication found: a Django user, the subject or the OAuth client of a token, or nobody.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_sessions.authentication.users import users_of
from mcp_sessions.conf import endpoint
from mcp_sessions.inventory.display import printable
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.texts import storable

USER: Final = "user:"
#: Principals of bearer tokens, `kind:["issuer","name"]` -> how the name is shown.
TOKENS: Final[dict[str, str | Promise]] = {
    "oauth": "%(name)s",
    "oauth-client": gettext_lazy("client %(name)s"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A principal for people."""

    #: Printable, and at most 150 characters long.
    name: str
    #: The primary key of Django's user, if there is one.
    user: Any = None


def names_of(principals: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Named]:
    """A name for each principal, which comes with its endpoint.

    It is a user name, "anonymous", or a token's subject and issuer, with the user whom SUBJECT_TO_USER finds.
    One database query for all users, and one for the subjects of each endpoint that has that setting.
    """
    distinct = set(principals)
    user_names = _user_names(
        {pk for _alias, principal in distinct if (pk := _user_pk(principal)) is not None}
    )
    found: dict[tuple[str, str], Named] = {}
    for alias in {alias for alias, _principal in distinct}:
        here = [principal for each, principal in distinct if each == alias]
        mapped = users_of(endpoint(alias), here)
        for principal in here:
            name, user = _name(principal, user_names), mapped.get(principal)
            if user is not None:
                name, pk = printable(f"{user.get_username()}, {name}", 150), user.pk
            else:
                pk = known if (known := _user_pk(principal)) in user_names else None
            found[alias, principal] = Named(name=name, user=pk)
    return found


def principals_of_users(text: str, *, limit: int) -> list[str]:
    """The principals of at most `limit` Django users whose user names contain the text, the first by their names.

    The index of the user names has both, so that databases need not look at the users themselves.
    """
    model = get_user_model()
    matching = model._default_manager.filter(**{f"{model.USERNAME_FIELD}__icontains": storable(text)})
    return [
        f"{USER}{pk}" for pk in matching.order_by(model.USERNAME_FIELD).values_list("pk", flat=True)[:limit]
    ]


def principals_of_tokens(name: str, issuer: str | None) -> list[str]:
    """The principals of tokens with this subject or OAuth client, and with this issuer or none."""
    issuers = [None] if issuer is None else [None, issuer.rstrip("/"), issuer.rstrip("/") + "/"]
    return [f"{kind}:{json.dumps([iss, name], separators=(',', ':'))}" for kind in TOKENS for iss in issuers]


def principals_of(user: Any, alias: str) -> list[str]:
    """The principals that a Django user has at an endpoint: as a user, and as the subject of tokens.

    If SUBJECT_TO_USER is a function, nobody can tell which subjects it makes a user of.
    """
    entry, found = endpoint(alias), [f"{USER}{user.pk}"]
    field = entry.subject_to_user
    subject = None if field is None or "." in field else getattr(user, field)
    if subject is not None:
        tokens = principals_of_tokens(str(subject), entry.issuer_url)
        found += [each for each in tokens if each.startswith("oauth:")]
    return found


def principal_named(text: str) -> str:
    """The principal of the Django user with this name; otherwise the text itself, as a principal that is stored so."""
    model = get_user_model()
    named = model._default_manager.filter(**{model.USERNAME_FIELD: storable(text)})
    found = named.values_list("pk", flat=True).first()
    return text if found is None or text == ANONYMOUS else f"{USER}{found}"


def is_known_principal(principal: str) -> bool:
    """Whether a principal may have records: it is not just a name that no user has."""
    return principal == ANONYMOUS or ":" in principal


def _name(principal: str, user_names: Mapping[Any, str]) -> str:
    if principal == ANONYMOUS:
        return _("anonymous")
    if not principal.startswith(USER):
        return _token_name(principal) or printable(principal, 150)
    pk = _user_pk(principal)
    if pk in user_names:
        return printable(user_names[pk], 150)
    return _("deleted user %(key)s") % {"key": printable(principal.removeprefix(USER), 40)}


def _token_name(principal: str) -> str | None:
    """The subject or client, with its issuer in parentheses; None if no token has such a principal."""
    kind, _colon, rest = principal.partition(":")
    try:
        issuer, name = json.loads(rest)
        words = str(TOKENS[kind]) % {"name": printable(str(name), 80)}
    except (ValueError, TypeError, KeyError):
        return None
    return words if issuer is None else f"{words} ({printable(str(issuer), 60)})"


def _user_pk(principal: str) -> Any | None:
    """The primary key in "user:<pk>", in the user model's own type; None if there is no valid one."""
    if not principal.startswith(USER):
        return None
    try:
        return get_user_model()._meta.pk.to_python(principal.removeprefix(USER))
    except ValidationError:
        return None


def _user_names(pks: set[Any]) -> dict[Any, str]:
    if not pks:
        return {}
    users = get_user_model()._default_manager.filter(pk__in=pks)
    return {user.pk: user.get_username() for user in users}
