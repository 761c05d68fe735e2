"""Whether the SDK that is installed is one that this app can serve. Imports nothing of it."""

from importlib.metadata import PackageNotFoundError, version

from django.core.exceptions import ImproperlyConfigured


def require() -> None:
    """Raises: ImproperlyConfigured for a release of the SDK before 2, and names what probably asked for it."""
    found = version("mcp")
    if int(found.split(".")[0]) >= 2:
        return
    try:
        reason = f", for fastmcp {version('fastmcp')}. Servers written with FastMCP can be served from fastmcp 4 on"
    except PackageNotFoundError:
        reason = ""
    raise ImproperlyConfigured(f"mcp_sessions needs mcp 2.3 or newer, and mcp {found} is installed{reason}.")
