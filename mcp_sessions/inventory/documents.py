"""Records as JSON values: the objects of the shell's `list --json`, of exports, and of the API."""

from typing import Any, Final, Protocol

from mcp_sessions.inventory.display import printable
from mcp_sessions.records import Session
from mcp_sessions.store.calls.recent import Recent


class Named(Protocol):
    """A record with its endpoint, and its principal for people."""

    record: Session
    endpoint: Any
    principal_name: str
    #: What its last requests did; None if that is not kept.
    recent: Recent | None


#: The fields of `summary`, in order.
FIELDS: Final = (
    "fingerprint",
    "kind",
    "label",
    "endpoint",
    "client",
    "client_version",
    "protocol",
    "user",
    "principal",
    "created",
    "last_activity",
    "expires",
    "requests",
    "last_call",
    "errors",
)


def summary(session: Named) -> dict[str, Any]:
    """What lists say of a record. Times are ISO 8601 in UTC.

    `user` is the principal for people, such as a user name; `expires` is when the record ends if it is not used;
    `errors` is null where errors are not counted.
    """
    record = session.record
    return {
        "fingerprint": record.fingerprint,
        "kind": record.kind,
        "label": record.label,
        "endpoint": session.endpoint,
        "client": printable(record.handshake.client_name, 100),
        "client_version": printable(record.handshake.client_version, 100),
        "protocol": printable(record.handshake.protocol_version, 100),
        "user": session.principal_name,
        "principal": record.principal,
        "created": record.created.isoformat(timespec="milliseconds"),
        "last_activity": record.last_activity.isoformat(timespec="milliseconds"),
        "expires": record.expires.isoformat(timespec="milliseconds"),
        "requests": record.requests,
        "last_call": record.last_call,
        "errors": None if session.recent is None else session.recent.failed,
    }
