"""djangorestframework-mcp-server: its async URLs, its cache-backed sessions on django-redis, no authentication."""

import os
import secrets

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=secrets.token_hex(),
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
    CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["REDIS_URL"]}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    REST_FRAMEWORK_MCP={"REQUIRE_TOOL_PERMISSIONS": False},
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework_mcp import MCPServer  # noqa: E402
from rest_framework_mcp.auth.backends.allow_any_backend import AllowAnyBackend  # noqa: E402

server = MCPServer(name="benchmark", auth_backend=AllowAnyBackend())


class Numbers(serializers.Serializer):
    """The tool's input."""

    a = serializers.IntegerField()
    b = serializers.IntegerField()


@server.service_tool(name="add", input_serializer=Numbers, atomic=False)
async def add(data: dict[str, int]) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": data["a"] + data["b"]}


urlpatterns = [path("mcp/", server.async_urls)]
application = get_asgi_application()
