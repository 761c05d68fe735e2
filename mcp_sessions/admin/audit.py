"""What operators did, and the jobs that end records, in the admin. Nothing can be added, changed or deleted."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_sessions import conf
from mcp_sessions.admin import common
from mcp_sessions.audit.models import (
    ACTIONS,
    FINISHED,
    OUTCOMES,
    RUNNING,
    STOPPED,
    STOPPING,
    AuditEntry,
    EndingJob,
)
from mcp_sessions.errors import JobCannotGoOn, StoreUnavailable
from mcp_sessions.inventory.display import number
from mcp_sessions.inventory.kinds import NAMES
from mcp_sessions.inventory.principals import principal_named
from mcp_sessions.jobs import driving, table
from mcp_sessions.records import ANONYMOUS, FINGERPRINT_PREFIX, KINDS
from mcp_sessions.texts import readable

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

#: Entries that a page counts, and pages through.
MOST_COUNTED: Final = 10_000
#: Seconds for which one request of the page of a job goes on with it.
STEP_SECONDS: Final = 1.0
#: What follows every digit of a fingerprint in the order of texts.
_BEHIND: Final = "g"


class _BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts so many entries at most: to count a million takes longer than to show a page of them."""

    @cached_property
    def count(self) -> int:
        entries: Any = self.object_list
        found: int = entries[:MOST_COUNTED].count()
        return found


class _Choice(admin.SimpleListFilter):
    """A filter whose choices are known without looking at the entries."""

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        value = self.value()
        return queryset if value is None else queryset.filter(**{str(self.parameter_name): value})


class ActionFilter(_Choice):
    title, parameter_name = gettext_lazy("action"), "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(action, str(word)) for action, word in ACTIONS.items()]


class OutcomeFilter(_Choice):
    title, parameter_name = gettext_lazy("outcome"), "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(outcome, str(word)) for outcome, word in OUTCOMES.items()]


class KindFilter(_Choice):
    title, parameter_name = gettext_lazy("kind"), "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, str(NAMES[kind][0])) for kind in KINDS]


class EndpointFilter(_Choice):
    title, parameter_name = gettext_lazy("endpoint"), "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(alias, alias) for alias in conf.aliases()] if len(conf.aliases()) > 1 else []


class WhenFilter(admin.SimpleListFilter):
    title, parameter_name = gettext_lazy("when"), "when"
    ages: Final = {
        "hour": (gettext_lazy("Last hour"), timedelta(hours=1)),
        "day": (gettext_lazy("Last day"), timedelta(days=1)),
        "week": (gettext_lazy("Last week"), timedelta(days=7)),
        "month": (gettext_lazy("Last 30 days"), timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(title)) for value, (title, _age) in self.ages.items()]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        _title, age = self.ages.get(self.value() or "", ("", None))
        return queryset if age is None else queryset.filter(when__gte=timezone.now() - age)


class _ReadOnly(ModelAdmin):
    """Nothing can be changed."""

    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 200
    paginator = _BoundedPaginator
    sortable_by = ()
    actions = None

    class Media:
        css: Final = {"all": ("mcp_sessions/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return super().lookup_allowed(lookup, value, request) and common.fits(value)


@admin.register(AuditEntry)
class AuditEntryAdmin(_ReadOnly):
    """Viewing needs `view_auditentry`."""

    list_display = ("when", "record", "done", "user", "shown_client", "by", "reason", "of_job")
    list_filter = (WhenFilter, ActionFilter, OutcomeFilter, KindFilter, EndpointFilter)
    fields = (
        *("when", "shown_action", "shown_outcome", "fingerprint", "shown_kind", "record", "endpoint"),
        *("principal", "user", "shown_client", "by", "reason", "job", "batch"),
    )
    search_fields = ("fingerprint",)
    search_help_text = gettext_lazy(
        "Search by a fingerprint or its first 8 digits, a principal, or the whole name of a user or operator."
    )

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[AuditEntry]", search_term: str
    ) -> "tuple[QuerySet[AuditEntry], bool]":
        """Each meaning of a text is one that an index serves."""
        text = search_term.strip()
        if not text:
            return queryset, False
        digits = text.lower()
        if FINGERPRINT_PREFIX.match(digits):
            return queryset.filter(fingerprint__gte=digits, fingerprint__lt=digits + _BEHIND), False
        return queryset.filter(Q(principal=principal_named(text)) | Q(by=text)), False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        allowed = lookup in ("fingerprint", "job") or super().lookup_allowed(lookup, value, request)
        return allowed and common.fits(value) and common.fits_key(lookup, "job", value)

    @admin.display(description=gettext_lazy("action"))
    def shown_action(self, obj: AuditEntry) -> str:
        return str(ACTIONS.get(obj.action, obj.action))

    @admin.display(description=gettext_lazy("outcome"))
    def shown_outcome(self, obj: AuditEntry) -> str:
        return str(OUTCOMES.get(obj.outcome, obj.outcome))

    @admin.display(description=gettext_lazy("kind"))
    def shown_kind(self, obj: AuditEntry) -> str:
        return str(_kind_words().get(obj.kind, obj.kind))

    @admin.display(description=gettext_lazy("record"))
    def record(self, obj: AuditEntry) -> str:
        return readable(obj.title)

    @admin.display(description=gettext_lazy("client"))
    def shown_client(self, obj: AuditEntry) -> str:
        return readable(obj.client)

    @admin.display(description=gettext_lazy("user"))
    def user(self, obj: AuditEntry) -> str:
        return _("anonymous") if obj.principal == ANONYMOUS else obj.principal_name

    @admin.display(description=gettext_lazy("job"))
    def of_job(self, obj: AuditEntry) -> SafeString | str:
        if obj.job_id is None:
            return ""
        words = _("job %(number)s") % {"number": obj.job_id}
        address = common.page_of(self, EndingJob, obj.job_id)
        return words if address is None else format_html('<a href="{}">{}</a>', address, words)

    @admin.display(description=gettext_lazy("what"))
    def done(self, obj: AuditEntry) -> str:
        return obj.done


@admin.register(EndingJob)
class EndingJobAdmin(_ReadOnly):
    """Viewing needs `view_endingjob`, or what ending records needs; resuming and stopping a job need the latter."""

    list_display = (
        "__str__",
        "created",
        "shown_state",
        "described",
        "shown_ended",
        "shown_expected",
        "by",
        "reason",
    )

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, obj: EndingJob) -> str:
        return obj.state_word

    @admin.display(description=gettext_lazy("ended"), ordering="ended")
    def shown_ended(self, obj: EndingJob) -> str:
        return number(obj.ended)

    @admin.display(description=gettext_lazy("expected"), ordering="expected")
    def shown_expected(self, obj: EndingJob) -> str:
        return number(obj.expected)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[EndingJob]":
        found: QuerySet[EndingJob] = super().get_queryset(request)
        return found.defer("selection", "position")  # which may be long

    def has_view_permission(self, request: HttpRequest, obj: EndingJob | None = None) -> bool:
        return super().has_view_permission(request, obj) or self._may_act(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return super().has_module_permission(request) or self._may_act(request)

    def get_urls(self) -> list[URLPattern]:
        # Intentions must be in the database before the ends: no transaction may be around both.
        view = common.non_atomic(self.admin_site.admin_view(self.job_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_change"
        return [path("<int:pk>/change/", view, name=name), *super().get_urls()]

    @common.explains_store_outages
    def job_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Progress of a job. A POST goes on with it for a moment, stops it, or resumes it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        job = table.jobs().filter(pk=pk).first()
        if job is None:
            raise Http404(_("There is no job %(number)s.") % {"number": pk})
        if request.method == "POST":
            return self._act(request, job)
        is_open = job.state in (RUNNING, STOPPING)
        problem = job.problem if job.state == FINISHED else table.obstacle(job) or job.problem
        context = common.context(self, request, f"{capfirst(str(job))}: {job.described}") | {
            "job": job,
            "numbers": {name: number(getattr(job, name)) for name in ("ended", "expected", "gone")},
            "problem": problem,
            "goes_on": is_open and not table.obstacle(job),
            "may_act": self._may_act(request),
            "is_open": is_open,
            "is_stopped": job.state == STOPPED,
            "is_done": job.state == FINISHED,
            "is_driven": job.driven_until is not None and job.driven_until > timezone.now(),
        }
        return TemplateResponse(request, "admin/mcp_sessions/endingjob/job.html", context)

    def _act(self, request: HttpRequest, job: EndingJob) -> HttpResponse:
        if not self._may_act(request):
            raise PermissionDenied
        try:
            match request.POST.get("act"):
                case "stop":
                    job = driving.stop(job)
                case "resume":
                    driving.resume(job)
                    job = driving.drive(job, seconds=STEP_SECONDS)
                case _:
                    job = driving.drive(job, seconds=STEP_SECONDS)
        except (StoreUnavailable, JobCannotGoOn) as error:
            job = table.jobs().get(pk=job.pk)
            if not _wants_json(request):
                self.message_user(request, job.problem or str(error), messages.ERROR)
        if not _wants_json(request):
            return HttpResponseRedirect(request.path)
        return JsonResponse(
            {
                "state": job.state,
                "ended": job.ended,
                "gone": job.gone,
                "expected": job.expected,
                "problem": job.problem,
            }
        )

    def _may_act(self, request: HttpRequest) -> bool:
        return request.user.has_perms(("mcp_sessions.view_mcpsession", "mcp_sessions.expire_session"))


def _kind_words() -> dict[str, Any]:
    """Of what an entry is about: a record, or a block. Another release may have written of kinds of its own."""
    return {kind: singular for kind, (singular, _plural) in NAMES.items()} | {"block": _("block")}


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept") == "application/json"


class HistoryLine:
    """An entry of the audit as the page of an object's history shows one of Django's log."""

    def __init__(self, entry: AuditEntry) -> None:
        self.action_time = entry.when
        self.user = get_user_model()(**{get_user_model().USERNAME_FIELD: entry.by})
        self._entry = entry

    def get_change_message(self) -> str:
        entry = self._entry
        facts = {
            _("Kind: %(what)s."): _kind_words().get(entry.kind, entry.kind),
            _("Client: %(what)s."): readable(entry.client),
            _("Principal: %(what)s."): entry.principal_name,
            _("Endpoint: %(what)s."): entry.endpoint,
            _("Reason: %(what)s."): entry.reason,
            _("Job: %(what)s."): entry.job_id,
        }
        return " ".join(
            [f"{capfirst(entry.done)}.", *(form % {"what": what} for form, what in facts.items() if what)]
        )
