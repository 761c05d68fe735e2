"""The Django app: label `mcp_sessions`."""

from django.apps import AppConfig


class MCPSessionsConfig(AppConfig):
    """Registers the system checks when Django starts."""

    name = "mcp_sessions"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "MCP sessions"

    def ready(self) -> None:
        from mcp_sessions import checks  # noqa: F401 - importing it registers the checks
