"""The Django app: label `mcp_sessions`."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy


class MCPSessionsConfig(AppConfig):
    """When Django starts: registers the checks, leaves logging to LOGGING, watches for requests that go astray and for
    users who are to lose their sessions.
    """

    name = "mcp_sessions"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = gettext_lazy("MCP sessions")

    def ready(self) -> None:
        from mcp_sessions import checks, misrouted  # noqa: F401 - importing it registers the checks
        from mcp_sessions.jobs import automatic
        from mcp_sessions.sdk import root_logger, versions

        versions.require()
        root_logger.leave_to_django()
        misrouted.watch()
        automatic.watch()
