"""Sessions and other records in Django's admin: list, search, view and force-expire them.

Nothing can be added or changed.
"""

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import translation
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from mcp_sessions import conf
from mcp_sessions.admin import (
    common,
    ending_all,
    exporting,
    filters,
    finding,
    of_user,
    operating,
    overview,
)
from mcp_sessions.admin.actions import force_expire
from mcp_sessions.admin.audit import AuditEntryAdmin, EndingJobAdmin, HistoryLine
from mcp_sessions.admin.blocks import BlockAdmin, force_expire_and_block
from mcp_sessions.admin.changelist import RecordChangeList
from mcp_sessions.admin.columns import SECTIONS, RecordColumns
from mcp_sessions.admin.live_columns import LiveColumns
from mcp_sessions.admin.tokens import PersonalTokenAdmin
from mcp_sessions.errors import StoreUnavailable, UnsupportedLookup
from mcp_sessions.inventory import search
from mcp_sessions.inventory.display import ENGLISH
from mcp_sessions.inventory.kinds import EXPLANATIONS, NAMES
from mcp_sessions.models import AuditEntry, Block, EndingJob, MCPSession, PersonalToken
from mcp_sessions.records import KINDS
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.texts import storable

__all__ = [
    "AuditEntryAdmin",
    "BlockAdmin",
    "EndingJobAdmin",
    "MCPSessionAdmin",
    "PersonalTokenAdmin",
    "register",
]

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[MCPSession]
else:
    ModelAdmin = admin.ModelAdmin


#: The kinds of records in words, and what each is.
_EXPLANATIONS: Final = [(NAMES[kind][0], EXPLANATIONS[kind].is_) for kind in KINDS]


@admin.register(MCPSession)
class MCPSessionAdmin(RecordColumns, LiveColumns, ModelAdmin):
    """Viewing needs `view_mcpsession`, and `view_session_state` to read what tools keep in records.

    Force-expiring, and whatever else an operator asks of clients and processes, also needs `expire_session`, and
    blocking clients `add_block`.
    """

    actions = (force_expire, force_expire_and_block)
    list_display = (
        "record",
        "kind",
        "client_shown",
        "principal_name",
        "state_now",
        "last_ended",
        "errors",
        "activity",
        "expires_in",
        "requests",
    )
    list_filter = (
        filters.EndpointFilter,
        filters.KindFilter,
        filters.LabelFilter,
        filters.ClientFilter,
        filters.ProtocolFilter,
        filters.UserFilter,
        filters.ActivityFilter,
        filters.DoingFilter,
    )
    list_per_page = 50
    ordering = ("-last_activity",)
    search_fields = ("fingerprint", "client_name", "principal")
    search_help_text = search.HELP
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ("activity",)

    class Media:
        css: Final = {"all": ("mcp_sessions/admin.css",)}
        js: Final = ("mcp_sessions/refresh.js",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: MCPSession | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: MCPSession | None = None) -> bool:
        return False

    def has_expire_permission(self, request: HttpRequest) -> bool:
        """Nobody ends, cancels, drains or notifies what they may not see."""
        return self.has_view_permission(request) and request.user.has_perm("mcp_sessions.expire_session")

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Also for the API."""
        return self.has_view_permission(request) and request.user.has_perm("mcp_sessions.export_session")

    def has_block_permission(self, request: HttpRequest) -> bool:
        return self.has_expire_permission(request) and request.user.has_perm("mcp_sessions.add_block")

    @cached_property
    def _empty_value_display(self) -> SafeString:
        return super().get_empty_value_display()

    def get_empty_value_display(self) -> SafeString:
        """As Django has it, which makes it anew for each of the 600 cells of a page."""
        return self._empty_value_display

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RecordChangeList

    def get_queryset(self, request: HttpRequest) -> Any:
        """The records of the endpoints that are asked for and answer. Raises: StoreUnavailable if none does."""
        records: Any = super().get_queryset(request)
        return records.at(filters.chosen_aliases(request))

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        first, kind, *others = self.list_display
        return (first, kind, "endpoint", *others) if len(conf.aliases()) > 1 else self.list_display

    def get_fieldsets(self, request: HttpRequest, obj: MCPSession | None = None) -> Any:
        """What is meaningful for the kind of the record."""
        sections = () if obj is None else SECTIONS[obj.record.kind]
        if not request.user.has_perm("mcp_sessions.view_session_state"):
            sections = [(title, tuple(map(_without_values, fields))) for title, fields in sections]
        return [(title, {"fields": fields}) for title, fields in sections]

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        chosen = filters.chosen_aliases(request)
        seen = [name for each in filters.surroundings_of(request).values() for name in each.clients]
        found = search.search(text, chosen, seen)
        if found.ambiguous:
            exporting.refuse_parts(request, SEARCH_VAR)
            self.message_user(
                request, _("More clients or users match than are shown. Type more of the name.")
            )
        return queryset.matching(found.matches), False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> MCPSession | None:
        """The record; on the history page, also one that was force-expired here. It is read once in a request.

        Raises: StoreUnavailable, also if it may be where the store is away.
        """
        known: MCPSession | None = getattr(request, "mcp_record", None)
        if known is not None and known.fingerprint == object_id:
            return known
        found = super().get_object(request, object_id, from_field)
        request.mcp_record = found  # type: ignore[attr-defined]
        match = request.resolver_match
        if found is None and match is not None and match.url_name == f"{self._url_name}_history":
            entry = _newest_entry(object_id)
            found = None if entry is None else MCPSession.gone(object_id, entry.title)
        if found is None and (away := common.reach_of(request).away):
            raise StoreUnavailable(f"the record may be at {', '.join(away)}")
        return found

    @common.explains_store_outages
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied  # before what is wrong with the address says which users there are
        if request.POST.get("action") == force_expire.__name__ and not self.has_expire_permission(request):
            raise PermissionDenied
        local = not all(sync_store_for(alias).shared for alias in conf.aliases())
        context = {
            "local_only": local,
            "explanations": _EXPLANATIONS,
            "can_expire": self.has_expire_permission(request),
            "can_export": self.has_export_permission(request),
            "title": _("MCP sessions"),
            "away": common.reach_of(request).away,
        }
        if request.method == "GET":
            for problem in filters.problems(request):
                self.message_user(request, problem, messages.WARNING)
        try:
            return super().changelist_view(request, {**context, **(extra_context or {})})
        except UnsupportedLookup as error:
            text = _("%(error)s The filters were cleared.") % {"error": error}
            self.message_user(request, text, messages.WARNING)
            return HttpResponseRedirect(request.path)

    @common.explains_store_outages
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        fingerprint = unquote(object_id)
        if self.has_view_permission(request) and self.get_object(request, fingerprint) is None:
            return self._gone(request, fingerprint)
        if request.method == "POST" and "notify" in request.POST:
            return operating.notify_view(self, request, fingerprint)
        context = {"can_expire": self.has_expire_permission(request)}
        response = super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})
        # Rendered here, because rendering reads the state of the record, which may fail.
        return response.render() if isinstance(response, TemplateResponse) else response

    @common.explains_store_outages
    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What operators did to the record: the entries of the audit, in the place of those of Django's log."""
        entries = AuditEntry.objects.filter(fingerprint=storable(unquote(object_id)))
        page = self.get_paginator(request, entries, 100).get_page(request.GET.get(PAGE_VAR, 1))
        page.object_list = [HistoryLine(entry) for entry in page.object_list]
        context = {"media": self.media, "action_list": page, "pagination_required": page.has_other_pages()}
        return super().history_view(request, object_id, {**context, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern]:
        # The address and its name are public, and older than the word "node".
        name = f"{self._url_name}_processes"
        own = [
            path("processes/", self.admin_site.admin_view(self.nodes_view), name=name),
            path(
                "of-user/<str:user_id>/force-expire/",
                common.non_atomic(self.admin_site.admin_view(self.expire_user_view)),
                name=f"{self._url_name}_expire_user",
            ),
            path(
                "overview/", self.admin_site.admin_view(self.overview_view), name=f"{self._url_name}_overview"
            ),
            path("now/", self.admin_site.admin_view(self.now_view), name=f"{self._url_name}_now"),
            path("end-all/", self.admin_site.admin_view(self.end_all_view), name=f"{self._url_name}_end_all"),
            path("find/", self.admin_site.admin_view(self.find_view), name=f"{self._url_name}_find"),
            path(
                "export/<str:format>/",
                self.admin_site.admin_view(self.export_view),
                name=f"{self._url_name}_export",
            ),
            path("api/records/", self.admin_site.admin_view(self.api_view), name=f"{self._url_name}_api"),
        ]
        return [*own, *super().get_urls()]

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        """What is wrong, and what happened lately. A store that does not answer is one of the things."""
        return overview.view(self, request)

    @common.explains_store_outages
    def end_all_view(self, request: HttpRequest) -> HttpResponse:
        """End every session that was opened before now."""
        return ending_all.view(self, request)

    @common.explains_store_outages
    def expire_user_view(self, request: HttpRequest, user_id: str) -> HttpResponse:
        """End what a Django user has open."""
        return of_user.view(self, request, unquote(user_id))

    @common.explains_store_outages
    def find_view(self, request: HttpRequest) -> HttpResponse:
        """Look up what was typed into the search box."""
        return finding.view(self, request)

    @common.explains_store_outages
    def export_view(self, request: HttpRequest, format: str) -> HttpResponseBase:  # noqa: A002 - of the address
        """The filtered list as a file."""
        return exporting.export(self, request, format)

    def api_view(self, request: HttpRequest) -> HttpResponse:
        """A page of the filtered list as JSON."""
        with translation.override(ENGLISH):  # it is for programs
            return exporting.api(self, request)

    @common.explains_store_outages
    def nodes_view(self, request: HttpRequest) -> HttpResponse:
        """The nodes of all endpoints."""
        return operating.nodes_view(self, request)

    @common.explains_store_outages
    def now_view(self, request: HttpRequest) -> HttpResponse:
        """What runs now in all of them."""
        return operating.now_view(self, request)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Records are force-expired instead; nobody has the permission to delete."""
        raise PermissionDenied

    @property
    def _url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def _gone(self, request: HttpRequest, fingerprint: str) -> HttpResponseRedirect:
        """Redirect to the history of a record that was force-expired here, otherwise to the list."""
        page, args = "changelist", []
        text = _("This record no longer exists: it was ended, or it expired.")
        if _newest_entry(fingerprint) is not None:
            page, args = "history", [fingerprint]
            text = _("This record was force-expired; see below.")
        self.message_user(request, text, messages.WARNING)
        name = f"admin:{self._url_name}_{page}"
        return HttpResponseRedirect(reverse(name, args=args, current_app=self.admin_site.name))


def register(site: admin.AdminSite) -> None:
    """Put all pages of this app on an admin site besides Django's default one, where they are already.

    Raises: AlreadyRegistered.
    """
    site.register(MCPSession, MCPSessionAdmin)
    site.register(AuditEntry, AuditEntryAdmin)
    site.register(EndingJob, EndingJobAdmin)
    site.register(Block, BlockAdmin)
    site.register(PersonalToken, PersonalTokenAdmin)


def _newest_entry(fingerprint: str) -> AuditEntry | None:
    return AuditEntry.objects.filter(fingerprint=storable(fingerprint)).order_by("-pk").first()


def _without_values(field: str) -> str:
    return "state_sizes" if field == "state" else field
