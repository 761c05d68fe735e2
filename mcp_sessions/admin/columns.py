"""The columns of the list of sessions, and the fields of one session's page.

Clients choose their names, versions and capabilities. Their text is truncated here and escaped by the templates.
"""

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString

from mcp_sessions.inventory import display
from mcp_sessions.models import MCPSession
from mcp_sessions.store.calls.state import items
from mcp_sessions.store.factory import sync_store_for


class SessionColumns:
    """A mixin for a ModelAdmin: each method is one column or field."""

    @admin.display(description="session")
    def session(self, obj: MCPSession) -> SafeString:
        return format_html("<code>{}</code>", obj.short_fingerprint)

    @admin.display(description="session")
    def full_fingerprint(self, obj: MCPSession) -> SafeString:
        return format_html("<code>{}</code>", obj.fingerprint)

    @admin.display(description="principal")
    def principal_name(self, obj: MCPSession) -> str:
        return obj.principal_name

    @admin.display(description="protocol")
    def protocol(self, obj: MCPSession) -> str:
        return display.printable(obj.protocol_version, 30)

    @admin.display(description="last activity", ordering="last_activity")
    def activity(self, obj: MCPSession) -> SafeString:
        created = f"created {display.ago(obj.record.created)}"
        return display.timed(display.ago(obj.last_activity), obj.last_activity, note=created)

    @admin.display(description="expires in")
    def expires_in(self, obj: MCPSession) -> SafeString:
        return display.timed(display.remaining(obj.record.expires), obj.record.expires)

    @admin.display(description="requests")
    def requests(self, obj: MCPSession) -> int:
        return obj.record.requests

    @admin.display(description="phase")
    def phase(self, obj: MCPSession) -> str:
        if obj.record.initialized:
            return "in operation"
        return "active, not initialized" if obj.record.active else "no message since initialize"

    @admin.display(description="created")
    def created_at(self, obj: MCPSession) -> str:
        return f"{display.full_time(obj.record.created)} ({display.ago(obj.record.created)})"

    @admin.display(description="last activity")
    def active_at(self, obj: MCPSession) -> str:
        return f"{display.full_time(obj.last_activity)} ({display.ago(obj.last_activity)})"

    @admin.display(description="expires")
    def expires_at(self, obj: MCPSession) -> str:
        return (
            f"{display.full_time(obj.record.expires)} (in {display.remaining(obj.record.expires)}, if idle)"
        )

    @admin.display(description="expires at the latest")
    def deadline_at(self, obj: MCPSession) -> str:
        return f"{display.full_time(obj.record.deadline)} (in {display.remaining(obj.record.deadline)})"

    @admin.display(description="last call")
    def last_call(self, obj: MCPSession) -> str:
        return display.printable(obj.record.last_call, 200) or "none"

    @admin.display(description="enabled tools")
    def tools(self, obj: MCPSession) -> str:
        return display.printable(", ".join(sorted(obj.record.tools)), 2000) or "none"

    @admin.display(description="log level")
    def log_level(self, obj: MCPSession) -> str:
        return display.printable(obj.record.log_level or "not set", 30)

    @admin.display(description="client info")
    def client_info(self, obj: MCPSession) -> SafeString:
        return display.pretty_json(obj.record.handshake.client_info)

    @admin.display(description="client capabilities")
    def capabilities(self, obj: MCPSession) -> SafeString:
        return display.pretty_json(obj.record.handshake.capabilities)

    @admin.display(description="names and values")
    def state(self, obj: MCPSession) -> SafeString:
        return display.state_table(sync_store_for(obj.endpoint).run(items(obj.fingerprint)))
