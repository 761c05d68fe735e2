"""Who owns a session, in words: principals as the admin and the commands show them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from mcp_sessions.inventory.display import printable
from mcp_sessions.store.session import ANONYMOUS

USER: Final = "user:"
#: Principals of bearer tokens, `kind:["issuer","name"]` -> what the name is called.
TOKENS: Final = {"oauth": "", "oauth-client": "client "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A principal for people to read."""

    #: User name, "anonymous", or the subject and its issuer. Printable, and at most 150 characters.
    label: str
    #: The Django user's primary key; None for everybody else, and for users that were deleted.
    user_pk: Any | None = None


def owners_of(principals: Iterable[str]) -> dict[str, Owner]:
    """The owner of each principal, with at most one query for all of them."""
    distinct = set(principals)
    names = _user_names({pk for principal in distinct if (pk := _user_pk(principal)) is not None})
    return {principal: _owner(principal, names) for principal in distinct}


def principals_of_users(text: str, *, limit: int) -> list[str]:
    """The principals of the Django users whose user name contains the text, so many at most."""
    model = get_user_model()
    matching = model._default_manager.filter(**{f"{model.USERNAME_FIELD}__icontains": text})
    return [f"{USER}{pk}" for pk in matching.order_by("pk").values_list("pk", flat=True)[:limit]]


def principals_of_tokens(name: str, issuer: str | None) -> list[str]:
    """The principals of a subject, or of an OAuth client, of tokens that name this issuer or none."""
    issuers = [None] if issuer is None else [None, issuer.rstrip("/"), issuer.rstrip("/") + "/"]
    return [f"{kind}:{json.dumps([iss, name], separators=(',', ':'))}" for kind in TOKENS for iss in issuers]


def _owner(principal: str, names: Mapping[Any, str]) -> Owner:
    if principal == ANONYMOUS:
        return Owner(label="anonymous")
    if principal.startswith(USER):
        pk = _user_pk(principal)
        if pk in names:
            return Owner(label=printable(names[pk], 150), user_pk=pk)
        return Owner(label=f"deleted user {printable(principal.removeprefix(USER), 40)}")
    return Owner(label=_token_holder(principal) or printable(principal, 150))


def _token_holder(principal: str) -> str | None:
    """ "subject (issuer)"; None for a principal that no token gave."""
    kind, _, rest = principal.partition(":")
    try:
        issuer, name = json.loads(rest)
        words = TOKENS[kind] + printable(str(name), 80)
    except (ValueError, TypeError, KeyError):
        return None
    return words if issuer is None else f"{words} ({printable(str(issuer), 60)})"


def _user_pk(principal: str) -> Any | None:
    """The primary key in "user:<pk>", of the type that the user model has; None if it is none."""
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
