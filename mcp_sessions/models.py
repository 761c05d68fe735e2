"""Sessions as a model without a table, so that Django's own permissions, history and admin pages work for them."""

from collections.abc import Iterable
from typing import Any, Final, NoReturn

from django.db import models

from mcp_sessions.errors import MCPSessionsError
from mcp_sessions.inventory import display
from mcp_sessions.inventory.listing import Located
from mcp_sessions.inventory.principals import names_of
from mcp_sessions.inventory.queryset import SessionQuerySet
from mcp_sessions.records import Session

#: Digits of a fingerprint that people see.
SHORT: Final = 12


class SessionManager(models.Manager["MCPSession"]):
    """Reads sessions from the stores of their endpoints."""

    def get_queryset(self) -> "SessionQuerySet[MCPSession]":  # type: ignore[override]  # not of a database
        return SessionQuerySet(self.model, self.model.from_rows)


class MCPSession(models.Model):
    """One session as it was when it was read. The fields are those that sessions can be listed by."""

    fingerprint = models.CharField(primary_key=True, max_length=64)
    endpoint = models.CharField(max_length=255)
    client_name = models.CharField("client", max_length=255)
    protocol_version = models.CharField("protocol", max_length=32)
    principal = models.CharField(max_length=255)
    last_activity = models.DateTimeField()

    #: The complete record.
    record: Session
    #: The principal for people to read, such as a user name.
    principal_name: str

    objects = SessionManager()

    class Meta:
        managed = False
        verbose_name = "MCP session"
        verbose_name_plural = "MCP sessions"
        ordering = ("-last_activity",)
        base_manager_name = "objects"
        default_permissions = ("view",)
        permissions = (("expire_session", "Can force-expire MCP sessions"),)

    def __str__(self) -> str:
        return f"{self.short_fingerprint} ({self.client})" if self.client_name else self.short_fingerprint

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MCPSessionsError("Sessions are created by `initialize` and kept in their store.")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MCPSessionsError("Sessions are ended with `mcp_sessions.ending.end_session`.")

    @classmethod
    def from_rows(cls, rows: Iterable[Located]) -> "list[MCPSession]":
        """The sessions with the names of their principals: one query for all, if any of them is a Django user."""
        rows = list(rows)
        names = names_of(row.session.principal for row in rows)
        return [cls._from_row(row, names[row.session.principal]) for row in rows]

    @classmethod
    def _from_row(cls, row: Located, principal_name: str) -> "MCPSession":
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
        session.record, session.principal_name = record, principal_name
        return session

    @property
    def short_fingerprint(self) -> str:
        return self.fingerprint[:SHORT]

    @property
    def client(self) -> str:
        """The client's name and version, safe to show."""
        return display.client(self.client_name, self.record.handshake.client_version)

    @property
    def last_active(self) -> str:
        """How long ago, in words."""
        return display.ago(self.last_activity)
