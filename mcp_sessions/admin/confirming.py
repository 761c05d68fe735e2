"""The page that asks whether records are to end, and what it hands to what ends them: exactly what it asked about."""

from collections.abc import Callable
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core import signing
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.errors import JobCannotGoOn
from mcp_sessions.inventory.clients import stranded
from mcp_sessions.inventory.kinds import EXPLANATIONS, NAMES, counted, counted_records
from mcp_sessions.inventory.listing import MAX_DEPTH, SessionQuery
from mcp_sessions.jobs.selection import Selection, Snapshot, snapshot
from mcp_sessions.models import MCPSession
from mcp_sessions.records import KINDS

#: Records that the page names.
MAX_NAMED: Final = 50
#: The field with what was asked about.
CONFIRMED: Final = "confirmed"
_SALT: Final = "mcp_sessions.admin.confirmed"


def selected_by(
    modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, queryset: Any
) -> SessionQuery:
    """The records that an action is for. Those that were picked by hand are meant whatever the filters of the list:
    they may not pass them any more.
    """
    if is_across(request):
        selected: SessionQuery = queryset.selected
        return selected
    everything: Any = modeladmin.get_queryset(request)
    picked: SessionQuery = everything.filter(pk__in=sorted(_picked(request))).selected
    return picked


def is_across(request: HttpRequest) -> bool:
    """Whether everything in the list is selected, on all of its pages."""
    return request.POST.get("select_across") == "1"


def _picked(request: HttpRequest) -> set[str]:
    return set(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))


def ask(
    modeladmin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    selected: SessionQuery,
    *,
    across: bool,
    action: bool = True,
) -> TemplateResponse:
    """The page that asks. With `across` there may be more than it names. `action`: its form is that of an action.

    Raises: StoreUnavailable.
    """
    taken = snapshot(selected, closed=True)
    page = taken.named or selected.page(limit=MAX_NAMED if across else MAX_DEPTH)
    shown = MCPSession.from_rows(page.rows[:MAX_NAMED] if across else page.rows)
    named = shown[:MAX_NAMED]
    total = page.total - taken.left
    present = [kind for kind in KINDS if page.counts.get(kind)]
    context = {
        **common.context(modeladmin, request, _("Force-expire records")),
        "named": named,
        "counted": counted(page.counts),
        "only_kind": NAMES[present[0]] if len(present) == 1 else None,
        "consequences": [EXPLANATIONS[kind].ends for kind in present],
        "stranded": stranded(each.client_name for each in shown if each.record.kind == "session"),
        "more": total - len(named),
        "total": total,
        "counted_records": counted_records(total),
        "left": taken.left,
        "gone": taken.gone,
        "several_endpoints": len(conf.aliases()) > 1,
        "across": across,
        "may_be_joined": taken.selection.may_be_joined,
        # Django asks for a checkbox: one stands for all where all pages are selected.
        "picked": [session.pk for session in (shown[:1] if across else shown)] if action else [],
        "is_action": action,
        CONFIRMED: _signed(taken),
        "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
    }
    request.current_app = modeladmin.admin_site.name  # as ModelAdmin's views do
    return TemplateResponse(request, "admin/mcp_sessions/mcpsession/force_expire_confirmation.html", context)


def confirmed(
    modeladmin: "admin.ModelAdmin[Any]", request: HttpRequest, selected: Callable[[], SessionQuery]
) -> Snapshot | None:
    """What the page asked about; what is selected now, if nobody was asked; None, and a message, if it cannot be read.

    Raises: StoreUnavailable.
    """
    text = request.POST.get(CONFIRMED)
    if text is None:
        return snapshot(selected())
    try:
        taken = _read(text)
    except (signing.BadSignature, ValueError, JobCannotGoOn):
        taken = None
    if taken is None or not taken.selection.cut_off_ms.keys() <= set(conf.aliases()):
        said = _("Nothing was done: what you confirmed cannot be read any more. Select the records again.")
        modeladmin.message_user(request, said, messages.ERROR)
        return None
    return taken


def _signed(taken: Snapshot) -> str:
    """A snapshot as the value of a field, which nobody can change."""
    facts = [taken.selection.as_json(), taken.expected, taken.gone, taken.described]
    return signing.dumps(facts, salt=_SALT, compress=True)


def _read(text: str) -> Snapshot:
    """Raises: BadSignature, or ValueError or JobCannotGoOn for that of another release."""
    selection, expected, gone, described = signing.loads(text, salt=_SALT)
    return Snapshot(
        selection=Selection.from_json(selection), expected=expected, gone=gone, described=described
    )
