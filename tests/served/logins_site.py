"""Settings: a site with logins and with tokens of Django REST framework, and an endpoint for each."""

from typing import Any

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS as _FROM_DEMO

INSTALLED_APPS = [*_FROM_DEMO, "rest_framework", "rest_framework.authtoken"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast; nothing here is secret
ROOT_URLCONF = "tests.served.logins_urls"

_COMMON: dict[str, Any] = {"SERVER": "tests.served.whoami.server"}
MCP_SESSIONS = {
    "session": _COMMON | {"AUTHENTICATION": ["session"], "PATH": "session", "NAMESPACE": "session"},
    "drf": _COMMON | {"AUTHENTICATION": ["drf"], "PATH": "drf", "NAMESPACE": "drf"},
}
