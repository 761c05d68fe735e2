"""Access tokens that django-oauth-toolkit has issued in this project, as an authenticator.

The toolkit's own check would let pass what does not belong here: tokens without a resource, tokens in a query, tokens
of users who are no longer active, and those with which a client changes its registration. So its tables are asked.
"""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Q, QuerySet
from django.utils import timezone
from mcp.server.auth.provider import AccessToken
from pydantic import AnyHttpUrl, ValidationError

from mcp_sessions.authentication.authenticator import bearer_token
from mcp_sessions.authentication.bearer import ResourceAuthenticator, required
from mcp_sessions.authentication.identity import Identity, of_token, of_user
from mcp_sessions.authentication.models import digest_of
from mcp_sessions.authentication.questions import Questions, still_good
from mcp_sessions.authentication.users import whose_user_is_active
from mcp_sessions.conf import Endpoint
from mcp_sessions.transport.asgi import Scope


class ToolkitAuthenticator(ResourceAuthenticator):
    """`oauth-toolkit`: tokens of the toolkit's users and clients, for RESOURCE_URL unless VALIDATE_TOKEN_RESOURCE is
    False. A token that is revoked, refreshed or deleted is refused from the next request on.
    """

    recheck_seconds: ClassVar[float] = 1.0

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        if not apps.is_installed("oauth2_provider"):
            raise ImproperlyConfigured(
                f"MCP_SESSIONS[{conf.alias!r}] authenticates by oauth-toolkit, and needs oauth2_provider in "
                'INSTALLED_APPS: pip install "mcp-sessions[oauth]"'
            )
        # Not before the apps are loaded, and only where the package is.
        from oauth2_provider.settings import oauth2_settings

        self._issuer, resource = required(conf, "ISSUER_URL"), required(conf, "RESOURCE_URL")
        self._resource = _normal(resource) if conf.validate_token_resource else None
        said = oauth2_settings.OIDC_ISS_ENDPOINT
        if said and said != self._issuer:
            raise ImproperlyConfigured(
                f"MCP_SESSIONS[{conf.alias!r}] has the ISSUER_URL {self._issuer!r}, but OAUTH2_PROVIDER has the "
                f"OIDC_ISS_ENDPOINT {said!r}: clients trust no server whose metadata names another issuer."
            )
        self._registration: str = oauth2_settings.DCR_REGISTRATION_SCOPE
        self._questions: Questions[Any] = Questions(_good)

    async def authenticate(self, scope: Scope) -> Identity | None:
        text = bearer_token(scope)
        if text is None:
            return None
        token = await self._questions.ask(digest_of(text))
        if token is None:
            return None
        scopes = frozenset(token.scope.split())
        if self._registration in scopes or not self._is_for_us(token.resource):
            return None
        name = f"OAuth client {token.application or '(none)'}"
        known: dict[str, Any] = {"credential": name[:120], "source": self, "key": token.pk}
        expires = token.expires.timestamp()
        if token.user is not None:
            return of_user(token.user, scopes=scopes, expires_at=expires, **known)
        # A client that acts for itself.
        client = "" if token.application is None else token.application.client_id
        claims = {"iss": self._issuer}
        acting = AccessToken(
            token="", client_id=client, scopes=sorted(scopes), expires_at=int(expires), claims=claims
        )
        return of_token(acting, **known)

    def _is_for_us(self, resources: Collection[str]) -> bool:
        """Whether a token names this endpoint as its resource (RFC 8707), compared as the SDK does for `token`."""
        return self._resource is None or any(_normal(each) == self._resource for each in resources)

    async def still_good(self, identities: Collection[Identity]) -> Collection[Identity]:
        return await still_good(identities, _still_good)


def _normal(url: str) -> str | None:
    """A URL without what does not matter: the case of its host, its scheme's own port, a slash at its end."""
    try:
        return str(AnyHttpUrl(url)).removesuffix("/")
    except ValidationError:
        return None


def _accepted() -> QuerySet[Any]:
    """Tokens that have not expired, of active users or of none, in the database that is written to: a replica may not
    know yet what was revoked. What is revoked is deleted.
    """
    from oauth2_provider.models import get_access_token_model

    model = get_access_token_model()
    whose = Q(user=None) | whose_user_is_active()
    tokens: QuerySet[Any] = model._default_manager.using(router.db_for_write(model))
    return tokens.filter(whose, expires__gt=timezone.now()).order_by()


def _good(digests: Iterable[str]) -> dict[str, Any]:
    found = _accepted().filter(token_checksum__in=digests).select_related("user", "application")
    return {token.token_checksum: token for token in found if _is_usable(token)}


def _still_good(pks: Iterable[int]) -> set[int]:
    return {
        token.pk
        for token in _accepted().filter(pk__in=pks).select_related("application")
        if _is_usable(token)
    }


def _is_usable(token: Any) -> bool:
    """Whether the token's client may still be used, as an application model of the project's own decides."""
    from oauthlib.common import Request

    return token.application is None or bool(token.application.is_usable(Request("")))
