"""JSON Web Tokens of an outside identity provider, checked with the keys that it publishes."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from django.core.exceptions import ImproperlyConfigured
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from mcp.server.auth.provider import AccessToken, TokenVerifier

try:
    import jwt
except ImportError as error:  # pragma: no cover - the SDK depends on it today
    raise ImproperlyConfigured(
        'AUTHENTICATION by jwks needs PyJWT: pip install "mcp-sessions[jwt]"'
    ) from error

from mcp_sessions.authentication.bearer import BearerAuthenticator, oauth_settings, required
from mcp_sessions.authentication.keys import Keys
from mcp_sessions.conf import Endpoint

logger = logging.getLogger(__name__)

#: Seconds by which the provider's clock may be ahead. None are granted to an expired token.
LEEWAY_SECONDS: Final = 60


class JWKSAuthenticator(BearerAuthenticator):
    """`jwks`: tokens of ISSUER_URL for this endpoint, signed with a key from JWKS_URL."""

    recheck_seconds: ClassVar[None] = None  # a token is good until it expires

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        self._backend = BearerAuthBackend(self._verifier())  # the verifier checks the audience itself

    def _verifier(self) -> TokenVerifier:
        oauth_settings(self.conf)
        return JWKSVerifier(
            Keys(required(self.conf, "JWKS_URL")),
            issuer=required(self.conf, "ISSUER_URL"),
            audiences=tuple(self.conf.jwt_audiences) or (required(self.conf, "RESOURCE_URL"),),
            algorithms=tuple(self.conf.jwt_algorithms),
        )


class JWKSVerifier(TokenVerifier):
    """Verifies JSON Web Tokens. Issuer, audience and algorithms are fixed here: nothing in a token chooses its key but
    the key's id, among the keys that the provider publishes.
    """

    def __init__(
        self, keys: Keys, *, issuer: str, audiences: Sequence[str], algorithms: Sequence[str]
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audiences = audiences
        self._algorithms = algorithms

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token if it is good. Raises: AuthenticationUnavailable if the keys cannot be had."""
        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in self._algorithms:
                return None
            key = await self._keys.find(head.get("kid"), head["alg"])
            if key is None:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[head["alg"]],
                audience=self._audiences,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            logger.debug("A token was refused: %s", type(error).__name__)
            return None
        return self._access_token(token, claims)

    def _access_token(self, token: str, claims: Mapping[str, Any]) -> AccessToken | None:
        client, subject = claims.get("client_id", claims.get("azp")), claims.get("sub")
        if not isinstance(claims["exp"], int | float) or claims["exp"] + 1 <= time.time():
            return None
        names = [name for name in (client, subject) if name is not None]
        if not names or not all(isinstance(name, str) and name for name in names):
            return None
        return AccessToken(
            token=token,
            client_id=client or "",
            scopes=_scopes(claims),
            expires_at=int(claims["exp"]),
            # An OAuth client that acts for itself is its own subject (RFC 9068, section 2.2), and no person.
            subject=None if subject == client else subject,
            claims=dict(claims),
        )


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    """`scope`, separated by spaces (RFC 8693), or `scp`, a list or the same, as some providers have it."""
    value = claims.get("scope", claims.get("scp", ""))
    words = value.split() if isinstance(value, str) else value
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
