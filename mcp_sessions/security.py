"""Keys that all processes of a deployment share, derived from Django's SECRET_KEY."""

from typing import Any, Final

from django.conf import settings
from django.utils.crypto import salted_hmac
from mcp.server.request_state import RequestStateSecurity

_SALT: Final = "mcp_sessions.request_state"


def request_state_security(**options: Any) -> RequestStateSecurity:
    """Seal the modern era's `requestState` with a key from SECRET_KEY; keys from SECRET_KEY_FALLBACKS still open it.

    Pass it to the server: `MCPServer("shop", request_state_security=request_state_security())`. Without it, each
    process has its own key, and a client that reaches another process, or returns after a deployment, is refused.
    `options` are those of the SDK's RequestStateSecurity: `ttl` in seconds (600), `audience`, `bind_principal`.
    """
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    keys = [salted_hmac(_SALT, "key", secret, algorithm="sha256").digest() for secret in secrets]
    return RequestStateSecurity(keys=keys, **options)
