"""Probes for load balancers and Kubernetes: add `healthz` and `readyz` to your URLs."""

from collections.abc import Iterator

from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from mcp_sessions import lifecycle
from mcp_sessions.conf import aliases, endpoint
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.nodes import nodes_of


def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers at all; restart it when this fails. Uses no database and no store."""
    return _plain("ok", status=200)


def readyz(request: HttpRequest) -> HttpResponse:
    """200 if all databases and all endpoints' session stores answer, and every SERVER can be imported.

    Otherwise 503, with one line for each problem; also as soon as the process is told to stop. With 200, one line for
    each thing that is wrong and no reason to send requests elsewhere.
    """
    if lifecycle.is_stopping():
        return _plain("This process is stopping.", status=503)
    silent, notes = _stores()
    problems = [*_silent_databases(), *silent, *_missing_servers()]
    if problems:
        return _plain("\n".join(problems), status=503)
    return _plain("\n".join(["ready", *notes]), status=200)


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


def _stores() -> tuple[list[str], list[str]]:
    """The stores that do not answer, and what those that do say of the nodes.

    Endpoints may share a Redis: once it was silent, none waits for it again.
    """
    silent: set[str] = set()
    problems, notes = [], []
    for alias in aliases():
        cache = endpoint(alias).cache
        try:
            if cache not in silent and any(node.is_stranger for node in nodes_of([alias])):
                notes.append(f"The nodes of the endpoint {alias!r} have different SECRET_KEYs.")
        except StoreUnavailable:
            silent.add(cache)
        if cache in silent:
            problems.append(f"The session store of the endpoint {alias!r} does not answer.")
    return problems, notes
