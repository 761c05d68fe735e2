"""The home page, and the count of sessions that it keeps fresh."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from mcp_sessions.conf import endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.registry import directory_for


@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """What this is, and how to connect a client to it."""
    mcp_url = request.build_absolute_uri("/" + endpoint("default").path)
    return render(request, "home.html", {"mcp_url": mcp_url, "live": _live()})


@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """How many sessions are open: `{"sessions": 3, "shared": true}`; `sessions` is null if the store is silent."""
    return JsonResponse(_live())


def _live() -> dict[str, int | bool | None]:
    directory = directory_for("default")
    try:
        return {"sessions": directory.count(), "shared": directory.shared}
    except StoreUnavailable:
        return {"sessions": None, "shared": directory.shared}
