"""Keys that every process of a deployment shares, derived from Django's."""

from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac
from mcp.server.request_state import RequestStateSecurity

_SALT = "mcp_sessions.request_state"


def request_state_security(**options: Any) -> RequestStateSecurity:
    """Seals the modern era's `requestState` with keys from SECRET_KEY; those of SECRET_KEY_FALLBACKS still open it.

    Pass it to the server, `MCPServer("shop", request_state_security=request_state_security())`: without it each process
    has a key of its own, and a client that is sent to another process, or comes back after a deploy, fails. `options`
    are those of the SDK's RequestStateSecurity: `ttl` in seconds (600), `audience`, `bind_principal`.
    """
    return RequestStateSecurity(keys=_keys(), **options)


def _keys() -> list[bytes]:
    return [_derived(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def _derived(secret: str) -> bytes:
    return salted_hmac(_SALT, "key", secret, algorithm="sha256").digest()
