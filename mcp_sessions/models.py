"""Records as a model without a table, so that Django's own permissions, history and admin pages work for them."""

from collections.abc import Iterable
from typing import Any, Final, NoReturn

from django.db import models
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy

from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.authentication.blocks import Block
from mcp_sessions.authentication.models import PersonalToken
from mcp_sessions.errors import MCPSessionsError
from mcp_sessions.inventory import display, kinds
from mcp_sessions.inventory.details import Details, details_of
from mcp_sessions.inventory.doing import Doing
from mcp_sessions.inventory.listing import Located
from mcp_sessions.inventory.principals import Named, names_of
from mcp_sessions.inventory.queryset import SessionQuerySet
from mcp_sessions.records import Session
from mcp_sessions.store.calls.recent import Recent

__all__ = ["AuditEntry", "Block", "EndingJob", "MCPSession", "PersonalToken"]

#: Digits of a fingerprint that people see.
SHORT: Final = 12
#: Characters of a name, such as the text of a handle, that people see.
NAME_CHARS: Final = 60


class SessionManager(models.Manager["MCPSession"]):
    """Reads records from the stores of their endpoints."""

    def get_queryset(self) -> "SessionQuerySet[MCPSession]":  # type: ignore[override]  # not of a database
        return SessionQuerySet(self.model, self.model.from_rows)


class MCPSession(models.Model):
    """One session, or a record of another kind, as it was when it was read.

    The fields are those that records can be listed by. The name of the model is older than the other kinds.
    """

    fingerprint = models.CharField(primary_key=True, max_length=64)
    endpoint = models.CharField(gettext_lazy("endpoint"), max_length=255)
    client_name = models.CharField(gettext_lazy("client"), max_length=255)
    protocol_version = models.CharField(gettext_lazy("protocol"), max_length=32)
    principal = models.CharField(gettext_lazy("principal"), max_length=255)
    last_activity = models.DateTimeField(gettext_lazy("last activity"))

    #: The complete record. One that is gone has none.
    record: Session
    #: The principal for people to read, such as a user name.
    principal_name: str
    #: The primary key of the Django user who is the principal; None if there is none.
    principal_user: Any = None
    #: What it does now, and what its last request did; None where that is not known.
    doing: Doing | None = None
    recent: Recent | None = None
    #: What a record that is gone was, on one line.
    _title: str = ""

    objects = SessionManager()

    class Meta:
        managed = False
        verbose_name = gettext_lazy("record")
        verbose_name_plural = gettext_lazy("records")
        ordering = ("-last_activity",)
        base_manager_name = "objects"
        default_permissions = ("view",)
        permissions = (
            ("expire_session", "Can force-expire MCP sessions"),
            ("view_session_state", "Can view the state of MCP sessions"),
            ("export_session", "Can export MCP sessions, and read them through the API"),
        )

    def __str__(self) -> str:
        return self._title or self._describe()

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MCPSessionsError("Records are created while requests are served, and kept in their store.")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MCPSessionsError("Records are ended with `mcp_sessions.ending.end_session`.")

    @classmethod
    def from_rows(cls, rows: Iterable[Located]) -> "list[MCPSession]":
        """The records with the names of their principals: one query for all, if any of them is a Django user, and one
        for the subjects of each endpoint that has SUBJECT_TO_USER.
        """
        rows = list(rows)
        names = names_of((row.alias, row.session.principal) for row in rows)
        return [cls._from_row(row, names[row.alias, row.session.principal]) for row in rows]

    @classmethod
    def gone(cls, fingerprint: str, title: str) -> "MCPSession":
        """A record that ended, of which only the fingerprint is known and what it was called."""
        session = cls(fingerprint=fingerprint)
        session._title = title or session.short_fingerprint
        return session

    @classmethod
    def _from_row(cls, row: Located, principal: Named) -> "MCPSession":
        record = row.session
        session = cls(
            fingerprint=record.fingerprint,
            endpoint=row.alias,
            client_name=record.handshake.client_name,
            protocol_version=record.handshake.protocol_version,
            principal=record.principal,
            last_activity=record.last_activity,
        )
        session._state.adding = False
        session.record, session.recent = record, row.recent
        session.principal_name, session.principal_user = principal.name, principal.user
        return session

    @cached_property
    def details(self) -> Details:
        """What is read for a page of this record alone. Raises: StoreUnavailable."""
        return details_of(self.endpoint, self.fingerprint)

    @property
    def short_fingerprint(self) -> str:
        return self.fingerprint[:SHORT]

    @property
    def shown_id(self) -> str:
        """What it is searched for by: the text of a handle, or else the first digits of its fingerprint."""
        name = self.record.name if self.record.kind == "handle" else ""
        return display.printable(name, NAME_CHARS) or self.short_fingerprint

    @property
    def kind_word(self) -> str:
        """What people call a record of its kind: "session", "user state"."""
        return str(kinds.NAMES[self.record.kind][0])

    @property
    def kind_with_label(self) -> str:
        """Its kind in words, with its label: "session", "handle (basket)"."""
        return kinds.words_for(self.record)

    @property
    def client(self) -> str:
        """The client's name and version, safe to show."""
        return display.client(self.client_name, self.record.handshake.client_version)

    @property
    def last_active(self) -> str:
        """How long ago, in words."""
        return display.ago(self.last_activity)

    def _describe(self) -> str:
        """What it is, on one line."""
        label = display.printable(self.record.label, 40)
        match self.record.kind:
            case "session":
                return (
                    f"{self.short_fingerprint} ({self.client})"
                    if self.client_name
                    else self.short_fingerprint
                )
            case "handle" if label:
                return f"{label} {self.shown_id}"
            case "user":
                return f"{self.kind_word} {self.shown_id} ({self.principal_name})"
            case "conversation" if label:
                return f"{self.kind_word} {label} {self.shown_id}"
            case _:
                return f"{self.kind_word} {self.shown_id} ({self.client})"
