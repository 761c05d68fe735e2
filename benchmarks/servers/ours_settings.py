"""The smallest project that serves one endpoint with its sessions in Redis."""

import os
import secrets

SECRET_KEY = secrets.token_hex()
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "channels", "mcp_sessions"]
_LOCATION = os.environ["REDIS_URL"].split(",")
#: Several URLs are the nodes of a Cluster.
_FACTORY = {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _LOCATION,
        "OPTIONS": _FACTORY if len(_LOCATION) > 1 else {},
    }
}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "benchmarks.servers.ours_unpatched"
MCP_SESSIONS = {
    "default": {
        "SERVER": "benchmarks.servers.tool.server",
        "PATH": "mcp",
        "NAMESPACE": "benchmark",
        "INVENTORY": os.environ.get("INVENTORY") != "0",
        "IDLE_TTL": float(os.environ.get("IDLE_TTL", "3600")),
    }
}
