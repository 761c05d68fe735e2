"""Django's users behind the subjects of tokens, as SUBJECT_TO_USER finds them."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.db.models import IntegerField, Q, QuerySet
from django.utils.module_loading import import_string

from mcp_sessions.conf import Endpoint
from mcp_sessions.texts import storable

SUBJECT: Final = "oauth:"

#: The user of an issuer and a subject; the issuer is None if the token names none.
Find = Callable[[str | None, str], Any]


def subject_of(principal: str) -> tuple[str | None, str] | None:
    """The issuer and the subject of a principal that has them. An authenticator of a project may write anything."""
    if not principal.startswith(SUBJECT):
        return None
    try:
        issuer, subject = json.loads(principal.removeprefix(SUBJECT))
    except (ValueError, TypeError):
        return None
    return (issuer, subject) if isinstance(subject, str) else None


def find_user(conf: Endpoint, principal: str) -> Any:
    """The active user that SUBJECT_TO_USER gives for a principal; None if there is none, without asking anybody.

    Raises: SynchronousOnlyOperation in an event loop, if the database must be asked.
    """
    named = subject_of(principal)
    if named is None or conf.subject_to_user is None:
        return None
    if _in_event_loop():
        raise SynchronousOnlyOperation(
            "The user is not loaded yet. In async code, `await ....auser()` loads it."
        )
    user = _found(conf.subject_to_user, *named)
    return user if user is not None and user.is_active else None


def users_of(conf: Endpoint, principals: Iterable[str]) -> Mapping[str, Any]:
    """The users of principals that have one, active or not: one query where SUBJECT_TO_USER is a field."""
    mapping = conf.subject_to_user
    named = {each: subject for each in principals if (subject := subject_of(each)) is not None}
    if mapping is None or not named:
        return {}
    if "." in mapping:
        found = {principal: _found(mapping, *subject) for principal, subject in named.items()}
        return {principal: user for principal, user in found.items() if user is not None}
    subjects = {storable(subject) for _, subject in named.values() if _with(mapping, subject) is not None}
    users = get_user_model()._default_manager.filter(**{f"{mapping}__in": subjects})
    by_value = defaultdict(list)
    for user in users:
        by_value[str(getattr(user, mapping))].append(user)
    # A subject that several users have is nobody's.
    return {each: by_value[subject][0] for each, (_, subject) in named.items() if len(by_value[subject]) == 1}


def whose_user_is_active() -> Q:
    """Of rows with a `user`, those whose user is active. A user model may do without the field: then all are."""
    has_field = any(field.name == "is_active" for field in get_user_model()._meta.get_fields())
    return Q(user__is_active=True) if has_field else Q(user__isnull=False)


def _found(mapping: str, issuer: str | None, subject: str) -> Any:
    if "." in mapping:
        find: Find = import_string(mapping)
        return find(issuer, subject)
    matching = _with(mapping, subject)
    users = [] if matching is None else list(matching[:2])
    return users[0] if len(users) == 1 and _is_called(users[0], mapping, subject) else None


def _with(field: str, subject: str) -> "QuerySet[Any] | None":
    """The users with this subject in the field; None if it cannot have it: a number "ann", or one of 30 digits."""
    model = get_user_model()
    column = model._meta.pk if field == "pk" else model._meta.get_field(field)
    try:
        if isinstance(column, IntegerField):
            column.run_validators(column.to_python(subject))
        return model._default_manager.filter(**{field: storable(subject)})
    except (ValueError, TypeError, ValidationError):
        return None


def _is_called(user: Any, mapping: str, subject: str) -> bool:
    """Whether the field is the subject to the letter: databases may ignore case, and read " 07" as 7."""
    return str(getattr(user, mapping)) == subject


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
