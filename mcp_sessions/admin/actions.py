"""Force-expiring records from the admin: the confirmation page, the action and its audit log."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from mcp_sessions.inventory.kinds import EXPLANATIONS, counted
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, WORDS, Kind

#: Records that one run of the action ends at most.
MAX_ENDED: Final = 5_000
#: Records that the confirmation page names.
MAX_NAMED: Final = 50


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """What became of the records so far."""

    ended: list[MCPSession] = field(default_factory=list)
    gone: int = 0


@admin.action(permissions=["expire"], description="Force-expire selected %(verbose_name_plural)s")
def force_expire(
    modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, queryset: Any
) -> TemplateResponse | None:
    """Ask for confirmation, then end the records. From then on no node serves them.

    Raises: StoreUnavailable; the records that ended before it are recorded and reported all the same.
    """
    across = request.POST.get("select_across") == "1"
    sessions = list(queryset[:MAX_ENDED])
    counts = queryset.count_by_kind() if across else _by_kind(sessions)
    if not request.POST.get("post"):
        return _confirmation(modeladmin, request, sessions, counts=counts, across=across)
    gone = 0 if across else len(_picked(request)) - len(sessions)
    _end(modeladmin, request, sessions, _Outcome(gone=gone))
    if sum(counts.values()) > MAX_ENDED:
        text = f"{MAX_ENDED:,} records are ended at a time. Run the action again for the rest."
        modeladmin.message_user(request, text, messages.WARNING)
    return None


def _picked(request: HttpRequest) -> set[str]:
    return set(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))


def _confirmation(
    modeladmin: "admin.ModelAdmin[MCPSession]",
    request: HttpRequest,
    sessions: Sequence[MCPSession],
    *,
    counts: Mapping[Kind, int],
    across: bool,
) -> TemplateResponse:
    named, total = sessions[:MAX_NAMED], sum(counts.values())
    present = [kind for kind in KINDS if counts.get(kind)]
    context = {
        **common.context(modeladmin, request, "Force-expire records"),
        "named": named,
        "counted": counted(counts),
        "only_kind": WORDS[present[0]] if len(present) == 1 else None,
        "consequences": [EXPLANATIONS[kind].ends for kind in present],
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
        record(request, outcome.ended)
        _tell(modeladmin, request, outcome)


def _end_some(alias: str, sessions: Sequence[MCPSession], by: str, outcome: _Outcome) -> None:
    """End records of one endpoint. Raises: StoreUnavailable; those that ended all the same are in `outcome`."""
    try:
        ended = end_sessions(alias, [session.fingerprint for session in sessions], by=by)
    except NotAllEnded as error:
        outcome.ended += [session for session in sessions if session.fingerprint in error.ended]
        raise
    outcome.ended += [session for session in sessions if session.fingerprint in ended]
    outcome.gone += len(sessions) - len(ended)


def record(request: HttpRequest, ended: Sequence[MCPSession]) -> None:
    """Write one entry of the admin's log for each record. It outlives the record."""
    content_type = ContentType.objects.get_for_model(MCPSession)
    LogEntry.objects.bulk_create(
        [
            LogEntry(
                user_id=cast("int", request.user.pk),  # nobody gets here without logging in
                content_type=content_type,
                object_id=session.pk,
                object_repr=str(session)[:200],
                action_flag=DELETION,
                change_message=_message(session),
            )
            for session in ended
        ],
        batch_size=200,
    )


def _tell(modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, outcome: _Outcome) -> None:
    if outcome.ended:
        what, them = counted(_by_kind(outcome.ended)), "it" if len(outcome.ended) == 1 else "them"
        text = f"Force-expired {what}. No node serves {them} any more."
        modeladmin.message_user(request, text, messages.SUCCESS)
    if outcome.gone:
        were = "record was" if outcome.gone == 1 else "records were"
        modeladmin.message_user(request, f"{outcome.gone:,} {were} already gone.", messages.WARNING)


def _message(session: MCPSession) -> str:
    """What happened to which record, in sentences."""
    is_named = session.record.kind == "handle" and session.record.name
    name = f" Name: {session.shown_id}." if is_named else ""
    return (
        f"Force-expired. Kind: {session.kind_with_label}.{name} Client: {session.client}. "
        f"Principal: {session.principal_name}. Endpoint: {session.endpoint}. "
        f"Requests: {session.record.requests}."
    )


def _by_kind(sessions: Iterable[MCPSession]) -> Mapping[Kind, int]:
    return Counter(session.record.kind for session in sessions)
