"""Sessions in Django's admin: listed, searched, looked at, and force-expired. Nothing can be added or changed."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from mcp_sessions import conf
from mcp_sessions.admin import filters
from mcp_sessions.admin.actions import force_expire
from mcp_sessions.admin.columns import SessionColumns
from mcp_sessions.errors import StoreUnavailable, UnsupportedLookup
from mcp_sessions.inventory import display, search
from mcp_sessions.inventory.nodes import server_processes
from mcp_sessions.models import MCPSession
from mcp_sessions.store.factory import sync_store_for

logger: Final = logging.getLogger(__name__)

View = TypeVar("View", bound=Callable[..., HttpResponse])

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[MCPSession]
else:
    ModelAdmin = admin.ModelAdmin


def _says_when_the_store_is_down(view: View) -> View:
    """Answer 503 with a page for people, instead of a traceback."""

    @wraps(view)
    def guarded(self: "MCPSessionAdmin", request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(self, request, *args, **kwargs)
        except StoreUnavailable as error:
            logger.warning("The admin cannot ask a session store: %s", error)
            return self.unavailable(request)

    return cast("View", guarded)


class SessionChangeList(ChangeList):
    """Reads the page and the total at once, so that a page costs the same however many sessions there are."""

    def get_results(self, request: HttpRequest) -> None:
        limit = self.list_max_show_all if self.show_all else self.list_per_page
        offset = 0 if self.show_all else max(0, self.page_num - 1) * limit
        self.queryset = self.queryset.read(offset=offset, limit=limit)
        super().get_results(request)
        self.show_admin_actions = self.result_count > 0
        if not self.query and not self.has_active_filters:
            # Then nothing is left out, and there is nothing to offer by "Show all".
            self.full_result_count = self.result_count


@admin.register(MCPSession)
class MCPSessionAdmin(SessionColumns, ModelAdmin):
    """Looking needs the permission to view; force-expiring needs `expire_session` as well."""

    actions = (force_expire,)
    list_display = ("session", "client", "user", "activity", "expires_in", "requests", "protocol", "created")
    list_filter = (
        filters.EndpointFilter,
        filters.ClientFilter,
        filters.ProtocolFilter,
        filters.ActivityFilter,
    )
    list_per_page = 50
    list_max_show_all = 200
    ordering = ("-last_activity",)
    search_fields = ("fingerprint", "client_name", "principal")
    search_help_text = search.HELP
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ("activity",)
    fieldsets = (
        (None, {"fields": ("full_fingerprint", "endpoint", "client", "user", "protocol", "phase")}),
        (
            "Activity",
            {"fields": ("created_at", "active_at", "expires_at", "deadline_at", "requests", "last_call")},
        ),
        ("Chosen by the client", {"fields": ("tools", "log_level", "client_info", "capabilities")}),
        ("State", {"fields": ("state",)}),
    )

    class Media:
        css: Final = {"all": ("mcp_sessions/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: MCPSession | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: MCPSession | None = None) -> bool:
        return False

    def has_expire_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("mcp_sessions.expire_session")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SessionChangeList

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        first, *others = self.list_display
        return (first, "endpoint", *others) if len(conf.aliases()) > 1 else self.list_display

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        found = search.search(text, filters.chosen_aliases(request))
        if found.ambiguous:
            self.message_user(request, "More clients or users match than are shown: type more of the name.")
        return queryset.matching(found.matches), False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> MCPSession | None:
        """The session; on the history page also one that is gone and was force-expired."""
        found = super().get_object(request, object_id, from_field)
        match = request.resolver_match
        if found is None and match is not None and match.url_name == f"{self._url_name}_history":
            return MCPSession(fingerprint=object_id) if _is_in_log(object_id) else None
        return found

    @_says_when_the_store_is_down
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.POST.get("action") == force_expire.__name__ and not self.has_expire_permission(request):
            raise PermissionDenied
        context = {"local_only": not all(sync_store_for(alias).shared for alias in conf.aliases())}
        try:
            return super().changelist_view(request, {**context, **(extra_context or {})})
        except UnsupportedLookup as error:
            self.message_user(request, f"{error} The filters were cleared.", messages.WARNING)
            return HttpResponseRedirect(request.path)

    @_says_when_the_store_is_down
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
        context = {"can_expire": self.has_expire_permission(request)}
        response = super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})
        # Rendered here, because that reads the state of the session, which may fail.
        return response.render() if isinstance(response, TemplateResponse) else response

    @_says_when_the_store_is_down
    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().history_view(request, object_id, {"media": self.media, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern]:
        name = f"{self._url_name}_processes"
        own = path("processes/", self.admin_site.admin_view(self.processes_view), name=name)
        return [own, *super().get_urls()]

    @_says_when_the_store_is_down
    def processes_view(self, request: HttpRequest) -> HttpResponse:
        """Which server processes there are."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        aliases = conf.aliases()
        context = self.page_context(request, "Server processes")
        rows = [{**asdict(p), "ago": display.ago(p.seen)} for p in server_processes(aliases)]
        context |= {"processes": rows, "several": len(aliases) > 1}
        return TemplateResponse(request, "admin/mcp_sessions/mcpsession/processes.html", context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Sessions are force-expired; the permission to delete is not used."""
        raise PermissionDenied

    def unavailable(self, request: HttpRequest) -> HttpResponse:
        """503: a store cannot be asked, and so nothing is known of its sessions."""
        aliases = conf.aliases()
        context = self.page_context(request, "The session store does not answer")
        context["aliases"] = aliases if len(aliases) > 1 else ()
        template = "admin/mcp_sessions/mcpsession/store_unavailable.html"
        return TemplateResponse(request, template, context, status=503, headers={"Retry-After": "5"})

    def page_context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        """What Django's form page needs to stand in for a page of ours; the title is its last breadcrumb, too."""
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "original": title,
            "opts": self.opts,
            "media": self.media,
            "has_view_permission": self.has_view_permission(request),
        }

    @property
    def _url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def _gone(self, request: HttpRequest, fingerprint: str) -> HttpResponseRedirect:
        """To the history of a session that was force-expired here, else to the list."""
        self.message_user(
            request, "There is no such session any more: it ended, or it expired.", messages.WARNING
        )
        page, args = ("history", [fingerprint]) if _is_in_log(fingerprint) else ("changelist", [])
        name = f"admin:{self._url_name}_{page}"
        return HttpResponseRedirect(reverse(name, args=args, current_app=self.admin_site.name))


def _is_in_log(fingerprint: str) -> bool:
    content_type = ContentType.objects.get_for_model(MCPSession)
    return LogEntry.objects.filter(content_type=content_type, object_id=fingerprint).exists()
