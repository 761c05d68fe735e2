"""Force-expiring records from the admin: the action, and what ends them, which is a job."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connections, router
from django.http import HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_sessions.admin import common
from mcp_sessions.admin.confirming import ask, confirmed, is_across, selected_by
from mcp_sessions.audit.models import ENDED, FINISHED, EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.display import number
from mcp_sessions.inventory.kinds import counted
from mcp_sessions.jobs import driving
from mcp_sessions.jobs.selection import Snapshot
from mcp_sessions.jobs.table import entries
from mcp_sessions.models import MCPSession
from mcp_sessions.records import Kind

#: Seconds for which the page that began a job goes on with it; then the page of the job shows its progress.
AT_ONCE: Final = 1.5


@admin.action(
    permissions=["expire"], description=gettext_lazy("Force-expire selected %(verbose_name_plural)s")
)
def force_expire(
    modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, queryset: Any
) -> TemplateResponse | HttpResponseRedirect | None:
    """Ask for confirmation, then end the records. From then on no node serves them.

    Raises: StoreUnavailable; the job stands, and can be resumed.
    """
    if not request.POST.get("post"):
        selected = selected_by(modeladmin, request, queryset)
        return ask(modeladmin, request, selected, across=is_across(request))
    taken = confirmed(modeladmin, request, lambda: selected_by(modeladmin, request, queryset))
    return None if taken is None else expire(modeladmin, request, taken)


def expire(
    modeladmin: "admin.ModelAdmin[Any]", request: HttpRequest, taken: Snapshot
) -> HttpResponseRedirect | None:
    """End what was confirmed. The page of the job if it takes longer. Raises: StoreUnavailable."""
    job = driving.begin(taken, by=request.user.get_username(), reason=reason_of(request))
    picked = [fingerprint for source in taken.selection.sources for fingerprint in source.picked]
    reason = f" Reason: {job.reason}" if job.reason else ""
    log(request, job, f"Force-expired: {job.described}, job {job.pk}.{reason}", fingerprints=picked)
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
    if connections[router.db_for_write(EndingJob)].settings_dict["ATOMIC_REQUESTS"]:
        # Here, intentions would not be in the database before the ends.
        return _page_of(modeladmin, request, job)
    try:
        job = driving.drive(job, seconds=AT_ONCE)
    except StoreUnavailable:
        url = _page_of(modeladmin, request, job).url
        go_on = format_html('<a href="{}">{}</a>', url, _("Go on with %(job)s") % {"job": job})
        text = format_html("{} {}", _("The session store went away."), go_on)
        modeladmin.message_user(request, text, messages.ERROR)
        raise
    if job.state != FINISHED:
        return _page_of(modeladmin, request, job)
    if said := words(job):
        modeladmin.message_user(request, said, messages.SUCCESS)
    if job.gone:
        modeladmin.message_user(request, already_gone(job.gone), messages.WARNING)
    return None


def already_gone(records: int) -> str:
    text = ngettext("%(number)s record was already gone.", "%(number)s records were already gone.", records)
    return text % {"number": number(records)}


def _page_of(
    modeladmin: "admin.ModelAdmin[Any]", request: HttpRequest, job: EndingJob
) -> HttpResponseRedirect:
    """The page of a job; where the admin site has none, the list with a message that says how the job goes on."""
    page = common.page_of(modeladmin, EndingJob, job.pk)
    if page is not None:
        return HttpResponseRedirect(page)
    text = _(
        "This admin site has no pages of jobs. Go on with manage.py mcp_sessions jobs resume %(number)s, and register "
        "EndingJob."
    ) % {"number": job.pk}
    modeladmin.message_user(request, text, messages.WARNING)
    site = modeladmin.admin_site.name
    return HttpResponseRedirect(reverse("admin:mcp_sessions_mcpsession_changelist", current_app=site))


def reason_of(request: HttpRequest) -> str:
    return request.POST.get("reason", "").strip()


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


def _success(job: EndingJob) -> str:
    if not job.ended:
        return "" if job.gone else _("Nothing was left to end.")
    # A job that fits into one request has few entries.
    kinds = entries().filter(job=job, outcome=ENDED).values_list("kind", flat=True)
    text = ngettext(
        "Force-expired %(records)s. No node serves it any more.",
        "Force-expired %(records)s. No node serves them any more.",
        job.ended,
    )
    return text % {"records": counted(_by_kind(kinds))}


def _by_kind(kinds: Iterable[str]) -> Mapping[Kind, int]:
    return Counter(cast("Kind", kind) for kind in kinds)
