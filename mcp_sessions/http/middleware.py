"""What is around an endpoint: what MIDDLEWARE names, and the guard."""

from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from mcp_sessions import counting
from mcp_sessions.conf import Endpoint
from mcp_sessions.http.guard import Guard
from mcp_sessions.transport.asgi import Application


def guarded(conf: Endpoint, application: Application) -> Application:
    """The application as servers get it: within its middleware, and no exception escapes from it.

    Raises: as `with_middleware`.
    """
    return Guard(with_middleware(conf, application), refused=partial(counting.count_refusal, conf.alias))


def with_middleware(conf: Endpoint, application: Application) -> Application:
    """The application within the middleware of its endpoint, of which the first is the outermost.

    Raises: ImproperlyConfigured for what cannot be imported, or is not made from an application alone.
    """
    for path in reversed(conf.middleware):
        where = f"MCP_SESSIONS[{conf.alias!r}]['MIDDLEWARE']: {path!r}"
        try:
            make: Any = import_string(path)
        except ImportError as error:
            raise ImproperlyConfigured(f"{where} cannot be imported: {error}") from error
        try:
            application = make(application)
        except TypeError as error:
            raise ImproperlyConfigured(
                f"{where} is not a callable that takes an ASGI application: {error}"
            ) from error
        if not callable(application):
            raise ImproperlyConfigured(
                f"{where} made {application!r} of the ASGI application, which is none."
            )
    return application
