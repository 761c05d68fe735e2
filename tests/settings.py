"""The demo project's settings as the tests' own process uses them.

Servers that tests start take `project.settings` and an environment of their own; nothing of this leaks to them.
"""

import os
from unittest import mock

from mcp_sessions.oauth import provider

_ENVIRONMENT = {
    "DJANGO_SECRET_KEY": "only-for-tests",
    "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
    "DJANGO_HTTPS": "0",
    "DATABASE_URL": "sqlite://:memory:",
    "PATH": os.environ["PATH"],
}

with mock.patch.dict(os.environ, _ENVIRONMENT, clear=True):
    from project.settings import *  # noqa: F403

os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"

INSTALLED_APPS += ["rest_framework.authtoken", "oauth2_provider"]  # noqa: F405 - of the demo
OAUTH2_PROVIDER = provider("https://auth.example.com", scopes={"mcp": "Use the tools"})

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast; nothing here is secret
WHITENOISE_AUTOREFRESH = True  # the tests need no STATIC_ROOT

MCP_SESSIONS_TEST_REDIS = True  # many tests are about what is in it; others take it away
