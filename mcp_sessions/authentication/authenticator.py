"""What every authenticator offers: one way to find out who sent a request."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext as _

from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf import Endpoint
from mcp_sessions.transport.asgi import Application, Scope


class Authenticator(ABC):
    """One way to find out who sent a request. One instance serves one endpoint in one process.

    Its methods run in the event loop: what blocks, such as the ORM, belongs into `in_thread`.
    """

    #: What a client without credentials is to do: one sentence of plain ASCII without quotes.
    advice: str = ""
    #: The scheme of the challenge that such a client gets, `WWW-Authenticate`.
    scheme: str = "Bearer"
    #: Seconds between two looks at whether the credentials of open streams are still good; None: nobody looks, and a
    #: stream ends when its credentials expire.
    recheck_seconds: ClassVar[float | None] = None

    def __init__(self, conf: Endpoint) -> None:
        """Raises: ImproperlyConfigured if a setting or a package is missing."""
        self.conf = conf

    def translated_advice(self) -> str:
        """The advice for the page that people see, in the language that is active. Clients get it in English."""
        return _(self.advice)

    @abstractmethod
    async def authenticate(self, scope: Scope) -> Identity | None:
        """Who sent the request with this ASGI scope; None if it has no credentials of this kind, or unknown ones.

        Raises: CredentialsRefused for credentials that only this authenticator could accept, and does not;
        AuthenticationUnavailable if that cannot be found out now.
        """

    async def still_good(self, identities: Collection[Identity]) -> Collection[Identity]:
        """Those of these identities whose credentials would still be accepted. Called every `recheck_seconds`.

        Raises: AuthenticationUnavailable; then nothing changes until the next look.
        """
        return identities

    def metadata(self) -> Mapping[str, Application]:
        """Applications that tell clients how to get credentials, by their paths."""
        return {}


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header that comes once. The endpoint rejects requests that repeat `Authorization`."""
    return next((value for each, value in scope["headers"] if each == name), None)


def bearer_token(scope: Scope) -> str | None:
    """The token behind `Authorization: Bearer`."""
    value: Any = header(scope, b"authorization")
    if value is None or value[:7].lower() != b"bearer ":
        return None
    return bytes(value[7:]).strip().decode("latin-1") or None
