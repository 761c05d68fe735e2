"""What known clients do when their session has ended, as docs/clients.md says it."""

from collections.abc import Iterable
from typing import Final

from django.utils.translation import gettext as _

from mcp_sessions.inventory.display import printable

#: What a client calls itself in `initialize` -> whether it opens a new session by itself after an end.
OPENS_ANOTHER: Final = {
    "Visual Studio Code": True,
    "codex-mcp-client": True,
    "claude-code": False,
    "claude-ai": False,
    "cursor-vscode": False,
    "mcp": False,
}
#: Their names in the document.
DOCUMENTED: Final = {
    "Visual Studio Code": "VS Code",
    "codex-mcp-client": "Codex",
    "claude-code": "Claude Code",
    "claude-ai": "claude.ai",
    "cursor-vscode": "Cursor",
    "mcp": "Python SDK",
}


def stranded(names: Iterable[str]) -> list[str]:
    """Those of these clients, in words, that do not open a new session by themselves, or may not: not all are known."""
    found: dict[str, None] = {}
    for name in dict.fromkeys(names):
        opens = OPENS_ANOTHER.get(name)
        if not opens:
            shown = printable(DOCUMENTED.get(name, name), 50) or _("(no name)")
            found[shown if opens is False else _("%(client)s (not known)") % {"client": shown}] = None
    return list(found)
