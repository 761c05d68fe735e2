"""Ending what one Django user has: the page that asks, which the page of the user leads to."""

from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from mcp_sessions.admin import common
from mcp_sessions.admin.actions import expire
from mcp_sessions.admin.confirming import ask, confirmed
from mcp_sessions.inventory.listing import SessionQuery
from mcp_sessions.inventory.principals import principals_of
from mcp_sessions.store.calls.queries import Query

if TYPE_CHECKING:
    from mcp_sessions.admin import MCPSessionAdmin


def selected(user: Any, aliases: tuple[str, ...]) -> SessionQuery:
    """What a user has at these endpoints, as a user and as the subject of tokens."""
    principals = dict.fromkeys(each for alias in aliases for each in principals_of(user, alias))
    return SessionQuery(aliases=aliases, matches=tuple(Query(principal=each) for each in principals))


def view(modeladmin: "MCPSessionAdmin", request: HttpRequest, user_id: str) -> HttpResponse:
    """Ask for confirmation, then end it, and go back to the page of the user. Raises: StoreUnavailable."""
    if not modeladmin.has_expire_permission(request):
        raise PermissionDenied
    try:
        user = get_user_model()._default_manager.get(pk=user_id)
    except (get_user_model().DoesNotExist, ValidationError, ValueError):
        raise Http404(_("There is no such user.")) from None
    query = selected(user, common.reach_of(request).there)
    if request.method != "POST":
        return ask(modeladmin, request, query, across=True, action=False)
    taken = confirmed(modeladmin, request, lambda: query)
    page = None if taken is None else expire(modeladmin, request, taken)
    return page or HttpResponseRedirect(request.path)
