"""For the page of one of Django's users in the admin: what the user has open."""

from typing import Any

from django import template
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

register = template.Library()


@register.simple_tag(takes_context=True)
def mcp_sessions_of(context: Any, user: Any) -> SafeString | str:
    """Links to the records of a user, and to the page that ends them, as items of a list; nothing for who may not."""
    request = getattr(context, "request", None)
    if request is None or not isinstance(user, get_user_model()):
        return ""
    may = request.user.has_perm
    if not may("mcp_sessions.view_mcpsession"):
        return ""
    site = getattr(request, "current_app", None)  # as ModelAdmin's views set it
    try:
        records = reverse("admin:mcp_sessions_mcpsession_changelist", current_app=site)
        end = reverse(
            "admin:mcp_sessions_mcpsession_expire_user", args=[quote(str(user.pk))], current_app=site
        )
    except NoReverseMatch:
        return ""
    query = urlencode({"user": user.get_username()})
    item = '<li class="mcp-tool px-3"><a href="{}?{}">{}</a></li>'
    items = format_html(item, records, query, _("MCP sessions"))
    if may("mcp_sessions.expire_session"):
        items += format_html('<li class="mcp-tool px-3"><a href="{}">{}</a></li>', end, _("End MCP sessions"))
    return items
