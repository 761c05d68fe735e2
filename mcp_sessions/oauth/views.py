"""The page that asks the user, as the toolkit has it, with one more rule."""

from typing import Any

from django.http import HttpRequest
from oauth2_provider import views


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
