"""Keeps the SDK from configuring the root logger. In a Django project that is what LOGGING is for.

`MCPServer.__init__` calls `logging.basicConfig` with a handler of its own: from then on each line that another handler
has written appears again.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Final

_MODULE: Final = "mcp.server.mcpserver.server"
#: What the module calls to configure logging.
_FUNCTION: Final = "configure_logging"


def leave_to_django() -> None:
    """From here on, a new MCPServer configures no logging. The SDK is not imported, which takes a second."""
    if _MODULE in sys.modules:
        _change(sys.modules[_MODULE])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _change(module: ModuleType) -> None:
    if hasattr(module, _FUNCTION):  # otherwise this release of the SDK leaves logging alone
        setattr(module, _FUNCTION, lambda *_, **__: None)


class _Finder(MetaPathFinder):
    """Finds the module as others do, and changes it when it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign] # of this loader, which loads nothing else
        return spec
