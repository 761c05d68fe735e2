"""What authentication found out about a request: its principal, and how long that is known."""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Protocol

from asgiref.sync import sync_to_async
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken, principal_components

from mcp_sessions.authentication.users import find_user
from mcp_sessions.conf import Endpoint
from mcp_sessions.records import ANONYMOUS

#: Where the gate leaves the identity in the ASGI scope.
KEY: Final = "mcp_sessions.identity"


class Source(Protocol):
    """Can tell whether credentials that it has accepted are still good: what streams need of an authenticator."""

    @property
    def recheck_seconds(self) -> float | None: ...

    async def still_good(self, identities: "Collection[Identity]") -> "Collection[Identity]": ...


@dataclass(slots=True, kw_only=True, eq=False)
class Identity:
    """Who sent a request."""

    #: Who owns what the request makes: `user:<pk>`, `oauth:["<issuer>","<subject>"]`, … It stays the same when
    #: credentials are renewed.
    principal: str
    #: What other code finds as `user` in the ASGI scope: Django's user, or the SDK's AuthenticatedUser.
    user: Any = None
    #: What the credentials allow; None if they allow all that their user may do.
    scopes: frozenset[str] | None = None
    #: When the credentials expire, in seconds since the epoch; None if they do not.
    expires_at: float | None = None
    #: What sessions remember that are opened with it: "personal token mcps_1a2b3c4d". Never the credentials themselves.
    credential: str = ""
    #: Who can tell whether the credentials are still good, and what it knows them by.
    source: Source | None = field(default=None, repr=False)
    key: Any = field(default=None, repr=False)
    #: Django's user behind a subject, in a tuple once it was looked for.
    _found: tuple[Any] | None = field(default=None, init=False, repr=False)

    def find_user(self, conf: Endpoint) -> Any:
        """Django's user: the one that authentication has loaded, or whom SUBJECT_TO_USER gives for the subject, who is
        looked for once. AnonymousUser for whoever is anonymous; None if the subject has no active user.

        Raises: SynchronousOnlyOperation in an event loop, if the database must be asked.
        """
        from django.contrib.auth.models import AnonymousUser  # not before the apps are loaded

        if self.principal == ANONYMOUS:
            return AnonymousUser() if self.user is None else self.user
        if not isinstance(self.user, AuthenticatedUser):
            return self.user
        if self._found is None:
            self._found = (find_user(conf, self.principal),)
        return self._found[0]

    async def afind_user(self, conf: Endpoint) -> Any:
        """The same, for async code."""
        return await sync_to_async(self.find_user)(conf)

    def seconds_left(self) -> float:
        """How long the credentials are accepted from now on; infinity if they do not expire.

        Until the end of the second in which they expire, as the SDK's own check: a client that comes back earlier
        would be let in with the same token.
        """
        return inf if self.expires_at is None else max(0.0, self.expires_at + 1 - time.time())

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at < int(time.time())

    @property
    def access_token(self) -> AccessToken:
        """What the SDK's `get_access_token()` gives to handlers. The text of other credentials is not in it."""
        if isinstance(self.user, AuthenticatedUser):
            return self.user.access_token
        return AccessToken(token="", client_id="", scopes=sorted(self.scopes or ()), subject=self.principal)


NOBODY: Final = Identity(principal=ANONYMOUS)


def of_token(token: AccessToken, **more: Any) -> Identity:
    """The identity behind a bearer token: its issuer and subject or, without a subject, its issuer and OAuth client."""
    client_id, issuer, subject = principal_components(token)
    kind, name = ("oauth-client", client_id) if subject is None else ("oauth", subject)
    return Identity(
        principal=f"{kind}:{json.dumps([issuer, name], separators=(',', ':'))}",
        user=AuthenticatedUser(token),
        scopes=frozenset(token.scopes),
        expires_at=token.expires_at or None,
        **more,
    )


def of_user(user: Any, **more: Any) -> Identity:
    """The identity of one of Django's users."""
    return Identity(principal=f"user:{user.pk}", user=user, **more)


def identity_of(scope: Mapping[str, Any]) -> Identity:
    """What the gate found out about a request, or else what somebody else left as `user` in its scope.

    Everybody who is not known is anonymous, which is a principal, too.
    """
    found: Identity | None = scope.get(KEY)
    if found is not None:
        return found
    user = scope.get("user")
    if isinstance(user, AuthenticatedUser):
        return of_token(user.access_token)
    if getattr(user, "is_authenticated", False) and getattr(user, "pk", None) is not None:
        return of_user(user)
    return Identity(principal=ANONYMOUS, user=user)
