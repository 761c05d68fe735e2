"""Force-expiring sessions from the admin: the confirmation page, the action and its audit log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest
from django.template.response import TemplateResponse

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.ending import end_sessions
from mcp_sessions.errors import NotAllEnded
from mcp_sessions.models import MCPSession

#: Sessions that one run of the action ends at most.
MAX_ENDED: Final = 5_000
#: Sessions that the confirmation page names.
MAX_NAMED: Final = 50


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """What became of the sessions so far."""

    ended: list[MCPSession] = field(default_factory=list)
    gone: int = 0


@admin.action(permissions=["expire"], description="Force-expire selected %(verbose_name_plural)s")
def force_expire(
    modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, queryset: Any
) -> TemplateResponse | None:
    """Ask for confirmation, then end the sessions. From then on every node answers them with 404.

    Raises: StoreUnavailable; the sessions that ended before it are recorded and reported all the same.
    """
    across = request.POST.get("select_across") == "1"
    sessions = list(queryset[:MAX_ENDED])
    total = queryset.count() if across else len(sessions)
    if not request.POST.get("post"):
        return _confirmation(modeladmin, request, sessions, total=total, across=across)
    gone = 0 if across else len(_picked(request)) - len(sessions)
    _end(modeladmin, request, sessions, _Outcome(gone=gone))
    if total > MAX_ENDED:
        text = f"{MAX_ENDED:,} sessions are ended at a time. Run the action again for the rest."
        modeladmin.message_user(request, text, messages.WARNING)
    return None


def _picked(request: HttpRequest) -> set[str]:
    return set(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))


def _confirmation(
    modeladmin: "admin.ModelAdmin[MCPSession]",
    request: HttpRequest,
    sessions: Sequence[MCPSession],
    *,
    total: int,
    across: bool,
) -> TemplateResponse:
    named = sessions[:MAX_NAMED]
    context = {
        **common.context(modeladmin, request, "Force-expire sessions"),
        "named": named,
        "more": total - len(named),
        "total": total,
        "gone": 0 if across else len(_picked(request)) - len(sessions),
        "several_endpoints": len(conf.aliases()) > 1,
        "across": across,
        # When all pages are selected, the filters in the address say which sessions: one checkbox stands for all.
        "picked": [session.pk for session in (sessions[:1] if across else sessions)],
        "limit": MAX_ENDED if total > MAX_ENDED else None,
        "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
    }
    request.current_app = modeladmin.admin_site.name  # as ModelAdmin's views do
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/force_expire_confirmation.html", context)


def _end(
    modeladmin: "admin.ModelAdmin[MCPSession]",
    request: HttpRequest,
    sessions: Iterable[MCPSession],
    outcome: _Outcome,
) -> None:
    """End them; whatever happens, record and say which ended."""
    by_endpoint: dict[str, list[MCPSession]] = {}
    for session in sessions:
        by_endpoint.setdefault(session.endpoint, []).append(session)
    try:
        for alias, some in by_endpoint.items():
            _end_some(alias, some, request.user.get_username(), outcome)
    finally:
        _record(request, outcome.ended)
        _tell(modeladmin, request, outcome)


def _end_some(alias: str, sessions: Sequence[MCPSession], by: str, outcome: _Outcome) -> None:
    """End sessions of one endpoint. Raises: StoreUnavailable; those that ended all the same are in `outcome`."""
    try:
        ended = end_sessions(alias, [session.fingerprint for session in sessions], by=by)
    except NotAllEnded as error:
        outcome.ended += [session for session in sessions if session.fingerprint in error.ended]
        raise
    outcome.ended += [session for session in sessions if session.fingerprint in ended]
    outcome.gone += len(sessions) - len(ended)


def _record(request: HttpRequest, ended: Sequence[MCPSession]) -> None:
    """Write one entry of the admin's log for each session. It outlives the session."""
    content_type = ContentType.objects.get_for_model(MCPSession)
    LogEntry.objects.bulk_create(
        [
            LogEntry(
                user_id=cast("int", request.user.pk),  # nobody gets here without logging in
                content_type=content_type,
                object_id=session.pk,
                object_repr=str(session)[:200],
                action_flag=DELETION,
                change_message=f"Force-expired. Client: {session.client}. Principal: {session.principal_name}. "
                f"Endpoint: {session.endpoint}. Requests: {session.record.requests}.",
            )
            for session in ended
        ],
        batch_size=200,
    )


def _tell(modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, outcome: _Outcome) -> None:
    count = len(outcome.ended)
    if count:
        modeladmin.message_user(
            request,
            f"Force-expired {_sessions(count)}. No node serves {_them(count)} any more.",
            messages.SUCCESS,
        )
    if outcome.gone:
        were = "was" if outcome.gone == 1 else "were"
        modeladmin.message_user(request, f"{_sessions(outcome.gone)} {were} already gone.", messages.WARNING)


def _sessions(count: int) -> str:
    return "1 MCP session" if count == 1 else f"{count:,} MCP sessions"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
