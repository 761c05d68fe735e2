"""This site as an OAuth authorization server for its endpoints, by django-oauth-toolkit: settings, and URLs (`urls`).

It imports nothing, so that settings can use it.
"""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["provider"]

#: Seconds that an access token is accepted. Clients renew it without asking their user.
ACCESS_SECONDS: Final = 3600
#: Seconds within which a client must come back, before its user is asked again.
REFRESH_SECONDS: Final = 30 * 24 * 3600


def provider(issuer: str, *, scopes: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """What MCP clients need of OAUTH2_PROVIDER, and what RFC 9700 (Best Current Practice) asks for.

    Clients register themselves: by the URL of a client id metadata document, or dynamically (RFC 7591). That is open to
    everybody, because nobody is logged in then; a client gets nothing before a user has agreed. `issuer` is the URL of
    this site without a path, the same as ISSUER_URL. `scopes` are words with what the user is asked about each. `more`
    are other keys of OAUTH2_PROVIDER, which win.
    """
    safe = dict.fromkeys((f"COMPLIANT_BCP_RFC9700_{rule}" for rule in _RULES), True)
    return {
        "OIDC_ISS_ENDPOINT": issuer,
        "SCOPES": dict(scopes),
        "PKCE_REQUIRED": True,
        "CIMD_ENABLED": True,
        "DCR_ENABLED": True,
        "DCR_REGISTRATION_PERMISSION_CLASSES": ("oauth2_provider.dcr.AllowAllDCRPermission",),
        "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": [
            "none",
            "client_secret_basic",
            "client_secret_post",
        ],
        "OAUTH2_RESPONSE_TYPES_SUPPORTED": ["code"],
        "OAUTH2_GRANT_TYPES_SUPPORTED": ["authorization_code", "refresh_token"],
        "OAUTH2_VALIDATOR_CLASS": "mcp_sessions.oauth.validator.Validator",
        # Clients on a user's machine listen on any port for the answer, some of them under this name.
        "ALLOW_LOCALHOST_LOOPBACK": True,
        "ACCESS_TOKEN_EXPIRE_SECONDS": ACCESS_SECONDS,
        "REFRESH_TOKEN_EXPIRE_SECONDS": REFRESH_SECONDS,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        **safe,
        **more,
    }


_RULES: Final = (
    "ACCESS_TOKEN_TRANSPORT",
    "AUTHZ_RESPONSE_ISS",
    "IMPLICIT_GRANT",
    "PASSWORD_GRANT",
    "PKCE_METHOD",
    "PKCE_REQUIRED",
    "REDIRECT_URI_MATCHING",
    "REFRESH_TOKEN",
    "TOKEN_STORAGE",
)
