"""This app on whatever serves it: URL patterns of the endpoints, then Django."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.servers.ours_settings")

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

_django = get_asgi_application()

from mcp_sessions.routing import mcp_urlpatterns  # noqa: E402

urlpatterns: list[object] = []
application = ProtocolTypeRouter({"http": URLRouter([*mcp_urlpatterns(), re_path("", _django)])})
