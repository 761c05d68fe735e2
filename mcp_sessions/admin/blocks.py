"""Blocks in the admin: their list, making one, lifting some, and blocking those whose records are ended."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_sessions import blocks
from mcp_sessions.admin import common
from mcp_sessions.admin.actions import expire, reason_of
from mcp_sessions.admin.confirming import ask, confirmed, is_across, selected_by
from mcp_sessions.blocks import BlockKind
from mcp_sessions.inventory.display import number
from mcp_sessions.jobs.selection import Selection
from mcp_sessions.models import Block, MCPSession
from mcp_sessions.records import ANONYMOUS
from mcp_sessions.texts import readable, storable

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Block]
else:
    ModelAdmin = admin.ModelAdmin

#: How long a block may last that is made with the action, by the value of the field; None: until it is lifted.
_DURATIONS: Final[Mapping[str, tuple[Promise, timedelta | None]]] = {
    "an hour": (gettext_lazy("an hour"), timedelta(hours=1)),
    "a day": (gettext_lazy("a day"), timedelta(days=1)),
    "a week": (gettext_lazy("a week"), timedelta(weeks=1)),
    "30 days": (gettext_lazy("30 days"), timedelta(days=30)),
    "until it is lifted": (gettext_lazy("until it is lifted"), None),
}
#: Records, the last used first, of which the action takes principals or client names.
MOST_READ: Final = 5_000
#: Principals, or client names, that the action blocks at most.
MOST_AT_ONCE: Final = 100


@admin.action(permissions=["change"], description=gettext_lazy("Lift selected blocks"))
def lift(modeladmin: "BlockAdmin", request: HttpRequest, queryset: "QuerySet[Block]") -> None:
    """Serve again whoever was refused, on every process."""
    chosen = list(queryset)
    for each in chosen:
        if each.state == "active":
            modeladmin.log_change(request, each, "Lifted.")
    lifted = blocks.unblock(chosen, by=request.user.get_username())
    modeladmin.message_user(
        request, _("Blocks lifted: %(number)s.") % {"number": number(lifted)}, messages.SUCCESS
    )


@admin.register(Block)
class BlockAdmin(ModelAdmin):
    """A block is made, and lifted; it stays in the list, and nothing of it is changed."""

    actions = (lift,)
    list_display = ("shown_value", "kind", "endpoint", "state", "expires", "reason", "by", "created")
    list_filter = ("kind", "lifted", "expires")
    fields = ("kind", "value", "endpoint", "expires", "reason")
    search_fields = ("value", "reason", "by")
    search_help_text = gettext_lazy("Search by what is blocked, the reason, or who has blocked it.")

    class Media:
        css: Final = {"all": ("mcp_sessions/admin.css",)}

    @admin.display(description=gettext_lazy("value"))
    def shown_value(self, obj: Block) -> str:
        return readable(obj.value)

    @admin.display(description=gettext_lazy("state"))
    def state(self, obj: Block) -> str:
        return str(common.STATES[obj.state])

    def has_delete_permission(self, request: HttpRequest, obj: Block | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return super().lookup_allowed(lookup, value, request) and common.fits(value)

    def get_fields(self, request: HttpRequest, obj: Block | None = None) -> tuple[str, ...]:
        if obj is None:
            return self.fields
        shown = ("shown_value" if name == "value" else name for name in self.fields)
        return (*shown, "state", "by", "created", "lifted")

    def get_readonly_fields(self, request: HttpRequest, obj: Block | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"expires": timezone.now().replace(microsecond=0) + timedelta(days=1), **request.GET.dict()}

    def formfield_for_dbfield(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "endpoint":
            return common.endpoint_field(db_field)
        if db_field.name == "value":
            kwargs["widget"] = forms.TextInput(attrs={"size": 60})
        return common.labelled(super().formfield_for_dbfield(db_field, request, **kwargs))

    def save_model(self, request: HttpRequest, obj: Block, form: Any, change: bool) -> None:
        if not change:
            obj.by = request.user.get_username()
            blocks.save(obj)


@admin.action(
    permissions=["block"], description=gettext_lazy("Force-expire selected %(verbose_name_plural)s and block")
)
def force_expire_and_block(
    modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest, queryset: Any
) -> TemplateResponse | HttpResponseRedirect | None:
    """Ask whom to block and for how long; then block them, and end the records.

    In this order, so that nobody comes back in between. Raises: StoreUnavailable, as `force_expire`; the blocks hold.
    """
    if not request.POST.get("post"):
        selected = selected_by(modeladmin, request, queryset)
        page = ask(modeladmin, request, selected, across=is_across(request))
        page.context_data = (page.context_data or {}) | {
            "action": force_expire_and_block.__name__,
            "durations": {value: words for value, (words, _duration) in _DURATIONS.items()},
        }
        return page
    kind, duration = request.POST.get("block"), request.POST.get("duration", next(iter(_DURATIONS)))
    if kind not in ("principal", "client") or duration not in _DURATIONS:
        said = _("Nothing was done: choose whom to block, and for how long.")
        modeladmin.message_user(request, said, messages.ERROR)
        return None
    taken = confirmed(modeladmin, request, lambda: selected_by(modeladmin, request, queryset))
    if taken is None:
        return None
    _block(modeladmin, request, taken.selection, cast("BlockKind", kind), _DURATIONS[duration][1])
    return expire(modeladmin, request, taken)


def _block(
    modeladmin: "admin.ModelAdmin[MCPSession]",
    request: HttpRequest,
    selection: Selection,
    kind: BlockKind,
    duration: timedelta | None,
) -> None:
    """Block the principals, or the clients' names, of the records. Anonymous clients have no principal to block."""
    rows, more = selection.records(most=MOST_READ)
    whom = {
        (row.alias, row.session.principal if kind == "principal" else row.session.handshake.client_name)
        for row in rows
    }
    nobody = ("", ANONYMOUS) if kind == "principal" else ("",)  # clients call themselves as they like
    wanted = sorted((alias, value) for alias, value in whom if value not in nobody)
    by = request.user.get_username()
    known = _blocked_since(selection.cut_off_ms, kind, by, duration)
    for alias, value in wanted[:MOST_AT_ONCE]:
        if (alias, storable(value)) not in known:
            blocks.block(
                kind, value, duration=duration, endpoint=alias, reason=reason_of(request)[:200], by=by
            )
    said = [_("Blocked: %(number)s.") % {"number": number(min(len(wanted), MOST_AT_ONCE))}]
    if len(wanted) < len(whom):
        said.append(_("Clients that are anonymous, or have no name, were not blocked."))
    if len(wanted) > MOST_AT_ONCE:
        text = _("%(number)s are blocked at a time. The others were not.")
        said.append(text % {"number": number(MOST_AT_ONCE)})
    if more:
        text = _("Only the %(number)s records that were used last were looked at for whom to block.")
        said.append(text % {"number": number(MOST_READ)})
    for text in said:
        modeladmin.message_user(request, text, messages.SUCCESS if text is said[0] else messages.WARNING)


def _blocked_since(
    moments_ms: Mapping[str, int], kind: str, by: str, duration: timedelta | None
) -> set[tuple[str, str]]:
    """Whom an operator has blocked at each endpoint since a moment, for as long: the page may be posted twice."""
    held = Block.objects.active().filter(kind=kind, by=by, endpoint__in=moments_ms)
    return {
        (each.endpoint, each.value)
        for each in held
        if each.created.timestamp() * 1000 >= moments_ms[each.endpoint] and _lasts(each, duration)
    }


def _lasts(made: Block, duration: timedelta | None) -> bool:
    if made.expires is None or duration is None:
        return made.expires is None
    return made.expires - made.created > duration - timedelta(seconds=1)  # two readings of the clock
