"""The jobs and their entries in the audit, where they are written, and whether this process can go on with one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import router
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_sessions.audit.models import ENDED, GONE, INTENDED, RUNNING, STOPPING, UNKNOWN, AuditEntry, EndingJob
from mcp_sessions.conf import aliases
from mcp_sessions.errors import JobCannotGoOn
from mcp_sessions.jobs.selection import Selection

#: For how long nobody else drives a job whose process says nothing. Longer than a batch takes if the store hangs.
LEASE: Final = timedelta(seconds=20)


def jobs() -> QuerySet[EndingJob]:
    """All jobs, in the database that is written to: a replica may be behind, and not know one that has just begun."""
    return EndingJob.objects.using(router.db_for_write(EndingJob))


def entries() -> QuerySet[AuditEntry]:
    """All entries of the audit, likewise."""
    return AuditEntry.objects.using(router.db_for_write(AuditEntry))


def left() -> QuerySet[EndingJob]:
    """The jobs that are not over and that nobody drives."""
    now = timezone.now()
    free = Q(driver="") | Q(driven_until__lt=now)
    # Nobody takes one for so long: the clock of its process is wrong, or that of this one was put back since.
    free |= Q(driven_until__gt=now + 2 * LEASE)
    # One that was to stop, and whose process has died, is stopped by whoever looks next: it settles its last batch.
    return jobs().filter(free, state__in=(RUNNING, STOPPING))


def obstacle(job: EndingJob) -> str:
    """Why this process cannot go on with a job, whatever the store does; empty if it can."""
    try:
        selection = Selection.from_json(job.selection)
    except JobCannotGoOn as error:
        return str(error)
    # Its last batch may be of the source before.
    first = max(0, job.position.get("source", 0) - bool(job.batch))
    for source in selection.sources[first:]:
        if source.alias not in aliases():
            return _(
                "The endpoint “%(endpoint)s” is not in MCP_SESSIONS any more. Put it back, or stop the job."
            ) % {"endpoint": source.alias}
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of the records of a batch, by fingerprint."""

    token: str
    ended: Sequence[str] = ()
    gone: Sequence[str] = ()
    unknown: Sequence[str] = ()


def record(settled: Settled) -> None:
    """Write down what became of a batch; once, whoever does it again."""
    for outcome, fingerprints in (
        (ENDED, settled.ended),
        (GONE, settled.gone),
        (UNKNOWN, settled.unknown),
    ):
        if fingerprints:
            of_batch = entries().filter(fingerprint__in=fingerprints, batch=settled.token)
            of_batch.filter(outcome=INTENDED).update(outcome=outcome)
