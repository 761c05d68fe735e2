"""The home page, and the number of sessions that it keeps up to date."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import get_script_prefix, reverse
from django.views.decorators.cache import never_cache

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.models import MCPSession
from mcp_sessions.store.factory import sync_store_for
from project.catalogue.models import Book

#: The server that the page describes; MCP_SERVER may name another.
DEMO = "project.mcp.server"


@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Say what this is and how to connect a client to it."""
    served = endpoint("default")
    context = {
        "mcp_url": request.build_absolute_uri(get_script_prefix() + served.path),
        "server": served.server,
        "is_demo": served.server == DEMO,
        "books": Book.objects.count(),
        "live": _live(),
        "sessions_url": reverse("admin:mcp_sessions_mcpsession_changelist"),
    }
    return render(request, "home.html", context)


@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """How many sessions are open: `{"sessions": 3, "shared": true}`. `sessions` is null if the store is down."""
    return JsonResponse(_live())


def _live() -> dict[str, int | bool | None]:
    shared = sync_store_for("default").shared
    try:
        return {"sessions": MCPSession.objects.filter(endpoint="default").count(), "shared": shared}
    except StoreUnavailable:
        return {"sessions": None, "shared": shared}
