"""Who did what to whose records, and why: a table that outlives the records, for operators and auditors.

`mcp_sessions.jobs` writes the ends. Whatever else an operator does calls `record`.
"""

from datetime import datetime
from typing import Any

from django.db import router
from django.db.models import Q, QuerySet

from mcp_sessions.audit.models import DONE, FINISHED, STOPPED, AuditEntry, EndingJob
from mcp_sessions.records import Session
from mcp_sessions.texts import storable

#: Entries that are written, or deleted, together.
TOGETHER = 1_000
#: Characters that fit into the texts of an entry.
_CHARS = {
    field.attname: field.max_length for field in AuditEntry._meta.local_fields if field.max_length is not None
}


def entry(
    record: Session | None = None,
    *,
    action: str,
    by: str,
    reason: str = "",
    endpoint: str = "",
    title: str = "",
    principal_name: str = "",
    outcome: str = DONE,
    **more: Any,
) -> AuditEntry:
    """An entry that is not saved yet. Texts are made `storable`, and cut to what fits."""
    about: dict[str, str] = {}
    if record is not None:
        about = {
            "fingerprint": record.fingerprint,
            "kind": record.kind,
            "principal": record.principal,
            "client": record.handshake.client_name,
        }
    texts = {
        "title": title,
        "principal_name": principal_name,
        "endpoint": endpoint,
        "reason": reason,
        "by": by,
    }
    values = {"action": action, "outcome": outcome, **about, **texts, **more}
    return AuditEntry(**{name: _fitting(name, value) for name, value in values.items()})


def _fitting(name: str, value: Any) -> Any:
    return storable(value)[: _CHARS[name]] if name in _CHARS else value


def record(about: Session | None = None, **facts: Any) -> AuditEntry:
    """Write down what an operator did. `facts` are those of `entry`: `action` and `by` at least.

    Blocking: from async code, use `asgiref.sync.sync_to_async`.
    """
    made = entry(about, **facts)
    made.save(force_insert=True)
    return made


def prune(before: datetime, *, endpoint: str | None = None) -> int:
    """Delete the entries of an endpoint, or of all and none, from before a moment; how many those were.

    In small transactions.
    """
    old = AuditEntry.objects.using(router.db_for_write(AuditEntry)).filter(when__lt=before).order_by("when")
    return _delete(old if endpoint is None else old.filter(endpoint=endpoint))


def prune_jobs(before: datetime) -> int:
    """Delete the jobs that were done before a moment, and those from before it that were stopped; how many those were.

    Entries that are younger stay, and do not name it any more.
    """
    jobs = EndingJob.objects.using(router.db_for_write(EndingJob))
    over = Q(state=FINISHED, finished__lt=before) | Q(state=STOPPED, created__lt=before)
    return _delete(jobs.filter(over).order_by("pk"))


def _delete(old: "QuerySet[Any]") -> int:
    deleted = 0
    while keys := list(old.values_list("pk", flat=True)[:TOGETHER]):
        old.model._default_manager.using(old.db).filter(pk__in=keys).delete()
        deleted += len(keys)
    return deleted
