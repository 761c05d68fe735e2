"""The same project for clients whom a proxy has signed in, with limits for each."""

import os

from benchmarks.servers.ours_settings import *  # noqa: F403

SECRET_KEY = os.environ["SECRET_KEY"]  # of all processes
_ENTRY = MCP_SESSIONS["default"]  # noqa: F405
MCP_SESSIONS = {
    "default": {
        **_ENTRY,
        "AUTHENTICATION": ["proxy"],
        "TRUSTED_PROXIES": ["127.0.0.1"],
        "MAX_SESSIONS_PER_PRINCIPAL": 100,
        "RATE_LIMITS": {
            "requests per principal": "6000/m",
            "requests per address": "6000/m",
            "initialize per principal": "60/m",
            "initialize per address": "60/m",
        },
    }
}
