"""django-mcp-server: its URLs and its MCPToolset, Django sessions in Redis through the cache."""

import os
import secrets

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=secrets.token_hex(),
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="mcp_server.urls",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "mcp_server"],
    CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["REDIS_URL"]}},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from mcp_server import mcp_server  # noqa: E402


@mcp_server.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


application = get_asgi_application()
