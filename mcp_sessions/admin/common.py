"""What the app's own pages in the admin share, and the page that stands in when a session store is down."""

import logging
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote as urlquote

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import router
from django.db.models import Model
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, get_script_prefix, get_urlconf, reverse
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from mcp_sessions import conf
from mcp_sessions.audit.models import EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.inventory.reach import Reach, reach
from mcp_sessions.repeats import Repeats

logger: Final = logging.getLogger(__name__)

#: Pages refresh themselves: one line for an outage, not for each.
_away: Final = Repeats(logger, "Pages of the admin without a session store")

#: What tokens and blocks are: their states in words.
STATES: Final[dict[str, Promise]] = {
    "active": gettext_lazy("active"),
    "expired": gettext_lazy("expired"),
    "revoked": gettext_lazy("revoked"),
    "lifted": gettext_lazy("lifted"),
}
#: Digits of the key of a row that every database takes.
KEY_DIGITS: Final = 18
#: What stands for a key in an address: nothing else in addresses looks like it.
_SOME_KEY: Final = "0" * 64
#: Where what was found of a request's endpoints is kept.
_REACH: Final = "_mcp_sessions_reach"

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


def context(modeladmin: "admin.ModelAdmin[Any]", request: HttpRequest, title: str) -> dict[str, Any]:
    """What the base of our own pages needs. The title is also the last breadcrumb."""
    return {
        **modeladmin.admin_site.each_context(request),
        "title": title,
        "opts": modeladmin.opts,
        "media": modeladmin.media,
        "has_view_permission": modeladmin.has_view_permission(request),
        "away": getattr(request, _REACH, Reach(there=())).away,
    }


def page_of(modeladmin: Any, model: type[Model], key: object) -> str | None:
    """The page of a record, or of a row, on the same admin site; None if the site does not have its model."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    urlconf = get_urlconf() or settings.ROOT_URLCONF
    try:
        page = _page_of_one(name, modeladmin.admin_site.name, get_script_prefix(), urlconf, get_language())
    except NoReverseMatch:
        return None
    return page.replace(_SOME_KEY, urlquote(quote(str(key))))


@lru_cache(maxsize=64)
def _page_of_one(name: str, site: str, prefix: str, urlconf: str, language: str | None) -> str:
    """The address of a page, with _SOME_KEY in it, as requests with this prefix and these patterns know it.

    Patterns may depend on the language: those of `i18n_patterns`, and translated ones.

    A list has a hundred of them, and finding one takes as long as three columns of a row. Raises: NoReverseMatch.
    """
    return reverse(name, args=[_SOME_KEY], current_app=site)


def reach_of(request: HttpRequest) -> Reach:
    """Which of the endpoints answer that the address asks for, which are all if it names none.

    Asked once for a request. Raises: StoreUnavailable if none answers.
    """
    known: Reach | None = getattr(request, _REACH, None)
    if known is None:
        chosen = request.GET.get("endpoint")
        known = reach(alias for alias in conf.aliases() if chosen in (None, "", alias))
        setattr(request, _REACH, known)
    return known


def fits(value: Any) -> bool:
    """Whether databases take a value of an address: PostgreSQL refuses NUL."""
    return "\0" not in str(value)


def fits_key(lookup: str, relation: str, value: Any) -> bool:
    """Whether a lookup is by something else, or by a key that databases take: they refuse longer numbers."""
    return lookup.partition("__")[0] != relation or not str(value).isdecimal() or len(value) <= KEY_DIGITS


def labelled(field: Any) -> Any:
    """A form's field. The inputs of a date and a time get the names that Django does not give them."""
    if isinstance(field, forms.SplitDateTimeField):
        for widget, words in zip(
            field.widget.widgets, (_("%(field)s, date"), _("%(field)s, time")), strict=True
        ):
            widget.attrs["aria-label"] = words % {"field": capfirst(field.label)}
    return field


def endpoint_field(db_field: Any) -> forms.ChoiceField:
    """A form's field for an endpoint, or every one."""
    choices = [("", _("every endpoint")), *((alias, alias) for alias in conf.aliases())]
    return forms.ChoiceField(choices=choices, required=False, label=capfirst(db_field.verbose_name))


def non_atomic(view: View) -> View:
    """The view, without the transaction of ATOMIC_REQUESTS in the database of the jobs, wherever a router puts them."""
    return non_atomic_requests(using=router.db_for_write(EndingJob))(view)


def explains_store_outages(view: View) -> View:
    """Make a view of a ModelAdmin answer 503 with a page for people, instead of a traceback."""

    @wraps(view)
    def guarded(
        self: "admin.ModelAdmin[Any]", request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        try:
            return view(self, request, *args, **kwargs)
        except StoreUnavailable as error:
            _away.add("The admin cannot reach a session store: %s", error)
            return _store_unavailable(self, request)

    return cast("View", guarded)


def _store_unavailable(modeladmin: "admin.ModelAdmin[Any]", request: HttpRequest) -> HttpResponse:
    aliases = conf.aliases()
    shown = context(modeladmin, request, _("The session store does not answer"))
    shown["aliases"] = aliases if len(aliases) > 1 else ()
    template = "admin/mcp_sessions/mcpsession/store_unavailable.html"
    return TemplateResponse(request, template, shown, status=503, headers={"Retry-After": "5"})
