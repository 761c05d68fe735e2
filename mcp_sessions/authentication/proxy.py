"""A proxy in front that authenticates, and names the user in a header."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from mcp.server.auth.provider import AccessToken

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

    advice = "Connect through the proxy that signs you in."

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        if not conf.trusted_proxies:
            raise ImproperlyConfigured(
                f"MCP_SESSIONS[{conf.alias!r}] authenticates by proxy, and needs TRUSTED_PROXIES."
            )
        self._networks = [ip_network(each) for each in conf.trusted_proxies]
        self._header = conf.proxy_user_header.lower().encode("ascii")

    async def authenticate(self, scope: Scope) -> Identity | None:
        values = [value for name, value in scope["headers"] if name == self._header]
        if not values or not _is_within(scope.get("client"), self._networks):
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


def _is_within(client: Any, networks: list[IPv4Network | IPv6Network]) -> bool:
    """Whether a connection comes from one of these networks; one through a Unix socket comes from none."""
    if not client:
        return False
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)
