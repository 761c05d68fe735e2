"""The one rule of authentication, for both eras: who may pass, and what those get who may not.

The authenticators are asked in order. The first that knows the credentials decides; who has none is anonymous, and may
pass unless a user is required. Credentials that nobody accepts are refused in any case: a client whose token has
expired is to get a new one, and not to lose its session because it has become somebody else.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.authentication import AuthCredentials

from mcp_sessions.authentication.authenticator import Authenticator, header
from mcp_sessions.authentication.identity import KEY, NOBODY, Identity, identity_of
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import AuthenticationUnavailable, CredentialsRefused
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.transport.asgi import Application, Receive, Scope, Send
from mcp_sessions.transport.rejections import AUTHENTICATION_UNAVAILABLE, JSON_HEADERS

_UNKNOWN: Final = (
    "These credentials are not accepted: unknown, expired, revoked, or meant for another server."
)

#: What may not stand in an `error_description` (RFC 6750, section 3).
_NOT_QUOTED: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


class Gate:
    """An ASGI application around another, which sees only requests that may pass, with their identity in the scope."""

    def __init__(
        self,
        application: Application,
        conf: Endpoint,
        authenticators: Sequence[Authenticator],
        *,
        metadata_url: str | None,
        require_user: bool,
        trusts_scope: bool,
    ) -> None:
        """`trusts_scope` accepts the `user` in the scope: something around the gate authenticates, too."""
        self._application = application
        self._authenticators = authenticators
        self._trusts_scope = trusts_scope
        self._require_user = require_user
        self._scopes = tuple(conf.required_scopes)
        schemes = list(dict.fromkeys(each.scheme for each in authenticators)) or ["Bearer"]
        self._schemes, self._metadata_url = schemes, metadata_url
        advice = " Or: ".join(dict.fromkeys(each.advice for each in authenticators if each.advice))
        self._advice = f"Authentication required. {advice}".strip()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            identity = await self._identify(scope)
        except CredentialsRefused as refused:
            return await self._refuse(send, 401, "invalid_token", str(refused))
        except AuthenticationUnavailable:
            rejection = AUTHENTICATION_UNAVAILABLE
            await send({"type": "http.response.start", "status": 503, "headers": rejection.headers})
            return await send({"type": "http.response.body", "body": rejection.body})
        if identity.principal == ANONYMOUS:
            if self._require_user:
                return await self._refuse(send, 401, "invalid_token", self._advice)
            return await self._application({**scope, KEY: identity, "user": identity.user}, receive, send)
        if identity.scopes is not None:
            for required in self._scopes:
                if required not in identity.scopes:
                    return await self._refuse(send, 403, "insufficient_scope", f"Required scope: {required}")
        credentials = AuthCredentials(sorted(identity.scopes or ()))
        scope = {**scope, KEY: identity, "user": identity.user, "auth": credentials}
        with _known_to_the_sdk(identity):
            await self._application(scope, receive, send)

    async def _identify(self, scope: Scope) -> Identity:
        """Raises: CredentialsRefused; AuthenticationUnavailable."""
        for authenticator in self._authenticators:
            identity = await authenticator.authenticate(scope)
            if identity is not None:
                if identity.expired:
                    raise CredentialsRefused("These credentials have expired.")
                return identity
        if self._authenticators and header(scope, b"authorization") is not None:
            raise CredentialsRefused(_UNKNOWN)
        return identity_of(scope) if self._trusts_scope else NOBODY

    async def _refuse(self, send: Send, status: int, error: str, description: str) -> None:
        """As the SDK's own middleware answers: RFC 6750, section 3, with the metadata of RFC 9728, section 5.1."""
        facts = [f'error="{error}"', f'error_description="{_NOT_QUOTED.sub(" ", description)}"']
        if self._scopes:
            facts.append(f'scope="{" ".join(self._scopes)}"')
        if self._metadata_url:
            facts.append(f'resource_metadata="{self._metadata_url}"')
        body = json.dumps({"error": error, "error_description": description}).encode()
        headers = [
            *JSON_HEADERS,
            (b"content-length", b"%d" % len(body)),
            *((b"www-authenticate", f"{scheme} {', '.join(facts)}".encode()) for scheme in self._schemes),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def _known_to_the_sdk(identity: Identity) -> Iterator[None]:
    """What the SDK's `get_access_token()` gives meanwhile; it also binds `requestState` to it."""
    user = identity.user
    known = user if isinstance(user, AuthenticatedUser) else AuthenticatedUser(identity.access_token)
    token = auth_context_var.set(known)
    try:
        yield
    finally:
        auth_context_var.reset(token)
