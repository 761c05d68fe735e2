"""From the setting AUTHENTICATION to authenticators, and from these to the gate of an endpoint."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from mcp_sessions.conf import Endpoint
from mcp_sessions.transport.asgi import Application

if TYPE_CHECKING:
    # It needs the SDK, which processes that serve nothing do without.
    from mcp_sessions.authentication.authenticator import Authenticator

_HERE: Final = "mcp_sessions.authentication"
#: Short name -> the class, which is imported only where it is used: some need packages that few have.
NAMES: Final[Mapping[str, str]] = {
    "token": f"{_HERE}.bearer.BearerAuthenticator",
    "personal-token": f"{_HERE}.personal.PersonalTokenAuthenticator",
    "jwks": f"{_HERE}.jwks.JWKSAuthenticator",
    "oauth-toolkit": f"{_HERE}.toolkit.ToolkitAuthenticator",
    "session": f"{_HERE}.login.LoginAuthenticator",
    "drf": "rest_framework.authentication.TokenAuthentication",
    "proxy": f"{_HERE}.proxy.ProxyAuthenticator",
}

Wrap = Callable[[Application], Application]


def names_for(conf: Endpoint) -> Sequence[str]:
    """What authenticates at an endpoint: AUTHENTICATION, or `token` where only TOKEN_VERIFIER is set."""
    return conf.authentication or (("token",) if conf.token_verifier else ())


def authenticators_for(conf: Endpoint) -> "list[Authenticator]":
    """The authenticators of an endpoint, in order.

    Raises: ImproperlyConfigured for a name that is unknown, and if a setting or a package is missing.
    """
    if conf.authentication and conf.token_verifier and "token" not in conf.authentication:
        raise ImproperlyConfigured(
            f"MCP_SESSIONS[{conf.alias!r}] has TOKEN_VERIFIER, which nothing uses: AUTHENTICATION has no 'token'."
        )
    return [_authenticator(conf, name) for name in names_for(conf)]


def requires_user(conf: Endpoint) -> bool:
    """Whether anonymous requests are refused: as REQUIRE_USER says, or else wherever something authenticates."""
    return bool(names_for(conf)) if conf.require_user is None else conf.require_user


def gated(
    conf: Endpoint, application: Application, authenticators: "Sequence[Authenticator]", around: Wrap | None
) -> Application:
    """The application behind its authentication. Where there is none, and no scope is required, it is the application
    itself.

    `around` also authenticates: what it leaves as `user` in the scope counts for requests without other credentials.
    """
    if authenticators or requires_user(conf) or conf.required_scopes:
        from mcp_sessions.authentication.gate import Gate

        application = Gate(
            application,
            conf,
            authenticators,
            metadata_url=_metadata_url(conf, authenticators),
            require_user=requires_user(conf),
            trusts_scope=around is not None or not authenticators,
        )
    return application if around is None else around(application)


def _metadata_url(conf: Endpoint, authenticators: "Sequence[Authenticator]") -> str | None:
    if not any(each.metadata() for each in authenticators):
        return None
    from mcp_sessions.authentication.bearer import metadata_url

    return metadata_url(conf)


def _authenticator(conf: Endpoint, name: str) -> "Authenticator":
    from mcp_sessions.authentication.authenticator import Authenticator

    path = NAMES.get(name, name)
    try:
        value: Any = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"MCP_SESSIONS[{conf.alias!r}]['AUTHENTICATION']: {name!r} cannot be imported: {error}"
        ) from error
    if isinstance(value, type) and issubclass(value, Authenticator):
        return value(conf)
    if find_spec("rest_framework") is not None:
        from mcp_sessions.authentication.rest_framework import RestFrameworkAuthenticator, is_rest_framework

        if is_rest_framework(value):
            return RestFrameworkAuthenticator(conf, value)
    raise ImproperlyConfigured(
        f"MCP_SESSIONS[{conf.alias!r}]['AUTHENTICATION']: {name!r} is neither an Authenticator nor an authentication "
        f"class of Django REST framework. The short names are {', '.join(NAMES)}."
    )
