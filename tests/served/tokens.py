"""A token verifier with a fixed list of names. Tokens are `<subject>-<generation>`, or `<subject>-until-<time>`.

The generation `revoked` is refused, and `elsewhere` is for another resource."""

import re

from mcp.server.auth.provider import AccessToken, TokenVerifier

RESOURCE = "https://mcp.example.com/mcp"


class Verifier(TokenVerifier):
    """Every token that starts with a known name is valid; its generation changes at a refresh, its subject does not."""

    async def verify_token(self, token: str) -> AccessToken | None:
        subject, _, generation = token.partition("-")
        if subject not in {"ann", "bob", "unscoped"} or generation in ("", "revoked"):
            return None
        return AccessToken(
            token=token,
            client_id="the-client",
            scopes=[] if subject == "unscoped" else ["mcp"],
            resource="https://elsewhere.example.com/mcp" if generation == "elsewhere" else RESOURCE,
            subject=subject,
            expires_at=int(until[1]) if (until := re.fullmatch(r"until-([0-9]{1,12})", generation)) else None,
            claims={"iss": "https://issuer.example.com"},
        )
