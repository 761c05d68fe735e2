"""The clients that these tests drive as they are without options, and what each is known to do.

docs/clients.md has a row for each; a test compares them.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from tests.clients.driven import python_driver, typescript_driver
from tests.support.programs import python_with


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One client and its habits."""

    #: Its name and version in docs/clients.md.
    name: str
    #: Makes the command of its driver; it may install the client first.
    command: Callable[[], Sequence[str]]
    #: Whether it asks for the modern era first.
    asks_modern: bool
    #: Whether it opens a new session by itself when its own has ended.
    reopens: bool = False
    #: Whether it runs on Node.
    needs_npm: bool = False


#: The Inspector's npm package. Its commands are no driver's matter: each is a program of its own.
INSPECTOR: Final = "@modelcontextprotocol/inspector"


def _python(requirements: str, module: str) -> Callable[[], list[str]]:
    return lambda: python_driver(str(python_with(f"clients/requirements-{requirements}.txt")), module)


KNOWN: Final = (
    Known(name="Python SDK 1.30.0", command=_python("2025-11-25", "python_1"), asks_modern=False),
    Known(
        name=f"Python SDK {version('mcp')}",
        command=lambda: python_driver(sys.executable, "python_2"),
        asks_modern=True,
    ),
    Known(
        name="TypeScript SDK 1.32.2",
        command=lambda: typescript_driver("sdk"),
        asks_modern=False,
        needs_npm=True,
    ),
    Known(
        name="TypeScript SDK 2.4.0",
        command=lambda: typescript_driver("client"),
        asks_modern=False,
        needs_npm=True,
    ),
    Known(
        name='TypeScript SDK 2.4.0 with `mode: "auto"`',
        command=lambda: typescript_driver("client", "auto"),
        asks_modern=True,
        needs_npm=True,
    ),
    Known(name="FastMCP 2.14.7", command=_python("fastmcp-2", "fast_mcp"), asks_modern=False),
    Known(name="FastMCP 3.4.11", command=_python("2025-11-25", "fast_mcp"), asks_modern=False),
    Known(name="FastMCP 4.2.3", command=_python("fastmcp-4", "fast_mcp"), asks_modern=True),
)
