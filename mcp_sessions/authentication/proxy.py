"""A proxy in front that authenticates, and names the user in a header."""

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_noop
from mcp.server.auth.provider import AccessToken

from mcp_sessions.authentication.addresses import comes_from, networks_of
from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.authentication.identity import Identity, of_token
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import CredentialsRefused
from mcp_sessions.transport.asgi import Scope


class ProxyAuthenticator(Authenticator):
    """`proxy`: the subject that a proxy in TRUSTED_PROXIES names in the header PROXY_USER_HEADER.

    The header counts only if the connection itself comes from such a proxy. From anywhere else it is ignored: no
    `X-Forwarded-For` is read. Its issuer is ISSUER_URL, if there is one.
    """

    advice = gettext_noop("Connect through the proxy that signs you in.")

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        if not conf.trusted_proxies:
            raise ImproperlyConfigured(
                f"MCP_SESSIONS[{conf.alias!r}] authenticates by proxy, and needs TRUSTED_PROXIES."
            )
        self._networks = networks_of(tuple(conf.trusted_proxies))
        self._header = conf.proxy_user_header.lower().encode("ascii")

    async def authenticate(self, scope: Scope) -> Identity | None:
        values = [value for name, value in scope["headers"] if name == self._header]
        if not values or not comes_from(scope.get("client"), self._networks):
            return None
        if len(values) > 1:
            # The proxy has added its line to one that the client sent.
            raise CredentialsRefused("The proxy has named more than one user.")
        try:
            subject = values[0].decode("utf-8").strip()
        except UnicodeDecodeError:
            raise CredentialsRefused("The proxy has named a user in an unknown encoding.") from None
        if not subject:
            return None
        claims = {"iss": self.conf.issuer_url} if self.conf.issuer_url else None
        token = AccessToken(token="", client_id="proxy", scopes=[], subject=subject, claims=claims)
        identity = of_token(token)
        identity.scopes = None  # the proxy has decided what may be done
        return identity
