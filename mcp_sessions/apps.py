"""The Django app: label `mcp_sessions`."""

from django.apps import AppConfig


class MCPSessionsConfig(AppConfig):
    """Registers the system checks when Django starts, and keeps logging as LOGGING has it."""

    name = "mcp_sessions"
    verbose_name = "MCP sessions"

    def ready(self) -> None:
        from mcp_sessions import checks  # noqa: F401 - importing it registers the checks
        from mcp_sessions.sdk import root_logger

        root_logger.leave_to_django()
