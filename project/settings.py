"""Settings of the demo project, all from the environment. docs/settings.md lists the variables."""

from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions.oauth import provider
from project import paths
from project.endpoint import endpoint_from_environment
from project.environment import boolean, read, words

BASE_DIR = paths.BASE

DEBUG = read("DJANGO_DEBUG", boolean, False)  # noqa: FBT003 - the default's name is the variable's

SECRET_KEY = read("DJANGO_SECRET_KEY", str, "insecure-and-only-for-debugging" if DEBUG else "")
SECRET_KEY_FALLBACKS = read("DJANGO_SECRET_KEY_FALLBACKS", words, [])
ALLOWED_HOSTS = read("DJANGO_ALLOWED_HOSTS", words, ["127.0.0.1", "localhost", "[::1]"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = read("DJANGO_CSRF_TRUSTED_ORIGINS", words, [])

if not SECRET_KEY:
    raise ImproperlyConfigured("DJANGO_SECRET_KEY is not set. Give every process the same long random value.")
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "DJANGO_ALLOWED_HOSTS is not set. Outside DJANGO_DEBUG=1, name the host names that this site answers to."
    )
# Prometheus asks a pod of Kubernetes by its address.
ALLOWED_HOSTS = [*ALLOWED_HOSTS, *read("DJANGO_POD_IP", words, [])]

# What Prometheus says to be let in, at least 16 characters. Without it, there are no metrics.
METRICS_TOKEN = read("METRICS_TOKEN", str, "")

# Send cookies over HTTPS only. Turn this off to try the production set-up over plain HTTP.
HTTPS = read("DJANGO_HTTPS", boolean, not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# Only behind a proxy that sets this header itself. Otherwise any client could send it.
if read("DJANGO_BEHIND_PROXY", boolean, False):  # noqa: FBT003
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "mcp_sessions",
    "project.catalogue",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    # The admin in the language of the browser.
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database() -> dict[str, Any]:
    url = read("DATABASE_URL", str, f"sqlite:///{paths.DATA / 'db.sqlite3'}")
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL is not the URL of a database: {error}") from None
    if config["ENGINE"] == "django.db.backends.sqlite3":
        # Several processes share the file: any number of readers and one writer, for which other writers wait.
        config["OPTIONS"] = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        }
    return config


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def _cache() -> dict[str, Any]:
    url = read("REDIS_URL", str, "")
    if not url:
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    backend = "django_redis.cache.RedisCache"
    if "," in url:  # the nodes of a Cluster
        options = {"CONNECTION_FACTORY": "mcp_sessions.store.clients.ClusterConnectionFactory"}
        return {"BACKEND": backend, "LOCATION": url.split(","), "OPTIONS": options}
    return {"BACKEND": backend, "LOCATION": url}


CACHES = {"default": _cache()}

MCP_SESSIONS = {"default": endpoint_from_environment()}

# The switch: with MCP_AUTHENTICATION=oauth-toolkit the demo is its own authorization server.
if "oauth-toolkit" in MCP_SESSIONS["default"].get("AUTHENTICATION", ()):
    INSTALLED_APPS += ["oauth2_provider"]
    LOGIN_URL = "admin:login"
    OAUTH2_PROVIDER = provider(
        MCP_SESSIONS["default"].get("ISSUER_URL", ""), scopes={"library": "Use the library in your name"}
    )

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "project" / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
# While debugging, from the apps' own folders; otherwise from STATIC_ROOT, after collectstatic.
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": read("DJANGO_LOG_LEVEL", str.upper, "WARNING")},
    "loggers": {
        "django": {
            "handlers": ["stderr"],
            "level": read("DJANGO_LOG_LEVEL", str.upper, "WARNING"),
            "propagate": False,
        },
        "mcp_sessions": {"level": "INFO"},
    },
}
