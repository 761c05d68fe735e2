"""Middleware that the setting MIDDLEWARE may name: request ids, the redirect to HTTPS, and the audit of calls.

Django's own middleware does not see the endpoint, which is no view.
"""

import json
import logging
import re
import uuid
from contextvars import ContextVar
from typing import Any, Final

from django.conf import settings

from mcp_sessions.http.secure import redirect, scheme, secure_url
from mcp_sessions.records import SHOWN_CHARS
from mcp_sessions.serving.observing import TELL, Ended
from mcp_sessions.transport.asgi import Application, Message, Receive, Scope, Send

calls: Final = logging.getLogger("mcp_sessions.middleware.calls")

_HEADER: Final = b"x-request-id"
#: Ids from elsewhere that are safe in a log and in a header.
_ID: Final = re.compile(rb"[A-Za-z0-9._=+/:-]{1,128}\Z")
#: Of a fingerprint; other lines of the log have as many.
_DIGITS: Final = 12
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


class CallAudit:
    """Logs each request that a handler has answered, at INFO, as one event of `mcp_sessions.middleware.calls`.

    The message is JSON, and the record has it as the dictionary `audit`: the request id, if `RequestId` is further out;
    the path of the endpoint; who called, from which address (that which TRUSTED_PROXIES tell), with which client and in
    which session; the method, the tool, the outcome ("ok", "tool error", "error", "cancelled" or "interrupted") and the
    milliseconds. No arguments, no results and no credentials. What is refused before a handler runs, and a call that is
    lost with its process, is not logged.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = {"request_id": request_id(), "path": scope["path"]}

        def log(ended: Ended, address: str | None) -> None:
            event = {**known, "address": address or "", **_described(ended)}
            calls.info("%s", json.dumps(event), extra={"audit": event})

        await self._application({**scope, TELL: log}, receive, send)


def _described(ended: Ended) -> dict[str, Any]:
    request = ended.request
    return {
        "principal": request.principal,
        "session": request.session[:_DIGITS],
        "client": request.client[:SHOWN_CHARS],
        "client_version": request.client_version[:SHOWN_CHARS],
        "method": request.call.partition(":")[0],
        "tool": request.tool,
        "outcome": ended.outcome,
        "code": ended.code,
        "ms": round(ended.ms, 1),
    }
