"""The search box: a text that identifies one record leads to it, and does not become part of an address."""

from urllib.parse import parse_qsl, urlencode

from django.contrib import admin, messages
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from mcp_sessions import ids
from mcp_sessions.admin import common
from mcp_sessions.inventory import search
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.lookups import Named
from mcp_sessions.models import MCPSession

#: What the form says of the list that it is on: its query string.
LIST = "list"
#: Records of the same name that are told apart.
MAX_ALIKE = 5


def view(modeladmin: "admin.ModelAdmin[MCPSession]", request: HttpRequest) -> HttpResponse:
    """Redirect to the one record that the text means, otherwise to the list of all that it may mean.

    A session id is a credential: it is hashed here. So may be the text of a handle. Raises: StoreUnavailable.
    """
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    if request.method != "POST":
        return _to(modeladmin, "changelist")  # from "Try again", where a store was away
    text = request.POST.get(SEARCH_VAR, "").strip()
    if (session_id := search.id_in(text)) is not None:
        return _to(modeladmin, "change", ids.fingerprint(session_id))
    lookups = search.lookups(text)
    aliases = common.reach_of(request).there
    found = SessionQuery(aliases=aliases, matches=tuple(lookups)).page(limit=MAX_ALIKE).rows
    if len(found) == 1:
        return _to(modeladmin, "change", found[0].session.fingerprint)
    if any(isinstance(each, Named) for each in lookups):
        alike = ", ".join(row.session.fingerprint[:12] for row in found)
        words = (
            _("Several records are called so. Search for one of these: %(fingerprints)s.")
            % {"fingerprints": alike}
            if alike
            else _("No record matches.")
        )
        modeladmin.message_user(request, words, messages.WARNING)
        text = ""
    kept = [
        (name, value)
        for name, value in parse_qsl(request.POST.get(LIST, "").lstrip("?"), keep_blank_values=True)
        if name not in (SEARCH_VAR, PAGE_VAR, "after", "before")
    ]
    response = _to(modeladmin, "changelist")
    query = urlencode([*kept, (SEARCH_VAR, text)] if text else kept)
    return HttpResponseRedirect(f"{response.url}?{query}".rstrip("?"))


def _to(modeladmin: "admin.ModelAdmin[MCPSession]", page: str, *args: str) -> HttpResponseRedirect:
    name = f"admin:{modeladmin.opts.app_label}_{modeladmin.opts.model_name}_{page}"
    return HttpResponseRedirect(reverse(name, args=args, current_app=modeladmin.admin_site.name))
