"""Probes for load balancers and Kubernetes: add `healthz` and `readyz` to your URLs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from mcp_sessions import lifecycle
from mcp_sessions.conf import aliases, endpoint
from mcp_sessions.conf.rules import SERVE
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.nodes import nodes_of

if TYPE_CHECKING:
    from mcp_sessions.serving.runtime import Runtime


def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers at all; restart it when this fails. Uses no database and no store."""
    return _plain("ok", status=200)


def readyz(request: HttpRequest) -> HttpResponse:
    """200 if all databases and all endpoints' session stores answer, and every SERVER can be imported.

    Otherwise 503, with one line for each problem; also as soon as the process is told to stop, and
    while an operator drains it. With 200, one line for
    each thing that is wrong and no reason to send requests elsewhere. A store that is away is one where ON_STORE_DOWN
    is "serve" and the process has reached it before: then the first line is "degraded".
    """
    if lifecycle.is_stopping():
        return _plain("This process is stopping.", status=503)
    if lifecycle.is_draining():
        return _plain("An operator drains this process.", status=503)
    silent, degraded, notes = _stores()
    problems = [*_silent_databases(), *silent, *_missing_servers()]
    if problems:
        return _plain("\n".join(problems), status=503)
    return _plain("\n".join(["degraded" if degraded else "ready", *degraded, *notes]), status=200)


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


def _stores() -> tuple[list[str], list[str], list[str]]:
    """The stores that do not answer, those of them without which endpoints go on, and what the others say of the nodes.

    Endpoints may share a Redis: once it was silent, none waits for it again.
    """
    silent: set[str] = set()
    problems, degraded, notes = [], [], []
    for alias in aliases():
        cache, serving = endpoint(alias).cache, _serving(alias)
        # To ask a store that hangs takes longer than a probe may: where heartbeats know, nobody asks.
        is_away = cache in silent or any(not each.context.node.is_in_touch for each in serving)
        try:
            if not is_away and any(node.is_stranger for node in nodes_of([alias])):
                notes.append(f"The nodes of the endpoint {alias!r} have different SECRET_KEYs.")
        except StoreUnavailable:
            silent.add(cache)
            is_away = True
        problem = f"The session store of the endpoint {alias!r} does not answer."
        if serving and (is_away or any(each.outage.lasts for each in serving)):
            served = sum(each.outage.served for each in serving)
            degraded.append(f"{problem} This process has served {served} requests without a store.")
        elif is_away:
            problems.append(problem)
    return problems, degraded, notes


def _serving(alias: str) -> "list[Runtime]":
    """What serves the endpoint in this process and goes on without its store, which it has reached before."""
    if endpoint(alias).on_store_down != SERVE:
        return []
    # Here, because `manage.py` imports these views and needs no server.
    from mcp_sessions.serving.runtime import runtimes_of

    return [runtime for runtime in runtimes_of(alias) if runtime.context.node.has_joined]
