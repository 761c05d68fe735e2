"""Bearer tokens that an SDK `TokenVerifier` verifies, and the metadata that tells clients where to get one."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.authentication.identity import Identity, of_token
from mcp_sessions.conf import Endpoint
from mcp_sessions.transport.asgi import Application, Scope

logger = logging.getLogger(__name__)

#: Tokens of open streams about which a verifier is asked at the same time.
TOGETHER: Final = 10


class ResourceAuthenticator(Authenticator):
    """What all have whose clients get bearer tokens from ISSUER_URL for RESOURCE_URL."""

    advice = gettext_noop("Send a bearer token. The protected resource metadata says where to get one.")

    def metadata(self) -> Mapping[str, Application]:
        """The protected resource metadata (RFC 9728)."""
        oauth = oauth_settings(self.conf)
        routes = create_protected_resource_routes(
            oauth.resource_server_url,  # type: ignore[arg-type] # oauth_settings requires it
            [oauth.issuer_url],
            scopes_supported=oauth.required_scopes,
        )
        return {route.path.lstrip("/"): Starlette(routes=[route]) for route in routes}


class BearerAuthenticator(ResourceAuthenticator):
    """`token`: bearer tokens that TOKEN_VERIFIER accepts, for RESOURCE_URL unless VALIDATE_TOKEN_RESOURCE is False."""

    recheck_seconds: ClassVar[float | None] = 10.0

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        oauth = oauth_settings(conf)
        resource = oauth.resource_server_url if oauth.validate_token_resource else None
        self._backend = BearerAuthBackend(self._verifier(), resource_server_url=resource)

    def _verifier(self) -> TokenVerifier:
        value: Any = import_string(required(self.conf, "TOKEN_VERIFIER"))
        verifier: TokenVerifier = value() if isinstance(value, type) else value
        return verifier

    async def authenticate(self, scope: Scope) -> Identity | None:
        found = await self._backend.authenticate(HTTPConnection(scope))
        return None if found is None else of_token(found[1].access_token, source=self)

    async def still_good(self, identities: Collection[Identity]) -> Collection[Identity]:
        """Asks the verifier about each token once, about several at a time.

        One about which it cannot tell, whatever it raises, counts as good: that keeps no other from being refused.
        """
        tokens = list({each.access_token.token for each in identities})
        good: set[str] = set()
        failures: list[BaseException] = []
        for start in range(0, len(tokens), TOGETHER):
            some = tokens[start : start + TOGETHER]
            found = await asyncio.gather(*map(self._is_good, some), return_exceptions=True)
            good.update(token for token, is_good in zip(some, found, strict=True) if is_good)
            failures += [each for each in found if isinstance(each, BaseException)]
        if failures:
            # Not what it said: the token may be in it.
            text = "Whether %d tokens of open streams are still good is not known: the verifier raised %s."
            logger.warning(text, len(failures), type(failures[0]).__name__)
        return [each for each in identities if each.access_token.token in good]

    async def _is_good(self, token: str) -> bool:
        scope = {"type": "http", "headers": [(b"authorization", b"Bearer " + token.encode("latin-1"))]}
        return await self._backend.authenticate(HTTPConnection(scope)) is not None


def metadata_url(conf: Endpoint) -> str:
    """Where the protected resource metadata of an endpoint is, for its challenges."""
    resource = oauth_settings(conf).resource_server_url
    return str(build_resource_metadata_url(resource))  # type: ignore[arg-type] # oauth_settings requires it


def oauth_settings(conf: Endpoint) -> AuthSettings:
    """The SDK's own settings: they keep URLs to the letter, as RFC 8414 compares them. Raises: ImproperlyConfigured."""
    issuer, resource = required(conf, "ISSUER_URL"), required(conf, "RESOURCE_URL")
    return AuthSettings(
        issuer_url=issuer,  # type: ignore[arg-type] # parsed by pydantic
        resource_server_url=resource,  # type: ignore[arg-type]
        required_scopes=list(conf.required_scopes) or None,
        validate_token_resource=conf.validate_token_resource,
    )


def required(conf: Endpoint, key: str) -> str:
    """The value of a setting that an authenticator needs. Raises: ImproperlyConfigured without one."""
    value: str | None = getattr(conf, key.lower())
    if not value:
        names = ", ".join(conf.authentication) or "token"
        raise ImproperlyConfigured(f"MCP_SESSIONS[{conf.alias!r}] authenticates by {names}, and needs {key}.")
    return value
