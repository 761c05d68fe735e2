"""The libraries that a server of the demo imports, without the demo, the app or any settings; see support/forks.py.

Processes are forked after these imports, so nothing here may start a thread, install a reactor or read settings.
"""

# ruff: noqa: F401 - these are imported so that forks have them

import sys
import threading

import autobahn.twisted.websocket
import channels.auth
import channels.routing
import channels.security.websocket
import daphne.http_protocol
import django.contrib.admin.sites
import django.contrib.staticfiles.handlers
import django.core.handlers.asgi
import django.db.backends.sqlite3.base
import django.db.migrations.operations
import django.db.models
import django_redis.client
import mcp.server.mcpserver
import mcp.types.methods
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
import twisted.internet.posixbase
import twisted.protocols.tls
import twisted.web.http
import whitenoise.middleware
from django.conf import settings

from tests.support.forks import die_with_parent

assert threading.active_count() == 1
assert "twisted.internet.reactor" not in sys.modules
assert not settings.configured
die_with_parent()
