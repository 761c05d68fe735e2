"""Jobs that end records: begin one, drive it in batches, stop it, and go on where a process died.

Before a batch ends, its records are in the audit as intended; afterwards they say what became of them, in the same
transaction as the intentions of the next batch. A process that dies in between leaves a batch with a token. Whoever
goes on with the job asks the store what that token ended, so that every end is recorded once. One process drives a job
at a time: its lease is in the database.
"""

import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from django.db import router, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone, translation

from mcp_sessions import audit
from mcp_sessions.audit import models as states
from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.notifications import OperatorActed
from mcp_sessions.conf import endpoint
from mcp_sessions.ending import BATCH, end_batch
from mcp_sessions.errors import JobCannotGoOn, StoreUnavailable
from mcp_sessions.inventory.display import ENGLISH
from mcp_sessions.inventory.listing import Located
from mcp_sessions.jobs.selection import Selection, Snapshot, Source
from mcp_sessions.jobs.table import LEASE, Settled, entries, jobs, left, obstacle, record
from mcp_sessions.jobs.walks import Walk
from mcp_sessions.models import MCPSession
from mcp_sessions.records import Session
from mcp_sessions.store.calls import endings, queries, sessions, validity
from mcp_sessions.store.calls.indexes import Entry
from mcp_sessions.store.calls.queries import Query
from mcp_sessions.store.calls.tombstones import TOMBSTONE_MS
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.texts import restored, storable

logger = logging.getLogger(__name__)

#: The fields of a job that change while it is driven.
_CHANGING: Final = ("state", "expected", "ended", "gone", "unknown", "position", "batch", "finished")

#: Told after each batch.
Progress = Callable[[EndingJob], None]


class _Lost(Exception):
    """Another process drives the job."""


def begin(
    snapshot: Snapshot,
    *,
    by: str,
    reason: str = "",
    action: str = "force-expire",
    is_announced: bool = True,
) -> EndingJob:
    """A job that ends the selected records, which nobody drives yet. Every node logs who ends what, and why.

    Nodes are not told if it is not announced: where their store is known to be away, that would only take time.
    """
    job = jobs().create(
        action=action,
        by=storable(by)[:150],
        reason=storable(reason)[:500],
        selection=snapshot.selection.as_json(),
        described=storable(snapshot.described)[:500],
        expected=snapshot.expected,
        gone=snapshot.gone,
    )
    said = f": {job.reason!r}" if job.reason else ""
    what = f"Job {job.pk} begins ({action}): {job.described}{said}"
    logger.info("%s, by %r.", what, by)
    told = snapshot.selection.sources if is_announced else ()
    for alias in dict.fromkeys(source.alias for source in told):
        outside.notify_all(alias, OperatorActed(by=by, what=what))
    return job


def drive(job: EndingJob, *, seconds: float | None = None, progress: Progress | None = None) -> EndingJob:
    """Go on with a job until it is done or stopped, or for so many seconds; the job as it is then.

    Nothing happens if it is over, or if another process drives it.

    Raises: StoreUnavailable, JobCannotGoOn; then the job stands, and can be driven on.
    """
    me = f"{socket.gethostname()[:30]}:{os.getpid()}:{secrets.token_hex(4)}"
    mine = jobs().filter(pk=job.pk, driver=me)
    if _take(job.pk, me):
        until = None if seconds is None else monotonic() + seconds
        try:
            with translation.override(ENGLISH):  # what it stores and logs
                _Drive(jobs().get(pk=job.pk), me, progress).run(until)
        except _Lost:
            logger.warning("Another process goes on with job %d.", job.pk)
        except StoreUnavailable as error:
            mine.update(problem=storable(f"The store cannot be reached: {error}")[:500])
            raise
        except JobCannotGoOn as error:
            mine.update(problem=str(error)[:500])
            # Its last batch stays as it is, for a process that knows the endpoint.
            if not mine.filter(state=states.STOPPING).update(state=states.STOPPED):
                raise
        finally:
            mine.update(driver="", driven_until=None)
    return jobs().get(pk=job.pk)


def stop(job: EndingJob) -> EndingJob:
    """Stop a job after the batch in hand. It can be resumed.

    Raises: StoreUnavailable, if its process has died and it is not known what became of its last batch.
    """
    jobs().filter(pk=job.pk, state=states.RUNNING).update(state=states.STOPPING)
    return drive(job, seconds=0)


def resume(job: EndingJob) -> None:
    """Let a job that was stopped be driven again. It still ends only what was there when it began."""
    stopped = jobs().filter(pk=job.pk, state__in=(states.STOPPED, states.STOPPING))
    stopped.update(state=states.RUNNING)


def _take(pk: Any, me: str) -> bool:
    return left().filter(pk=pk).update(driver=me, driven_until=timezone.now() + LEASE, problem="") == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Records of one endpoint that are to end next."""

    alias: str
    records: Sequence[Session]
    #: Where the job goes on afterwards.
    position: dict[str, Any]
    #: How many records were picked that are gone.
    gone: int = 0


class _Drive:
    """One process that drives one job."""

    def __init__(self, job: EndingJob, me: str, progress: Progress | None) -> None:
        """Raises: JobCannotGoOn."""
        self._job = job
        self._me = me
        self._progress = progress
        if words := obstacle(job):
            raise JobCannotGoOn(words)
        self._selection = Selection.from_json(job.selection)

    def run(self, until: float | None) -> None:
        """Raises: StoreUnavailable, _Lost."""
        settled = self._settle() if self._job.batch else None
        while True:
            self._refresh("state")
            batch = None
            state = states.STOPPED if self._job.state == states.STOPPING else self._job.state
            if state == states.RUNNING and (until is None or monotonic() < until):
                try:
                    batch = self._next()
                except StoreUnavailable:
                    self._write(
                        settled, None, "", state
                    )  # what is known of one endpoint does not wait for another
                    raise
                state = states.FINISHED if batch is None else state
            token = secrets.token_hex(8) if batch is not None and batch.records else ""
            self._write(settled, batch, token, state)
            if batch is None:
                return
            fingerprints = [each.fingerprint for each in batch.records]
            settled = self._end(batch.alias, fingerprints, token) if token else None

    def _next(self) -> _Batch | None:
        """The next records; None if there are no more. Raises: StoreUnavailable."""
        number = self._job.position.get("source", 0)
        if number >= len(self._selection.sources):
            return None
        source = self._selection.sources[number]
        following = {"source": number + 1}
        if source.query is None:
            return self._picked(source, following)
        return self._found(source.alias, source.query, following)

    def _found(self, alias: str, query: Query, following: dict[str, Any]) -> _Batch:
        """The next page of a pass along the index, which ends where the index ended when the pass began."""
        walk = Walk(**self._job.position.get("walk", {}))
        store, limits = sync_store_for(alias), endpoint(alias).limits
        until_ms = walk.until_ms or store.run(validity.min_created(0)).now_ms
        since = max(walk.since_ms, query.active_since_ms or 0)
        after = None if walk.after is None else Entry(*walk.after)
        before = query.active_before_ms
        if after is not None:
            before = min(until_ms + 1, before or until_ms + 1)
        window = replace(query, active_since_ms=since, active_before_ms=before)
        page = store.run(queries.page(window, limits=limits, limit=BATCH, after=after))
        cut_off, idle_since = self._selection.cut_off_ms[alias], query.active_before_ms
        records = [
            each
            for each in page.sessions
            # What the index says of the last activity is behind.
            if each.created_ms < cut_off and (idle_since is None or each.last_activity_ms < idle_since)
        ]
        if page.last is not None:
            next_: Walk | None = replace(walk, until_ms=until_ms, after=list(page.last))
        elif after is None or (idle_since is not None and idle_since <= until_ms):
            next_ = None  # all of it was read at one moment; or what is used meanwhile is not meant
        else:
            now_ms, newest_ms = (
                store.run(validity.min_created(0)).now_ms,
                store.run(queries.newest(query.kind, limits=limits)),
            )
            next_ = walk.again(until_ms, now_ms=now_ms, newest_ms=newest_ms, limits=limits)
        position = following if next_ is None else {**self._job.position, "walk": asdict(next_)}
        return _Batch(alias=alias, records=records, position=position)

    def _picked(self, source: Source, following: dict[str, Any]) -> _Batch:
        offset = self._job.position.get("offset", 0)
        some = source.picked[offset : offset + BATCH]
        found = sync_store_for(source.alias).run_all([sessions.get(each, skips_sealed=True) for each in some])
        records = [each for each in found if each is not None]
        more = offset + BATCH < len(source.picked)
        position = {**self._job.position, "offset": offset + BATCH} if more else following
        return _Batch(alias=source.alias, records=records, position=position, gone=len(some) - len(records))

    def _write(self, settled: Settled | None, batch: _Batch | None, token: str, state: str) -> None:
        """What became of one batch, and what is intended with the next. Raises: _Lost."""
        job = jobs().filter(pk=self._job.pk, driver=self._me)
        changes: dict[str, Any] = {"batch": token, "driven_until": timezone.now() + LEASE}
        if state == states.FINISHED:
            changes["finished"] = timezone.now()
        if state != self._job.state:
            changes["state"] = state
        if batch is not None:
            changes["position"] = batch.position
        gone = 0 if batch is None else batch.gone
        if settled is not None:
            changes["ended"] = F("ended") + len(settled.ended)
            changes["unknown"] = F("unknown") + len(settled.unknown)
            # Where the store was away when the job began, nobody had counted.
            changes["expected"] = Greatest("expected", F("ended") + len(settled.ended))
            gone += len(settled.gone)
        changes["gone"] = F("gone") + gone
        intended = [] if batch is None else self._intended(batch, token)
        with transaction.atomic(using=router.db_for_write(EndingJob)):
            if job.update(**changes) != 1:
                raise _Lost
            if settled is not None:
                record(settled)
            entries().bulk_create(intended)
        self._refresh(*_CHANGING)
        if self._progress is not None:
            self._progress(self._job)

    def _refresh(self, *names: str) -> None:
        self._job.refresh_from_db(fields=names, using=router.db_for_write(EndingJob))

    def _intended(self, batch: _Batch, token: str) -> list[AuditEntry]:
        shown = MCPSession.from_rows(Located(alias=batch.alias, session=each) for each in batch.records)
        job = self._job
        return [
            audit.entry(
                each.record,
                action=job.action,
                outcome=states.INTENDED,
                by=restored(job.by),
                reason=restored(job.reason),
                endpoint=batch.alias,
                title=str(each),
                principal_name=each.principal_name,
                job=job,
                batch=token,
            )
            for each in shown
        ]

    def _end(self, alias: str, fingerprints: Sequence[str], token: str) -> Settled:
        """Raises: StoreUnavailable, also if it is known of some what became of them."""
        job = self._job
        bounds: dict[str, Any] = {"before_ms": self._selection.before_ms(alias), "going_on": self._keep}
        ends = end_batch(alias, fingerprints, by=job.by, why=job.reason, token=token, **bounds)
        if ends.failure is not None:
            raise ends.failure
        return Settled(token=token, ended=[each.fingerprint for each in ends.ended], gone=ends.gone)

    def _keep(self) -> None:
        """Receivers of the signals take their time: nobody else is to drive the job meanwhile."""
        jobs().filter(pk=self._job.pk, driver=self._me).update(driven_until=timezone.now() + LEASE)

    def _settle(self) -> Settled:
        """What became of a batch that another process began, which may have died before, while or after it ended.

        Raises: StoreUnavailable.
        """
        token = self._job.batch
        newest = entries().filter(job=self._job).order_by("-pk")[:BATCH]
        batch = [each for each in newest if each.batch == token]
        if not batch:
            return Settled(token=token)  # somebody has deleted the entries
        fingerprints, alias = [each.fingerprint for each in batch], batch[0].endpoint
        store = sync_store_for(alias)
        known = store.run_all([sessions.end_token(each) for each in fingerprints])
        ended = {each for each, by in zip(fingerprints, known, strict=True) if by == token}
        # If it is remembered, its ends have not been announced. Otherwise only what has not ended is left.
        again = fingerprints
        if not store.run(endings.is_known(token)):
            again = [each for each, by in zip(fingerprints, known, strict=True) if by is None]
        if again:
            ended.update(self._end(alias, again, token).ended)
        # Tombstones live for ten minutes. Later, the end of one of these leaves no trace.
        is_old = timezone.now() - batch[0].when >= timedelta(milliseconds=TOMBSTONE_MS)
        lost = {each for each, by in zip(fingerprints, known, strict=True) if by is None and is_old} - ended
        gone = [each for each in fingerprints if each not in ended | lost]
        return Settled(token=token, ended=list(ended), gone=gone, unknown=list(lost))
