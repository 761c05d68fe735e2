"""Where the documentation is that messages link to."""

from typing import Final

#: The documentation site.
SITE: Final = "https://mcp-sessions.readthedocs.io/en/latest/"


def page(name: str, anchor: str = "") -> str:
    """The address of a page, by the name of its file in docs/ without ".md", and of one of its headings."""
    return f"{SITE}{name}.html{'#' if anchor else ''}{anchor}"
