"""Who did what to whose records, and why: a table that outlives the records, for operators and auditors.

`mcp_sessions.jobs` writes the ends. Whatever else an operator does calls `record`.
"""

from datetime import datetime
from typing import Any

from mcp_sessions.audit.models import DONE, AuditEntry
from mcp_sessions.records import Session
from mcp_sessions.texts import storable

#: Entries that are written, or deleted, together.
TOGETHER = 1_000


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
    made = AuditEntry(action=action, outcome=outcome, **{**about, **texts, **more})
    for field in AuditEntry._meta.concrete_fields:
        value = getattr(made, field.attname)
        if isinstance(value, str) and field.max_length is not None:
            setattr(made, field.attname, storable(value)[: field.max_length])
    return made


def record(about: Session | None = None, **facts: Any) -> AuditEntry:
    """Write down what an operator did. `facts` are those of `entry`: `action` and `by` at least.

    Blocking: from async code, use `asgiref.sync.sync_to_async`.
    """
    made = entry(about, **facts)
    made.save(force_insert=True)
    return made


def prune(before: datetime, *, endpoint: str) -> int:
    """Delete the entries of an endpoint from before a moment, in small transactions; how many those were."""
    old = AuditEntry.objects.filter(when__lt=before, endpoint=endpoint).order_by("when")
    deleted = 0
    while keys := list(old.values_list("pk", flat=True)[:TOGETHER]):
        AuditEntry.objects.filter(pk__in=keys).delete()
        deleted += len(keys)
    return deleted
