"""Probes for load balancers and Kubernetes: add `healthz` and `readyz` to your URLs."""

from collections.abc import Iterator

from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from mcp_sessions import lifecycle
from mcp_sessions.conf import aliases, endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for


def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers at all; restart it when this fails. Uses no database and no store."""
    return _plain("ok", status=200)


def readyz(request: HttpRequest) -> HttpResponse:
    """200 if all databases and all endpoints' session stores answer, and every SERVER can be imported.

    Otherwise 503, with one line for each problem; also as soon as the process is told to stop.
    """
    if lifecycle.is_stopping():
        return _plain("This process is stopping.", status=503)
    problems = [*_silent_databases(), *_silent_stores(), *_missing_servers()]
    return _plain("\n".join(problems), status=503) if problems else _plain("ready", status=200)


def _plain(text: str, *, status: int) -> HttpResponse:
    return HttpResponse(
        text + "\n",
        status=status,
        content_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store"},
    )


def _silent_databases() -> Iterator[str]:
    for alias in connections:
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1")
        except (DatabaseError, InterfaceError):
            yield f"The database {alias!r} does not answer."


def _missing_servers() -> Iterator[str]:
    for alias in aliases():
        try:
            import_string(endpoint(alias).server)
        except ImportError as error:
            yield f"MCP_SESSIONS[{alias!r}]['SERVER'] cannot be imported: {error}"


def _silent_stores() -> Iterator[str]:
    """Endpoints may share a Redis: once it was silent, none waits for it again."""
    silent: set[str] = set()
    for alias in aliases():
        cache = endpoint(alias).cache
        try:
            if cache not in silent:
                sync_store_for(alias).run(nodes.list_nodes())
        except StoreUnavailable:
            silent.add(cache)
        if cache in silent:
            yield f"The session store of the endpoint {alias!r} does not answer."
