"""Who asks: the authenticators that AUTHENTICATION names, and what they find out.

`Authenticator` is what an authenticator of your own derives from, and `Identity` is what it returns; `of_user` and
`of_token` make one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["Authenticator", "Identity", "of_token", "of_user"]

if TYPE_CHECKING:
    from mcp_sessions.authentication.authenticator import Authenticator
    from mcp_sessions.authentication.identity import Identity, of_token, of_user

_MODULES = {
    "Authenticator": "mcp_sessions.authentication.authenticator",
    "Identity": "mcp_sessions.authentication.identity",
    "of_token": "mcp_sessions.authentication.identity",
    "of_user": "mcp_sessions.authentication.identity",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: they need the SDK, and the models of this package do not."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
