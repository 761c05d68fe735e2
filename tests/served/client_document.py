"""The metadata document of one OAuth client, and what gives it to the toolkit.

The toolkit fetches only from public addresses over HTTPS, of which no test has one.
"""

from typing import Any

DOCUMENT = "https://client.example.com/client.json"
REDIRECT = "http://127.0.0.1:3000/callback"


class Fetcher:
    """Gives one document, as the toolkit's own fetcher does."""

    def fetch(self, client_id: str) -> tuple[dict[str, Any], int]:
        from oauth2_provider.cimd import CIMDError

        if client_id != DOCUMENT:
            raise CIMDError("there is no such document")
        document = {
            "client_id": DOCUMENT,
            "client_name": "A client with a document",
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }
        return document, 300
