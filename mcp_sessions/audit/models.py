"""The tables of what operators did: an entry for each record and each act, and the jobs that end many records."""

from typing import Final

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_sessions.texts import readable

#: What may have been done, and its words in the past tense. Not in the database: more of them need no migration.
ACTIONS: Final = {
    "force-expire": gettext_lazy("force-expired"),
    "end-all": gettext_lazy("ended with all sessions"),
    "revoke-token": gettext_lazy("ended with its token"),
    "logout": gettext_lazy("ended at logout"),
    "password-change": gettext_lazy("ended by a changed password"),
    "deactivation": gettext_lazy("ended by a deactivation"),
    "deletion": gettext_lazy("ended with its user"),
    "block": gettext_lazy("blocked"),
    "unblock": gettext_lazy("unblocked"),
    "cancel-call": gettext_lazy("cancelled a call"),
    "drain": gettext_lazy("drained"),
}

#: What became of it.
INTENDED: Final = "intended"
ENDED: Final = "ended"
GONE: Final = "gone"
UNKNOWN: Final = "unknown"
DONE: Final = "done"
UNCONFIRMED: Final = "unconfirmed"
OUTCOMES: Final = {
    INTENDED: gettext_lazy("about to end"),
    ENDED: gettext_lazy("ended"),
    GONE: gettext_lazy("was already gone"),
    UNKNOWN: gettext_lazy("gone, and it is not known by whom"),
    DONE: gettext_lazy("done"),
    UNCONFIRMED: gettext_lazy("asked, and not confirmed by Redis"),
}

#: The states of a job.
RUNNING: Final = "running"
STOPPING: Final = "stopping"
STOPPED: Final = "stopped"
FINISHED: Final = "done"
STATES: Final = {
    RUNNING: gettext_lazy("running"),
    STOPPING: gettext_lazy("stopping"),
    STOPPED: gettext_lazy("stopped"),
    FINISHED: gettext_lazy("done"),
}


class EndingJob(models.Model):
    """An order to end the records of a selection, which processes carry out in batches; see `mcp_sessions.jobs`."""

    created = models.DateTimeField(gettext_lazy("created"), default=timezone.now)
    action = models.CharField(gettext_lazy("action"), max_length=32)
    by = models.CharField(
        gettext_lazy("by"),
        max_length=150,
        help_text=gettext_lazy("The user name of the operator, or shell:<account>."),
    )
    reason = models.CharField(gettext_lazy("reason"), max_length=500, blank=True)
    selection = models.JSONField(gettext_lazy("selection"), help_text=gettext_lazy("Which records end."))
    described = models.CharField(
        gettext_lazy("records"), max_length=500, help_text=gettext_lazy("The same in words.")
    )
    expected = models.PositiveBigIntegerField(
        gettext_lazy("expected"),
        default=0,
        help_text=gettext_lazy("How many records matched when it began, as the indexes knew it."),
    )
    state = models.CharField(gettext_lazy("state"), max_length=16, default=RUNNING)
    ended = models.PositiveBigIntegerField(gettext_lazy("ended"), default=0)
    gone = models.PositiveBigIntegerField(gettext_lazy("already gone"), default=0)
    unknown = models.PositiveBigIntegerField(
        gettext_lazy("unknown"),
        default=0,
        help_text=gettext_lazy("Records that are gone, and it is not known whether this job ended them."),
    )
    problem = models.CharField(
        gettext_lazy("problem"), max_length=500, blank=True, help_text=gettext_lazy("Why it does not go on.")
    )
    finished = models.DateTimeField(gettext_lazy("finished"), null=True)
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
        verbose_name = gettext_lazy("job that ends records")
        verbose_name_plural = gettext_lazy("jobs that end records")
        # Every process looks for those that are not over.
        indexes = (models.Index(fields=["state", "id"], name="mcp_job_state"),)

    def __str__(self) -> str:
        return _("job %(number)s") % {"number": self.pk}

    @property
    def state_word(self) -> str:
        return str(STATES.get(self.state, self.state))


class AuditEntry(models.Model):
    """One record that an operator ended, or another act of an operator. It outlives the record."""

    when = models.DateTimeField(gettext_lazy("when"), default=timezone.now)
    action = models.CharField(gettext_lazy("action"), max_length=32)
    outcome = models.CharField(gettext_lazy("outcome"), max_length=16, default=DONE)
    fingerprint = models.CharField(
        gettext_lazy("fingerprint"),
        max_length=64,
        blank=True,
        help_text=gettext_lazy("Of the record; empty if it is about none."),
    )
    kind = models.CharField(gettext_lazy("kind"), max_length=16, blank=True)
    title = models.CharField(gettext_lazy("record"), max_length=200, blank=True)
    endpoint = models.CharField(gettext_lazy("endpoint"), max_length=255, blank=True)
    principal = models.CharField(
        gettext_lazy("principal"),
        max_length=255,
        blank=True,
        help_text=gettext_lazy("The owner of the record, as it is stored."),
    )
    principal_name = models.CharField(gettext_lazy("user"), max_length=150, blank=True)
    client = models.CharField(gettext_lazy("client"), max_length=100, blank=True)
    by = models.CharField(
        gettext_lazy("by"),
        max_length=150,
        help_text=gettext_lazy("The user name of the operator, or shell:<account>."),
    )
    reason = models.CharField(gettext_lazy("reason"), max_length=500, blank=True)
    job = models.ForeignKey(
        EndingJob,
        null=True,
        on_delete=models.SET_NULL,
        related_name="entries",
        db_index=False,
        verbose_name=gettext_lazy("job"),
    )
    #: The token of the batch with which it was to end.
    batch = models.CharField(gettext_lazy("batch"), max_length=32, blank=True)

    class Meta:
        app_label = "mcp_sessions"
        ordering = ("-pk",)
        default_permissions = ("view",)
        verbose_name = gettext_lazy("audit entry")
        verbose_name_plural = gettext_lazy("audit entries")
        indexes = (
            models.Index(fields=["when"], name="mcp_audit_when"),
            models.Index(fields=["fingerprint", "-id"], name="mcp_audit_session"),
            models.Index(fields=["principal", "-id"], name="mcp_audit_principal"),
            models.Index(fields=["by", "-id"], name="mcp_audit_by"),
            models.Index(fields=["action", "-id"], name="mcp_audit_action"),
            models.Index(fields=["job", "-id"], name="mcp_audit_job"),
        )

    def __str__(self) -> str:
        return f"{readable(self.title) or self.fingerprint[:12] or self.endpoint}: {self.done}"

    @property
    def done(self) -> str:
        """What was done, in words."""
        action, outcome = ACTIONS.get(self.action, self.action), OUTCOMES.get(self.outcome, self.outcome)
        if self.outcome in (DONE, ENDED):
            return str(action)
        return f"{action} ({outcome})" if self.outcome == UNCONFIRMED else str(outcome)
