"""Django's login session, for pages of the same site.

A browser sends the cookie of a site along with whatever any page has it send there. So the cookie counts only where the
browser says that a page of the endpoint's own origin sends the request, in `Origin` or, for GET, in `Sec-Fetch-Site`.
Pages can set neither.
"""

from collections.abc import Collection, Sequence
from functools import partial
from importlib import import_module
from io import BytesIO
from types import SimpleNamespace
from typing import Any, ClassVar, Final

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.http import parse_cookie
from django.utils.translation import gettext_noop

from mcp_sessions.authentication.authenticator import Authenticator, header
from mcp_sessions.authentication.identity import Identity, of_user
from mcp_sessions.authentication.threads import in_thread
from mcp_sessions.conf import Endpoint
from mcp_sessions.transport.asgi import Scope

#: Login sessions of open streams that are looked at together, with one connection to the database.
_TOGETHER: Final = 50


class LoginAuthenticator(Authenticator):
    """`session`: the user who is logged in to this site with the browser that sends the request.

    A request that has an `Authorization` header is left to the other authenticators: what a page says on purpose
    counts more than what its browser adds.
    """

    advice = gettext_noop(
        "Log in to this site with the same browser, and send the request from a page of the same origin."
    )
    scheme = "Cookie"
    recheck_seconds: ClassVar[float] = 10.0

    def __init__(self, conf: Endpoint) -> None:
        super().__init__(conf)
        for app in ("django.contrib.auth", "django.contrib.contenttypes"):
            if not apps.is_installed(app):
                raise ImproperlyConfigured(
                    f"MCP_SESSIONS[{conf.alias!r}] authenticates by session, and needs {app} in INSTALLED_APPS."
                )

    async def authenticate(self, scope: Scope) -> Identity | None:
        key = _session_key(scope)
        if key is None or header(scope, b"authorization") is not None or not _is_of_own_page(scope):
            return None
        user = await in_thread(partial(_user_of, key))
        return None if user is None else of_user(user, source=self, key=key)

    async def still_good(self, identities: Collection[Identity]) -> Collection[Identity]:
        pks = list({each.key: each.user.pk for each in identities}.items())
        good: set[str] = set()
        for start in range(0, len(pks), _TOGETHER):
            good.update(await in_thread(partial(_good, pks[start : start + _TOGETHER])))
        return [each for each in identities if each.key in good]


def _session_key(scope: Scope) -> str | None:
    """The value of Django's session cookie."""
    value = header(scope, b"cookie")
    if value is None:
        return None
    key = parse_cookie(value.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
    # A quoted value may have NUL in it, which no database takes.
    return key if key and "\0" not in key else None


def _is_of_own_page(scope: Scope) -> bool:
    """Whether a page of the endpoint's own origin sends the request: the same scheme, host and port, as Django's
    CSRF protection compares them.
    """
    origin = header(scope, b"origin")
    if origin is None:
        # Browsers leave Origin out of a GET to the page's own origin only.
        return scope["method"] == "GET" and header(scope, b"sec-fetch-site") == b"same-origin"
    request = ASGIRequest(dict(scope), BytesIO())
    try:
        own = f"{'https' if request.is_secure() else 'http'}://{request.get_host()}"
    except DisallowedHost:
        return False
    return origin == own.encode("latin-1", "replace")


class _Read(dict[str, Any]):
    """The content of a session. Django would renew the key of one whose hash is from an old SECRET_KEY, for a browser
    that gets the new one in a cookie; here nothing is written.
    """

    def cycle_key(self) -> None:
        """Keep the key."""

    #: Forget the content, here.
    flush = dict.clear


def _user_of(key: str) -> Any:
    """The active user of a login session; None if there is none."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user: Any = get_user(SimpleNamespace(session=_Read(store.load())))  # type: ignore[arg-type]  # all that it reads
    return user if user.is_authenticated and user.is_active else None


def _good(logins: Sequence[tuple[str, Any]]) -> list[str]:
    """Which of these login sessions are still those of their users."""
    users = {key: _user_of(key) for key, _ in logins}
    return [key for key, pk in logins if users[key] is not None and users[key].pk == pk]
