"""Django's settings for the benchmark of the admin: two endpoints on one Redis, and a database of users in a file."""

import os

os.environ.setdefault("DJANGO_SECRET_KEY", "only-for-benchmarks")
os.environ.setdefault("DJANGO_ALLOWED_HOSTS", "127.0.0.1,localhost,testserver")
os.environ.setdefault("DJANGO_HTTPS", "0")

from project.settings import *  # noqa: F403 - the environment comes first

_LIMITS = {"MAX_SESSIONS": None, "MAX_SESSIONS_PER_PRINCIPAL": None, "MAX_AGE": 86_400, "IDLE_TTL": 14_400}
MCP_SESSIONS = {
    "shop": {"SERVER": "benchmarks.servers.tool.server", "PATH": "mcp", "NAMESPACE": "shop", **_LIMITS},
    "stock": {
        "SERVER": "benchmarks.servers.tool.server",
        "PATH": "stock/mcp",
        "NAMESPACE": "stock",
        **_LIMITS,
    },
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
WHITENOISE_AUTOREFRESH = True
