"""Middleware that the setting MIDDLEWARE may name: request ids, and the redirect to HTTPS.

Django's own middleware does not see the endpoint, which is no view.
"""

import logging
import re
import uuid
from contextvars import ContextVar
from typing import Final

from django.conf import settings

from mcp_sessions.http.secure import redirect, scheme, secure_url
from mcp_sessions.transport.asgi import Application, Message, Receive, Scope, Send

_HEADER: Final = b"x-request-id"
#: Ids from elsewhere that are safe in a log and in a header.
_ID: Final = re.compile(rb"[A-Za-z0-9._=+/:-]{1,128}\Z")
_current: Final[ContextVar[str]] = ContextVar("mcp_sessions.request_id", default="")


def request_id() -> str:
    """The id of the HTTP request that runs, also in the handlers that it has started; "" outside of requests."""
    return _current.get()


class RequestId:
    """Gives each request an id: that of its `X-Request-ID` if a proxy has given it one, or else a new one.

    The answer has it in the same header, the ASGI scope as `request_id`, and log records by `RequestIdFilter`.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        number = given if _ID.match(given) else uuid.uuid4().hex.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_HEADER, number)]
            await send(message)

        text = number.decode()
        token = _current.set(text)
        try:
            await self._application({**scope, "request_id": text}, receive, send_with_id)
        finally:
            _current.reset(token)


class RequestIdFilter(logging.Filter):
    """A filter for LOGGING's handlers that gives each record `request_id`, "-" outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = _current.get() or "-"
        return True


class HTTPSRedirect:
    """With SECURE_SSL_REDIRECT, redirects requests over plain HTTP, with 308, as `with_mcp` does.

    SECURE_SSL_HOST, SECURE_REDIRECT_EXEMPT and SECURE_PROXY_SSL_HEADER apply. What is inside finds the scheme that the
    client has used as `scheme` in the ASGI scope.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if settings.SECURE_SSL_REDIRECT and (url := secure_url(scope)):
            return await redirect(send, url)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        await self._application({**scope, "scheme": scheme(scope, headers)}, receive, send)
