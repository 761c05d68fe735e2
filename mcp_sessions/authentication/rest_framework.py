"""Authentication classes of Django REST framework, as authenticators."""

import logging
from collections.abc import Collection
from functools import partial
from io import BytesIO
from typing import Any, ClassVar, Final

from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError
from django.utils.translation import gettext as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from mcp_sessions.authentication.authenticator import Authenticator
from mcp_sessions.authentication.identity import Identity, of_user
from mcp_sessions.authentication.threads import in_thread
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import CredentialsRefused
from mcp_sessions.transport.asgi import Scope

logger = logging.getLogger(__name__)

#: What an authentication class may look at. Nothing else of a request is kept for the looks at open streams.
_READ: Final = (b"authorization", b"cookie", b"host")
#: Open streams that are looked at together.
_TOGETHER: Final = 50


class RestFrameworkAuthenticator(Authenticator):
    """`drf`, or the dotted path of an authentication class: what that class accepts, for Django's users.

    A class says no more than who asks. When its credentials expire is found out by asking it again.
    """

    recheck_seconds: ClassVar[float] = 10.0

    def __init__(self, conf: Endpoint, kind: type[BaseAuthentication]) -> None:
        super().__init__(conf)
        self._kind = kind
        keyword = kind().authenticate_header(Request(ASGIRequest(_request({}), BytesIO())))
        self.scheme = (keyword or "Bearer").split()[0]
        self.advice = f"Send credentials for {kind.__name__} in Authorization: {self.scheme}."

    def translated_advice(self) -> str:
        return _("Send credentials for %(class)s in Authorization: %(scheme)s.") % {
            "class": self._kind.__name__,
            "scheme": self.scheme,
        }

    async def authenticate(self, scope: Scope) -> Identity | None:
        user = await in_thread(partial(self._user_of, scope))
        if user is None:
            return None
        return of_user(user, source=self, key=_request(scope))

    async def still_good(self, identities: Collection[Identity]) -> Collection[Identity]:
        waiting, good = list(identities), list[Identity]()
        for start in range(0, len(waiting), _TOGETHER):
            good += await in_thread(partial(self._good, waiting[start : start + _TOGETHER]))
        return good

    def _good(self, identities: list[Identity]) -> list[Identity]:
        return [each for each in identities if self._is_good(each)]

    def _is_good(self, identity: Identity) -> bool:
        """One about which the class cannot tell counts as good: that keeps no other from being refused."""
        try:
            user = self._user_of(identity.key)
        except CredentialsRefused:
            return False
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a class of the project raises
            # Not what it said: the credentials may be in it.
            text = "Whether credentials of an open stream are still good is not known: %s raised %s."
            logger.warning(text, self._kind.__name__, type(error).__name__)
            return True
        return user is not None and user.pk == identity.user.pk

    def _user_of(self, scope: Scope) -> Any:
        """Raises: CredentialsRefused."""
        try:
            found = self._kind().authenticate(Request(ASGIRequest(scope, BytesIO())))
        except APIException:
            raise CredentialsRefused("These credentials are not accepted.") from None
        user = None if found is None else found[0]
        known = getattr(user, "is_authenticated", False) and getattr(user, "pk", None) is not None
        return user if known else None


def is_rest_framework(value: Any) -> bool:
    """Whether it is an authentication class of Django REST framework."""
    return isinstance(value, type) and issubclass(value, BaseAuthentication)


def _request(scope: Scope) -> Scope:
    """What is kept of a request."""
    headers = [(name, value) for name, value in scope.get("headers", ()) if name in _READ]
    return {"type": "http", "method": "GET", "path": scope.get("path", "/"), "headers": headers}
