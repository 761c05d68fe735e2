"""Keys that all processes of a deployment share, derived from Django's SECRET_KEY."""

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.utils.crypto import salted_hmac

if TYPE_CHECKING:
    from mcp.server.request_state import RequestStateSecurity

_SALT: Final = "mcp_sessions.request_state"


def derived_keys(purpose: str) -> list[bytes]:
    """Keys of 32 bytes: the one to sign with, from SECRET_KEY, then those that are still accepted, from
    SECRET_KEY_FALLBACKS. Those of another purpose have nothing in common with them.
    """
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return [salted_hmac(purpose, "key", secret, algorithm="sha256").digest() for secret in secrets]


def request_state_security(**options: Any) -> "RequestStateSecurity":
    """Seal the modern era's `requestState` with a key from SECRET_KEY; keys from SECRET_KEY_FALLBACKS still open it.

    Pass it to the server: `MCPServer("shop", request_state_security=request_state_security())`. Without it, each
    process has its own key, and a client that reaches another process, or returns after a deployment, is refused.
    `options` are those of the SDK's RequestStateSecurity: `ttl` in seconds (600), `audience`, `bind_principal`.
    """
    # Here, because whoever only derives keys, as the admin does, needs no SDK, which takes long to import.
    from mcp.server.request_state import RequestStateSecurity

    return RequestStateSecurity(keys=derived_keys(_SALT), **options)
