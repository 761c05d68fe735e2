"""The ASGI application: the MCP endpoints and Django's own pages."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django_application = get_asgi_application()

from mcp_sessions.lifecycle import lifespan  # noqa: E402 - must come after Django is set up
from mcp_sessions.routing import mcp_urlpatterns  # noqa: E402
from mcp_sessions.startup import patch_daphne, tune_garbage_collector  # noqa: E402

django_pages = re_path("", django_application)  # type: ignore[arg-type]  # Channels routes applications, not views
application = ProtocolTypeRouter(
    {
        "http": URLRouter([*mcp_urlpatterns(), django_pages]),
        "websocket": WebsocketDenier.as_asgi(),  # otherwise Channels logs a traceback for each attempt
        "lifespan": lifespan,  # for uvicorn, which would not stop the endpoints without it; daphne has none
    }
)

patch_daphne()  # for `daphne project.asgi:application`
tune_garbage_collector()
