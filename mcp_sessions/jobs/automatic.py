"""Ends what a Django user has when they log out, change their password, are deactivated or deleted: see END_ON.

Each end is a job, also where the store is away: then the processes that serve the endpoint go on with it when the store
answers their heartbeats again, or when whoever began it has died.

What no signal of Django tells goes unnoticed: `QuerySet.update`, `bulk_update`, and changes made outside of Django.
"""

import logging
import time
from datetime import timedelta
from math import inf
from time import monotonic
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import get_hasher, identify_hasher, is_password_usable
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import close_old_connections, router, transaction
from django.db.models import Q
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.utils import timezone

from mcp_sessions import conf, lifecycle
from mcp_sessions.audit.models import EndingJob
from mcp_sessions.conf.rules import END_ON
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.nodes import SKEW_SECONDS
from mcp_sessions.inventory.principals import principals_of
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import snapshot, unread
from mcp_sessions.jobs.table import left, obstacle
from mcp_sessions.records import KINDS, Kind
from mcp_sessions.repeats import Repeats
from mcp_sessions.store.calls.queries import Query

logger = logging.getLogger(__name__)

#: What a client has open. The other kinds are what tools keep of a user, and go with the user.
_OPEN: Final[tuple[Kind, ...]] = ("session", "listener")
#: Seconds for which a request that logs out, or saves a user, waits for the ends.
AT_ONCE: Final = 5.0
#: Seconds between two looks of a process for jobs that nobody drives, and for which it goes on with one at a time.
LOOK_SECONDS: Final = 10.0
STEP_SECONDS: Final = 2.0
#: What an instance of the user model remembers between two signals.
_EVENTS: Final = "_mcp_sessions_events"
_PRINCIPALS: Final = "_mcp_sessions_principals"
#: Endpoint -> when to look next, by the monotonic clock.
_due: Final[dict[str, float]] = {}
_failures: Final = Repeats(logger, "Jobs of END_ON that could not go on")


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


def end_of_user(user: Any, event: str, *, using: str, principals: dict[str, list[str]] | None = None) -> None:
    """End what the user has at the endpoints whose END_ON has the event, when the transaction is committed.

    `using` is the database of the user. Where the store is away, a job stands; whoever logs out does not see that.
    """
    aliases = _aliases(event)
    if not aliases:
        return
    found = {alias: principals_of(user, alias) for alias in aliases} if principals is None else principals
    by = f"{event} of {user.get_username()}"
    kinds = KINDS if event == "deletion" else _OPEN

    def end() -> None:
        away: set[str] = set()
        # By the clock of this machine. That of the store may be ahead; nobody opens a session there meanwhile.
        cut_off_ms = round((time.time() + SKEW_SECONDS) * 1000)
        begun = []
        for alias in aliases:
            matches = tuple(Query(principal=principal) for principal in found[alias])
            selected = SessionQuery(aliases=(alias,), kinds=kinds, matches=matches)
            begun.append((alias, _begin(selected, by=by, event=event, away=away, cut_off_ms=cut_off_ms)))
        # Only now: to end many takes its time, and whoever goes on after a crash needs all of the jobs.
        for alias, job in begun:
            if job is not None:
                _drive(job, alias, away=away)

    def when_its_database_commits() -> None:
        # The jobs may be in another database, in a transaction of its own: intentions have to be there before the ends.
        transaction.on_commit(end, using=router.db_for_write(EndingJob), robust=True)

    transaction.on_commit(when_its_database_commits, using=using, robust=True)


def _begin(
    selected: SessionQuery, *, by: str, event: str, away: set[str], cut_off_ms: int
) -> EndingJob | None:
    """A job that ends what is selected at one endpoint, to be driven now; None if there is nothing, or no store.

    `away`: the caches that did not answer, which are not asked again. `cut_off_ms`: the cut-off for those, however long
    it took to find out.
    """
    [alias] = selected.aliases
    cache, taken = conf.endpoint(alias).cache, None
    try:
        if cache not in away:
            taken = snapshot(selected)
    except StoreUnavailable as error:
        _is_away(alias, by, error, away=away)
    if taken is not None:
        return driving.begin(taken, by=by, action=event) if taken.expected else None
    driving.begin(unread(selected, cut_off_ms=cut_off_ms), by=by, action=event, is_announced=False)
    return None


def _drive(job: EndingJob, alias: str, *, away: set[str]) -> None:
    """Go on with a job for a while; a process that serves the endpoint does so with the rest."""
    if conf.endpoint(alias).cache in away:
        return
    try:
        driving.drive(job, seconds=AT_ONCE)
    except StoreUnavailable as error:
        _is_away(alias, job.by, error, away=away)


def _is_away(alias: str, by: str, error: StoreUnavailable, *, away: set[str]) -> None:
    away.add(conf.endpoint(alias).cache)
    logger.warning("What %r had at endpoint %r ends when its store is back: %s", by, alias, error)


@lifecycle.on_heartbeat
async def go_on(alias: str) -> None:
    """Every LOOK_SECONDS, go on with what is left to end at an endpoint."""
    if conf.endpoint(alias).end_on and monotonic() >= _due.get(alias, 0):
        _due[alias] = inf
        try:
            await sync_to_async(_go_on, thread_sensitive=False)(alias)
        finally:
            _due[alias] = monotonic() + LOOK_SECONDS


def _go_on(alias: str) -> None:
    """Drive the jobs of the endpoint that nobody drives, the oldest first, for LOOK_SECONDS at most."""
    until = monotonic() + LOOK_SECONDS
    # Not those that whoever began them is about to drive, unless by a clock that is wrong, or was put back since.
    now, at_once = timezone.now(), timedelta(seconds=AT_ONCE)
    begun = Q(created__lt=now - at_once) | Q(created__gt=now + at_once)
    close_old_connections()
    try:
        for job in left().filter(begun, action__in=END_ON).order_by("pk"):
            if monotonic() >= until or lifecycle.is_stopping():
                return
            if not obstacle(job) and job.selection["sources"][0]["alias"] == alias:
                driving.drive(job, seconds=STEP_SECONDS)
        _failures.end()
    except (StoreUnavailable, DatabaseError) as error:
        _failures.add("Jobs of END_ON at endpoint %r cannot go on: %s", alias, error)
    except ImproperlyConfigured as error:
        logger.debug("There is no database, and so no job: %s", error)
    finally:
        close_old_connections()


def _aliases(event: str) -> list[str]:
    return [alias for alias in conf.aliases() if event in conf.endpoint(alias).end_on]


def _logged_out(*, user: Any, **_: Any) -> None:
    if user is not None:
        end_of_user(user, "logout", using=router.db_for_write(get_user_model(), instance=user))


def _before_save(
    *, instance: Any, using: str, raw: bool = False, update_fields: Any = None, **_: Any
) -> None:
    """Find out what changes."""
    events: list[str] = []
    instance.__dict__[_EVENTS] = events
    changing = {"password-change": "password", "deactivation": "is_active"}
    # A user model may do without the field: then it has an attribute of that name.
    columns = {field.name for field in instance._meta.concrete_fields}
    asked = {
        event: field
        for event, field in changing.items()
        if _aliases(event) and field in columns and (update_fields is None or field in update_fields)
    }
    if raw or instance.pk is None or not asked:
        return
    known = type(instance)._default_manager.using(using).filter(pk=instance.pk)
    before = known.only(*asked.values(), *_subject_fields()).first()
    if before is None:
        return
    if "password-change" in asked and _is_new_password(before.password, instance, update_fields):
        events.append("password-change")
    if "deactivation" in asked and before.is_active and not instance.is_active:
        events.append("deactivation")
    if events:
        # Whoever is deactivated may lose, at the same time, the name by which tokens call them.
        instance.__dict__[_PRINCIPALS] = {alias: principals_of(before, alias) for alias in conf.aliases()}


def _subject_fields() -> set[str]:
    named = {conf.endpoint(alias).subject_to_user for alias in conf.aliases()}
    return {field for field in named if field is not None and "." not in field}


def _is_new_password(before: str, instance: Any, update_fields: Any) -> bool:
    """Whether a password was changed, and not only hashed anew, as Django does at a login for newer algorithms."""
    if before == instance.password:
        return False
    is_rehash = (
        update_fields is not None
        and set(update_fields) == {"password"}
        and getattr(instance, "_password", None) is None
        and _is_out_of_date(before)
    )
    return not is_rehash or not is_password_usable(instance.password)


def _is_out_of_date(password: str) -> bool:
    """Whether Django would hash it anew."""
    preferred = get_hasher()
    try:
        return identify_hasher(password).algorithm != preferred.algorithm or preferred.must_update(password)
    except ValueError:
        return False  # no hash, or one of an algorithm that is not in PASSWORD_HASHERS


def _after_save(*, instance: Any, using: str, **_: Any) -> None:
    before = instance.__dict__.pop(_PRINCIPALS, {})
    for event in instance.__dict__.pop(_EVENTS, ()):
        principals = {
            alias: list(dict.fromkeys([*before.get(alias, ()), *principals_of(instance, alias)]))
            for alias in _aliases(event)
        }
        end_of_user(instance, event, using=using, principals=principals)


def _before_delete(*, instance: Any, **_: Any) -> None:
    # Afterwards it has no primary key.
    instance.__dict__[_PRINCIPALS] = {alias: principals_of(instance, alias) for alias in _aliases("deletion")}


def _after_delete(*, instance: Any, using: str, **_: Any) -> None:
    principals = instance.__dict__.pop(_PRINCIPALS, {})
    if principals:
        end_of_user(instance, "deletion", using=using, principals=principals)
