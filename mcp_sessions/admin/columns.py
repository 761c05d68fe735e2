"""The columns of the list of records, and the fields of one record's page.

Clients choose their names, versions and capabilities. Their text is truncated here and escaped by the templates.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from django.contrib import admin
from django.contrib.admin import ModelAdmin, helpers
from django.contrib.auth import get_user_model
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_sessions.admin import common
from mcp_sessions.inventory import display
from mcp_sessions.models import MCPSession
from mcp_sessions.records import Kind

#: Characters of a record's name that do not break.
ONE_LINE: Final = 24

_WHO: Final = ("full_fingerprint", "endpoint", "client", "principal_name", "protocol")
_TIMES: Final = ("created_at", "active_at", "expires_at", "deadline_at")
_ACTIVITY: Final = (gettext_lazy("Activity"), (*_TIMES, "requests", "last_call"))
_LIVE: Final = (gettext_lazy("Now"), ("in_flight", "open_streams"))
_RECENT: Final = (gettext_lazy("Last requests"), ("recent_requests",))
_CLIENT: Final = ("abilities", "client_info", "capabilities")
_STATE: Final = (gettext_lazy("State"), ("state",))

#: The sections of a record's page, and their fields, by its kind.
SECTIONS: Final[Mapping[Kind, Sequence[tuple[Promise | None, tuple[str, ...]]]]] = {
    "session": (
        (None, ("kind", *_WHO, "opened_with", "phase")),
        _LIVE,
        _ACTIVITY,
        _RECENT,
        (gettext_lazy("Chosen by the client"), ("tools", "log_level", "resources", *_CLIENT)),
        _STATE,
        (gettext_lazy("Its user"), ("others",)),
    ),
    "handle": (
        (None, ("kind", "name", *_WHO)),
        _ACTIVITY,
        _STATE,
        (gettext_lazy("The client that made it"), _CLIENT),
    ),
    "user": (
        (None, ("kind", *_WHO)),
        _ACTIVITY,
        _STATE,
        (gettext_lazy("The client that used it first"), _CLIENT),
    ),
    "conversation": (
        (None, ("kind", "key", *_WHO)),
        _ACTIVITY,
        _STATE,
        (gettext_lazy("The client that began it"), _CLIENT),
    ),
    "caller": (
        (None, ("kind", *_WHO)),
        _LIVE,
        _ACTIVITY,
        _RECENT,
        (gettext_lazy("Sent by the client"), _CLIENT),
    ),
    "listener": (
        (None, ("kind", *_WHO)),
        (gettext_lazy("Activity"), _TIMES),
        (gettext_lazy("Sent by the client"), _CLIENT),
    ),
}


class RecordColumns:
    """A mixin for a ModelAdmin: each method is one column or field."""

    def action_checkbox(self, obj: MCPSession) -> SafeString:
        """What Django makes, without a template for each row, which takes as long as five other columns."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">',
            helpers.ACTION_CHECKBOX_NAME,
            obj.pk,
            _("Select this object for an action - {}").format(obj),
        )

    # The header of the column, in the releases of Django in which it is here.
    action_checkbox.__dict__.update(ModelAdmin.action_checkbox.__dict__)

    @admin.display(description=gettext_lazy("record"))
    def record(self, obj: MCPSession) -> SafeString:
        """Short ones, as almost all are, stay on one line."""
        shown = obj.shown_id
        code = format_html('<code class="{}">{}</code>', "mcp-short" if len(shown) <= ONE_LINE else "", shown)
        return format_html("{} <span>{}</span>", code, _("revived")) if obj.record.revived else code

    @admin.display(description=gettext_lazy("kind"))
    def kind(self, obj: MCPSession) -> SafeString:
        word, _parenthesis, label = obj.kind_with_label.partition(" (")
        return format_html("{} <span>({}</span>", word, label) if label else format_html("{}", word)

    @admin.display(description=gettext_lazy("handle"))
    def name(self, obj: MCPSession) -> SafeString | str:
        """The text of a handle, unless it is a secret: then it is not stored."""
        text = display.printable(obj.record.name, 200)
        return format_html("<code>{}</code>", text) if text else _("not shown: whoever knows it may use it")

    @admin.display(description=gettext_lazy("conversation"))
    def key(self, obj: MCPSession) -> str:
        return display.printable(" ".join(filter(None, (obj.record.label, obj.record.name))), 200)

    @admin.display(description=gettext_lazy("fingerprint"))
    def full_fingerprint(self, obj: MCPSession) -> SafeString:
        return format_html("<code>{}</code>", obj.fingerprint)

    @admin.display(description=gettext_lazy("principal"))
    def principal_name(self, obj: MCPSession) -> SafeString | str:
        """With a link to Django's user, where the admin has users."""
        if obj.principal_user is None:
            return obj.principal_name
        address = common.page_of(self, get_user_model(), obj.principal_user)
        if address is None:
            return obj.principal_name
        return format_html('<a href="{}">{}</a>', address, obj.principal_name)

    @admin.display(description=gettext_lazy("opened with"))
    def opened_with(self, obj: MCPSession) -> str:
        return display.printable(obj.record.name, 100) or _("credentials without a name, or none")

    @admin.display(description=gettext_lazy("client"))
    def client(self, obj: MCPSession) -> str:
        return obj.client

    @admin.display(description=gettext_lazy("client"))
    def client_shown(self, obj: MCPSession) -> SafeString:
        """For the list: the client's name and version, with the protocol as a tooltip."""
        protocol = _("protocol %(version)s") % {"version": self.protocol(obj)}
        return format_html('<span title="{}">{}</span>', protocol, obj.client)

    @admin.display(description=gettext_lazy("protocol"))
    def protocol(self, obj: MCPSession) -> str:
        return display.printable(obj.protocol_version, 30)

    @admin.display(description=gettext_lazy("last activity"), ordering="last_activity")
    def activity(self, obj: MCPSession) -> SafeString:
        created = _("created %(ago)s") % {"ago": display.ago(obj.record.created)}
        return display.timed(display.ago(obj.last_activity), obj.last_activity, note=created)

    @admin.display(description=gettext_lazy("expires in"))
    def expires_in(self, obj: MCPSession) -> SafeString:
        return display.timed(display.remaining(obj.record.expires), obj.record.expires)

    @admin.display(description=gettext_lazy("requests"))
    def requests(self, obj: MCPSession) -> str:
        return display.number(obj.record.requests)

    @admin.display(description=gettext_lazy("phase"))
    def phase(self, obj: MCPSession) -> str:
        if obj.record.revived:
            return _("in operation, revived: its record was gone, and its state is new")
        if obj.record.initialized:
            return _("in operation")
        return _("active, not initialized") if obj.record.active else _("no message since initialize")

    @admin.display(description=gettext_lazy("created"))
    def created_at(self, obj: MCPSession) -> str:
        return _past(obj.record.created)

    @admin.display(description=gettext_lazy("last activity"))
    def active_at(self, obj: MCPSession) -> str:
        return _past(obj.last_activity)

    @admin.display(description=gettext_lazy("expires"))
    def expires_at(self, obj: MCPSession) -> str:
        moment = obj.record.expires
        if moment <= display.now_like(moment):
            return display.full_time(moment)
        return _("%(time)s (in %(duration)s, if idle)") % _until(moment)

    @admin.display(description=gettext_lazy("expires at the latest"))
    def deadline_at(self, obj: MCPSession) -> str:
        moment = obj.record.deadline
        if moment <= display.now_like(moment):
            return display.full_time(moment)
        return _("%(time)s (in %(duration)s)") % _until(moment)

    @admin.display(description=gettext_lazy("last call"))
    def last_call(self, obj: MCPSession) -> str:
        return display.printable(obj.record.last_call, 200) or _("none")

    @admin.display(description=gettext_lazy("enabled tools"))
    def tools(self, obj: MCPSession) -> str:
        return display.printable(", ".join(sorted(obj.record.tools)), 2000) or _("none")

    @admin.display(description=gettext_lazy("log level"))
    def log_level(self, obj: MCPSession) -> str:
        return display.printable(obj.record.log_level or _("not set"), 30)

    @admin.display(description=gettext_lazy("client info"))
    def client_info(self, obj: MCPSession) -> SafeString:
        return display.pretty_json(obj.record.handshake.client_info)

    @admin.display(description=gettext_lazy("client capabilities"))
    def capabilities(self, obj: MCPSession) -> SafeString:
        return display.pretty_json(obj.record.handshake.capabilities)

    @admin.display(description=gettext_lazy("names and values"))
    def state(self, obj: MCPSession) -> SafeString:
        return display.state_table(obj.details.state)


def _past(moment: datetime) -> str:
    return f"{display.full_time(moment)} ({display.ago(moment)})"


def _until(moment: datetime) -> dict[str, str]:
    return {"time": display.full_time(moment), "duration": display.remaining(moment)}
