"""Django's users behind the subjects of tokens, as SUBJECT_TO_USER finds them."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import SynchronousOnlyOperation
from django.utils.module_loading import import_string

from mcp_sessions.conf import Endpoint

SUBJECT: Final = "oauth:"

#: The user of an issuer and a subject; the issuer is None if the token names none.
Find = Callable[[str | None, str], Any]


def subject_of(principal: str) -> tuple[str | None, str] | None:
    """The issuer and the subject of a principal that has them."""
    if not principal.startswith(SUBJECT):
        return None
    issuer, subject = json.loads(principal.removeprefix(SUBJECT))
    return issuer, subject


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
    subjects = {subject for _, subject in named.values()}
    users = get_user_model()._default_manager.filter(**{f"{mapping}__in": subjects})
    by_value = {str(getattr(user, mapping)): user for user in users}
    return {each: by_value[subject] for each, (_, subject) in named.items() if subject in by_value}


def _found(mapping: str, issuer: str | None, subject: str) -> Any:
    if "." in mapping:
        find: Find = import_string(mapping)
        return find(issuer, subject)
    model = get_user_model()
    try:
        return model._default_manager.filter(**{mapping: subject}).first()
    except (ValueError, TypeError):
        return None  # the subject does not fit the field, such as a number


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
