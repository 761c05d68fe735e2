"""Ends what a Django user has when they log out, change their password, are deactivated or deleted: see END_ON.

What no signal of Django tells goes unnoticed: `QuerySet.update`, `bulk_update`, and changes made outside of Django.
"""

import logging
from typing import Any, Final

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from mcp_sessions import conf
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.principals import principals_of
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import snapshot
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.store.calls.queries import Query

logger = logging.getLogger(__name__)

#: What a client has open. The other kinds are what tools keep of a user, and go with the user.
_OPEN: Final[tuple[Kind, ...]] = ("session", "listener")
#: Seconds for which a request that logs out, or saves a user, waits for the ends.
AT_ONCE: Final = 5.0
#: What an instance of the user model remembers between two signals.
_EVENTS: Final = "_mcp_sessions_events"
_PRINCIPALS: Final = "_mcp_sessions_principals"


def watch() -> None:
    """Listen to the signals. Of models that are proxies of the user model, too: each has signals of its own."""
    user_logged_out.connect(_logged_out, dispatch_uid="mcp_sessions.logout")
    user_model = get_user_model()
    for model in apps.get_models():
        if model._meta.concrete_model is user_model._meta.concrete_model:
            name = f"mcp_sessions.{model._meta.label}"
            pre_save.connect(_before_save, sender=model, dispatch_uid=name)
            post_save.connect(_after_save, sender=model, dispatch_uid=name)
            pre_delete.connect(_before_delete, sender=model, dispatch_uid=name)
            post_delete.connect(_after_delete, sender=model, dispatch_uid=name)


def end_of_user(user: Any, event: str, *, principals: dict[str, list[str]] | None = None) -> None:
    """End what the user has at the endpoints whose END_ON has the event, when the transaction is committed.

    It stays a job that can be resumed if the store is away; whoever logs out does not see that.
    """
    aliases = _aliases(event)
    found = {alias: principals_of(user, alias) for alias in aliases} if principals is None else principals
    by = f"{event} of {user.get_username()}"
    kinds = KINDS if event == "deletion" else _OPEN

    def end() -> None:
        for alias in aliases:
            matches = tuple(Query(principal=principal) for principal in found[alias])
            try:
                taken = snapshot(SessionQuery(aliases=(alias,), kinds=kinds, matches=matches))
                if taken.expected:
                    driving.drive(driving.begin(taken, by=by, action=event), seconds=AT_ONCE)
            except StoreUnavailable as error:
                logger.warning("What %r had may go on: %s", by, error)

    if aliases:
        transaction.on_commit(end, robust=True)


def _aliases(event: str) -> list[str]:
    return [alias for alias in conf.aliases() if event in conf.endpoint(alias).end_on]


def _logged_out(*, user: Any, **_: Any) -> None:
    if user is not None:
        end_of_user(user, "logout")


def _before_save(*, instance: Any, raw: bool = False, update_fields: Any = None, **_: Any) -> None:
    """Find out what changes."""
    events: list[str] = []
    instance.__dict__[_EVENTS] = events
    changing = {"password-change": "password", "deactivation": "is_active"}
    asked = {
        event: field
        for event, field in changing.items()
        if _aliases(event) and hasattr(instance, field) and (update_fields is None or field in update_fields)
    }
    if raw or instance.pk is None or not asked:
        return
    before = type(instance)._default_manager.filter(pk=instance.pk).values(*asked.values()).first()
    if before is None:
        return
    if "password" in before and _is_new_password(before["password"], instance, update_fields):
        events.append("password-change")
    if before.get("is_active") and not instance.is_active:
        events.append("deactivation")


def _is_new_password(before: str, instance: Any, update_fields: Any) -> bool:
    """Whether a password was changed, and not only hashed anew, as Django does at a login for newer algorithms."""
    if before == instance.password:
        return False
    is_rehash = (
        update_fields is not None
        and set(update_fields) == {"password"}
        and getattr(instance, "_password", None) is None
    )
    return not is_rehash or not is_password_usable(instance.password)


def _after_save(*, instance: Any, **_: Any) -> None:
    for event in instance.__dict__.pop(_EVENTS, ()):
        end_of_user(instance, event)


def _before_delete(*, instance: Any, **_: Any) -> None:
    # Afterwards it has no primary key.
    instance.__dict__[_PRINCIPALS] = {alias: principals_of(instance, alias) for alias in _aliases("deletion")}


def _after_delete(*, instance: Any, **_: Any) -> None:
    principals = instance.__dict__.pop(_PRINCIPALS, {})
    if principals:
        end_of_user(instance, "deletion", principals=principals)
