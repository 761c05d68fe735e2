"""Force-expiring records from the admin: the confirmation page, and the action, which is a job."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connections, router
from django.http import HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.audit.models import ENDED, FINISHED, EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.clients import stranded
from mcp_sessions.inventory.kinds import EXPLANATIONS, counted
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import cut_offs, snapshot
from mcp_sessions.jobs.table import entries
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS, WORDS, Kind

#: Records that the confirmation page names.
MAX_NAMED: Final = 50
#: Seconds for which the page that began a job goes on with it; then the page of the job shows its progress.
AT_ONCE: Final = 1.5
#: Names of fields on the confirmation page.
REASON: Final = "reason"
CUT_OFF: Final = "cut_off"


@admin.action(permissions=["expire"], description="Force-expire selected %(verbose_name_plural)s")
def force_expire(
    modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, queryset: Any
) -> TemplateResponse | HttpResponseRedirect | None:
    """Ask for confirmation, then end the records. From then on no node serves them.

    Raises: StoreUnavailable; the job stands, and can be resumed.
    """
    across = request.POST.get("select_across") == "1"
    if not request.POST.get("post"):
        shown = list(queryset[:MAX_NAMED] if across else queryset)
        counts = queryset.count_by_kind() if across else Counter(each.record.kind for each in shown)
        return confirmation(
            modeladmin,
            request,
            shown,
            counts=counts,
            gone=0 if across else len(_picked(request)) - len(shown),
            across=across,
        )
    return expire(modeladmin, request, queryset.selected)


def expire(
    modeladmin: "admin.ModelAdmin[Any]", request: HttpRequest, selected: SessionQuery
) -> HttpResponseRedirect | None:
    """End what was confirmed: only what was there when the confirmation page was made.

    The page of the job if it takes longer. Raises: StoreUnavailable.
    """
    taken = snapshot(selected, cut_off_ms=_cut_off(request))
    job = driving.begin(taken, by=request.user.get_username(), reason=reason_of(request))
    picked = [fingerprint for source in taken.selection.sources for fingerprint in source.picked]
    reason = f" Reason: {job.reason}" if job.reason else ""
    log(request, job, f"Force-expired: {job.described}, {job}.{reason}", fingerprints=picked)
    return carry_out(modeladmin, request, job, _success)


def carry_out(
    modeladmin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    job: EndingJob,
    words: Callable[[EndingJob], str],
) -> HttpResponseRedirect | None:
    """Drive a job for a moment. Its page if it takes longer, else nothing, and messages that say what became of it.

    Raises: StoreUnavailable.
    """
    page = HttpResponseRedirect(
        reverse(f"admin:{PAGE}", args=[job.pk], current_app=modeladmin.admin_site.name)
    )
    if connections[router.db_for_write(EndingJob)].settings_dict["ATOMIC_REQUESTS"]:
        return page  # here, intentions would not be in the database before the ends
    try:
        job = driving.drive(job, seconds=AT_ONCE)
    except StoreUnavailable:
        text = format_html('The session store went away. <a href="{}">Go on with {}</a>', page.url, job)
        modeladmin.message_user(request, text, messages.ERROR)
        raise
    if job.state != FINISHED:
        return page
    if said := words(job):
        modeladmin.message_user(request, said, messages.SUCCESS)
    if job.gone:
        were = "record was" if job.gone == 1 else "records were"
        modeladmin.message_user(request, f"{job.gone:,} {were} already gone.", messages.WARNING)
    return None


#: The name of the page of a job.
PAGE: Final = "mcp_sessions_endingjob_change"


def reason_of(request: HttpRequest) -> str:
    return request.POST.get(REASON, "").strip()


def log(request: HttpRequest, job: EndingJob, text: str, *, fingerprints: Sequence[str] = ()) -> None:
    """Write one entry of the admin's log for all of a job."""
    LogEntry.objects.create(
        user_id=cast("int", request.user.pk),  # nobody gets here without logging in
        content_type=ContentType.objects.get_for_model(MCPSession),
        object_id=fingerprints[0] if len(fingerprints) == 1 else "",
        object_repr=job.described[:200],
        action_flag=DELETION,
        change_message=text,
    )


def confirmation(
    modeladmin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    shown: Sequence[MCPSession],
    *,
    counts: Mapping[Kind, int],
    gone: int = 0,
    across: bool,
    action: bool = True,
) -> TemplateResponse:
    """The page that asks. With `across` there may be more than are shown. `action`: its form is that of an action."""
    total, named = sum(counts.values()), shown[:MAX_NAMED]
    present = [kind for kind in KINDS if counts.get(kind)]
    context = {
        **common.context(modeladmin, request, "Force-expire records"),
        "named": named,
        "counted": counted(counts),
        "only_kind": WORDS[present[0]] if len(present) == 1 else None,
        "consequences": [EXPLANATIONS[kind].ends for kind in present],
        "stranded": stranded(each.client_name for each in shown if each.record.kind == "session"),
        "more": total - len(named),
        "total": total,
        "gone": gone,
        "several_endpoints": len(conf.aliases()) > 1,
        "across": across,
        # When all pages are selected, the filters in the address say which sessions: one checkbox stands for all.
        "picked": [session.pk for session in (shown[:1] if across else shown)] if action else [],
        "is_action": action,
        "cut_off": json.dumps(cut_offs(common.reach_of(request).there)),
        "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
    }
    request.current_app = modeladmin.admin_site.name  # as ModelAdmin's views do
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/force_expire_confirmation.html", context)


def _picked(request: HttpRequest) -> set[str]:
    return set(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))


def _cut_off(request: HttpRequest) -> dict[str, int]:
    """The moment of the confirmation page, by endpoint."""
    try:
        found = json.loads(request.POST.get(CUT_OFF, "{}"))
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(alias): ms for alias, ms in found.items() if type(ms) is int}


def _success(job: EndingJob) -> str:
    if not job.ended:
        return ""
    # A job that fits into one request has few entries.
    kinds = entries().filter(job=job, outcome=ENDED).values_list("kind", flat=True)
    them = "it" if job.ended == 1 else "them"
    return f"Force-expired {counted(_by_kind(kinds))}. No node serves {them} any more."


def _by_kind(kinds: Iterable[str]) -> Mapping[Kind, int]:
    return Counter(cast("Kind", kind) for kind in kinds)
