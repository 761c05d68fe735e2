"""Checks of how the project is served: mistakes that would show as 404 and nothing else."""

from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.checks import Warning as Advice
from django.core.checks import register
from django.core.management import get_commands
from django.utils.module_loading import import_string

from mcp_sessions.checks.common import TAG, Apps, Found, endpoints, message, names

#: Apps whose `runserver` is WSGI, or what the next app has.
_WSGI: Final = frozenset({"django.core", "django.contrib.staticfiles", "whitenoise.runserver_nostatic"})
_ROUTE: Final = (
    "Write application = with_mcp(get_asgi_application()) in asgi.py (mcp_sessions.routing.with_mcp), and "
    'ASGI_APPLICATION = "mysite.asgi.application" in the settings.'
)
#: What also redirects, where `with_mcp` does not.
_REDIRECT: Final = "mcp_sessions.middleware.HTTPSRedirect"


@register(TAG)
def check_runserver(app_configs: Apps, **_: Any) -> Found:
    """W021: runserver serves the endpoints, too."""
    if not endpoints() or apps.is_installed("daphne") or get_commands().get("runserver") not in _WSGI:
        return []
    text = (
        "manage.py runserver is WSGI, which cannot serve MCP: every request for an endpoint gets 404 there."
    )
    hint = (
        "Add 'daphne' to INSTALLED_APPS, above django.contrib.staticfiles. If nobody uses runserver, silence this "
        "check."
    )
    return [message(Advice, "W021", text, hint)]


@register(TAG)
def check_application(app_configs: Apps, **_: Any) -> Found:
    """W022: ASGI_APPLICATION serves the endpoints."""
    problem = _problem_with_application() if endpoints() else None
    return [message(Advice, "W022", problem, _ROUTE)] if problem else []


def _problem_with_application() -> str | None:
    from mcp_sessions import routing
    from mcp_sessions.checks import hosted

    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path:
        return "ASGI_APPLICATION is not set: runserver cannot serve the endpoints, and this check cannot see who does."
    try:
        import_string(path)
    except Exception as error:  # noqa: BLE001 - this imports the user's module, which may raise anything
        if any(hosted.problem(endpoint.server) for endpoint in endpoints()):
            return None  # E005 says it
        return f"ASGI_APPLICATION {path!r} cannot be imported: {type(error).__name__}: {error}"
    if not routing.used:
        return f"ASGI_APPLICATION {path!r} does not serve the endpoints: every request for one gets 404."
    return None


@register(TAG)
def check_ssl_redirect(app_configs: Apps, **_: Any) -> Found:
    """W023: SECURE_SSL_REDIRECT applies to the endpoints, too."""
    from mcp_sessions import routing

    if not settings.SECURE_SSL_REDIRECT or _problem_with_application() or "with_mcp" in routing.used:
        return []
    bypassing = [endpoint.alias for endpoint in endpoints() if _REDIRECT not in endpoint.middleware]
    if not bypassing:
        return []
    text = (
        f"SECURE_SSL_REDIRECT does not apply to {names(bypassing)} in MCP_SESSIONS: Django's middleware does not see "
        "endpoints, and mcp_urlpatterns() serves them over plain HTTP, too."
    )
    hint = (
        f"Put mcp_sessions.routing.with_mcp() around the application in asgi.py, or add {_REDIRECT!r} to MIDDLEWARE in "
        "MCP_SESSIONS."
    )
    return [message(Advice, "W023", text, hint)]
