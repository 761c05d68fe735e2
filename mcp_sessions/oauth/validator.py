"""The toolkit's rules for tokens, with one more; OAUTH2_VALIDATOR_CLASS names it."""

from typing import Any

from oauth2_provider.models import get_refresh_token_model
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.settings import oauth2_settings
from oauthlib.oauth2.rfc6749.errors import InvalidGrantError


class Validator(OAuth2Validator):  # type: ignore[misc]  # the toolkit has no types
    """Of requests that use one refresh token at the same moment, one gets tokens, and the others `invalid_grant`.

    All of them pass the toolkit's check, because none has used the token yet. It would give the others the tokens that
    the first got, and cannot where it stores only hashes: they got 500.
    """

    def _save_bearer_token(self, token: dict[str, Any], request: Any, *args: Any, **kwargs: Any) -> None:
        """In a transaction. Raises: InvalidGrantError."""
        used = getattr(request, "refresh_token_instance", None)
        has_tokens = not oauth2_settings.COMPLIANT_BCP_RFC9700_TOKEN_STORAGE
        if used is not None and not (has_tokens and oauth2_settings.REFRESH_TOKEN_GRACE_PERIOD_SECONDS):
            # Locked until the end of the transaction: the others wait here.
            good = get_refresh_token_model().objects.select_for_update().filter(pk=used.pk, revoked=None)
            if good.first() is None:
                raise InvalidGrantError(request=request)
        super()._save_bearer_token(token, request, *args, **kwargs)
