"""The ASGI application: the MCP endpoints and Django's own pages."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django_application = get_asgi_application()

from mcp_sessions.routing import with_mcp  # noqa: E402 - must come after Django is set up
from mcp_sessions.startup import patch_daphne, tune_garbage_collector  # noqa: E402

application = with_mcp(django_application)

patch_daphne()  # for `daphne project.asgi:application`
tune_garbage_collector()
