"""Says so in the log when a request for an endpoint arrives at Django, which answers it with 404."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started

from mcp_sessions.conf import aliases, endpoint
from mcp_sessions.documentation import page

logger = logging.getLogger(__name__)

_OVER_WSGI: Final = (
    "A request for the MCP endpoint %r reached Django over WSGI, which cannot serve it. Serve the project's ASGI "
    "application; for runserver, add 'daphne' to INSTALLED_APPS, above django.contrib.staticfiles. %s"
)
_PAST_THE_ROUTES: Final = (
    "A request for the MCP endpoint %r reached Django, because the project's ASGI application does not serve it: use "
    "mcp_sessions.routing.with_mcp() in asgi.py. %s"
)
#: The endpoints of which it has been said in this process.
_told: Final[set[str]] = set()


def watch() -> None:
    """Look at the requests that Django serves from here on."""
    request_started.connect(_look, dispatch_uid=__name__)


def _look(
    *, environ: Mapping[str, Any] | None = None, scope: Mapping[str, Any] | None = None, **_: Any
) -> None:
    """Called by Django before each request, with the environment of WSGI or the scope of ASGI."""
    if scope is not None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).strip("/")
    else:
        path = (environ or {}).get("PATH_INFO", "").strip("/")
    try:
        found = next((alias for alias in aliases() if endpoint(alias).path == path), None)
    except ImproperlyConfigured:
        return  # a check says it, and Django's pages do not depend on it
    if found is not None and found not in _told:
        _told.add(found)
        logger.warning(
            _OVER_WSGI if scope is None else _PAST_THE_ROUTES, found, page("troubleshooting", "404")
        )
