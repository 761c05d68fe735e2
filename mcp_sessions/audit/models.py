"""The tables of what operators did: an entry for each record and each act, and the jobs that end many records."""

from typing import Final

from django.db import models
from django.utils import timezone

#: What may have been done, and its words in the past tense. Not in the database: more of them need no migration.
ACTIONS: Final = {
    "force-expire": "force-expired",
    "end-all": "ended with all sessions",
    "revoke-token": "ended with its token",
    "logout": "ended at logout",
    "password-change": "ended by a changed password",
    "deactivation": "ended by a deactivation",
    "deletion": "ended with its user",
    "block": "blocked",
    "unblock": "unblocked",
    "cancel-call": "cancelled a call",
    "drain": "drained",
}

#: What became of it.
INTENDED: Final = "intended"
ENDED: Final = "ended"
GONE: Final = "gone"
UNKNOWN: Final = "unknown"
DONE: Final = "done"
OUTCOMES: Final = {
    INTENDED: "about to end",
    ENDED: "ended",
    GONE: "was already gone",
    UNKNOWN: "gone, and it is not known by whom",
    DONE: "done",
}

#: The states of a job.
RUNNING: Final = "running"
STOPPING: Final = "stopping"
STOPPED: Final = "stopped"
FINISHED: Final = "done"


class EndingJob(models.Model):
    """An order to end the records of a selection, which processes carry out in batches; see `mcp_sessions.jobs`."""

    created = models.DateTimeField(default=timezone.now)
    action = models.CharField(max_length=32)
    by = models.CharField(max_length=150, help_text="The user name of the operator, or shell:<account>.")
    reason = models.CharField(max_length=500, blank=True)
    selection = models.JSONField(help_text="Which records end.")
    described = models.CharField("records", max_length=500, help_text="The same in words.")
    expected = models.PositiveBigIntegerField(
        default=0, help_text="How many records matched when it began, as the indexes knew it."
    )
    state = models.CharField(max_length=16, default=RUNNING)
    ended = models.PositiveBigIntegerField(default=0)
    gone = models.PositiveBigIntegerField("already gone", default=0)
    unknown = models.PositiveBigIntegerField(
        default=0, help_text="Records that are gone, and it is not known whether this job ended them."
    )
    problem = models.CharField(max_length=500, blank=True, help_text="Why it does not go on.")
    finished = models.DateTimeField(null=True)
    #: How far it has come.
    position = models.JSONField(default=dict)
    #: The token of the batch that was begun and not settled, else empty.
    batch = models.CharField(max_length=32, blank=True)
    #: The process that drives it, and until when nobody else does.
    driver = models.CharField(max_length=64, blank=True)
    driven_until = models.DateTimeField(null=True)

    class Meta:
        app_label = "mcp_sessions"
        ordering = ("-pk",)
        default_permissions = ("view",)
        verbose_name = "job that ends records"
        verbose_name_plural = "jobs that end records"
        # Every process looks for those that are not over.
        indexes = (models.Index(fields=["state", "id"], name="mcp_job_state"),)

    def __str__(self) -> str:
        return f"job {self.pk}"


class AuditEntry(models.Model):
    """One record that an operator ended, or another act of an operator. It outlives the record."""

    when = models.DateTimeField(default=timezone.now)
    action = models.CharField(max_length=32)
    outcome = models.CharField(max_length=16, default=DONE)
    fingerprint = models.CharField(
        max_length=64, blank=True, help_text="Of the record; empty if it is about none."
    )
    kind = models.CharField(max_length=16, blank=True)
    title = models.CharField("record", max_length=200, blank=True)
    endpoint = models.CharField(max_length=255, blank=True)
    principal = models.CharField(
        max_length=255, blank=True, help_text="The owner of the record, as it is stored."
    )
    principal_name = models.CharField("user", max_length=150, blank=True)
    client = models.CharField(max_length=100, blank=True)
    by = models.CharField(max_length=150, help_text="The user name of the operator, or shell:<account>.")
    reason = models.CharField(max_length=500, blank=True)
    job = models.ForeignKey(
        EndingJob, null=True, on_delete=models.SET_NULL, related_name="entries", db_index=False
    )
    #: The token of the batch with which it was to end.
    batch = models.CharField(max_length=32, blank=True)

    class Meta:
        app_label = "mcp_sessions"
        ordering = ("-pk",)
        default_permissions = ("view",)
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        indexes = (
            models.Index(fields=["when"], name="mcp_audit_when"),
            models.Index(fields=["fingerprint", "-id"], name="mcp_audit_session"),
            models.Index(fields=["principal", "-id"], name="mcp_audit_principal"),
            models.Index(fields=["by", "-id"], name="mcp_audit_by"),
            models.Index(fields=["action", "-id"], name="mcp_audit_action"),
            models.Index(fields=["job", "-id"], name="mcp_audit_job"),
        )

    def __str__(self) -> str:
        return f"{self.title or self.fingerprint[:12] or self.endpoint}: {self.done}"

    @property
    def done(self) -> str:
        """What was done, in words."""
        if self.outcome in (DONE, ENDED):
            return ACTIONS.get(self.action, self.action)
        return OUTCOMES.get(self.outcome, self.outcome)
