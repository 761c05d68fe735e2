"""The page that asks the user, and the token endpoint, as the toolkit has them, with one more rule each."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from oauth2_provider import views
from oauth2_provider.models import get_access_token_model


class AuthorizationView(views.AuthorizationView):  # type: ignore[misc]  # the toolkit has no types
    """Whether the user is asked is decided by the site, and not by the address to which a client or a page sends them.

    With `approval_prompt=auto` in the address, the toolkit gives a code without asking to a client that the user has
    agreed to before, also for another resource.
    """

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        asked = request.GET.copy()
        asked.pop("approval_prompt", None)
        request.GET = asked  # type: ignore[assignment]  # it is read only, and this copy is changed no more
        return super().get(request, *args, **kwargs)


class TokenView(views.TokenView):  # type: ignore[misc]  # the toolkit has no types
    """New tokens that are revoked before they have been sent are answered with `invalid_grant` (RFC 6749, 5.2).

    That is what happens where a refresh token is used again at the moment at which it was renewed: the second use ends
    what the first one got (RFC 9700, 4.14.2). The toolkit alone looks the new token up once more, and answers 500.
    """

    def authorization_flow_token_response(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        try:
            return super().authorization_flow_token_response(request, *args, **kwargs)  # type: ignore[no-any-return]
        except get_access_token_model().DoesNotExist:
            return JsonResponse({"error": "invalid_grant"}, status=400, headers={"Cache-Control": "no-store"})
