"""Settings of the demo below a path prefix that Django is told, and not the server."""

from project.settings import *  # noqa: F403

FORCE_SCRIPT_NAME = "/app"
