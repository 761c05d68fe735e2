"""The ASGI application: the MCP endpoints beside Django's own pages."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django_application = get_asgi_application()

from mcp_sessions.lifecycle import lifespan  # noqa: E402 - needs Django to be set up
from mcp_sessions.routing import mcp_urlpatterns  # noqa: E402
from mcp_sessions.startup import patch_daphne, tune_garbage_collector  # noqa: E402

django_pages = re_path("", django_application)  # type: ignore[arg-type]  # Channels routes applications, not views
application = ProtocolTypeRouter(
    {
        "http": URLRouter([*mcp_urlpatterns(), django_pages]),
        "websocket": WebsocketDenier.as_asgi(),  # else each attempt leaves a traceback in the log
        "lifespan": lifespan,  # daphne has none; uvicorn would not stop the endpoints without it
    }
)

patch_daphne()  # for `daphne project.asgi:application`
tune_garbage_collector()
