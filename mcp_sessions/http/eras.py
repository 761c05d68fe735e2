"""What a request is told whose protocol era the endpoint does not serve (the setting ERAS). Pure.

The answer depends on the setting alone, never on the store: clients that speak both eras take it for a property of the
server, and remember it.
"""

from typing import Any, Final

from mcp_types import INVALID_REQUEST, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.rejections import Rejection

#: What a request without the header speaks: the header came with the revision after it.
_UNSAID: Final = "2025-03-26"
#: Clients that speak both eras ask this first. They go on with `initialize` unless they read an error of the modern
#: era, such as UNSUPPORTED_PROTOCOL_VERSION. Some also give up when the message says that a session id is missing.
_NO_DISCOVER: Final = "Bad Request: server/discover is not served here. Begin with initialize."


def era_refusal(http_method: str, version: bytes | None, body: bytes | None, *, modern: bool) -> Rejection:
    """Why a request is refused. `modern` is its era, `version` its header, `body` None if it is not worth parsing."""
    if http_method != "POST" and not modern:
        # A client whose session is from before the setting changed reads from 405 that there is nothing to listen to.
        return rejections.POST_ONLY
    message = None if body is None else jsonrpc.parse(body)
    if isinstance(message, Rejection):
        return message
    request = message if isinstance(message, jsonrpc.Request) else None
    if modern and request is not None and request.method == "server/discover":
        return Rejection(status=400, code=INVALID_REQUEST, message=_NO_DISCOVER, request_id=request.id)
    return _unsupported(request, version, modern=modern)


def _unsupported(request: jsonrpc.Request | None, version: bytes | None, *, modern: bool) -> Rejection:
    """The UnsupportedProtocolVersionError of a request of that era (Versioning, Protocol Version Negotiation).

    The message has the versions, too: clients that only know `initialize` show nothing else.
    """
    supported = HANDSHAKE_PROTOCOL_VERSIONS if modern else MODERN_PROTOCOL_VERSIONS
    return Rejection(
        status=400,
        code=UNSUPPORTED_PROTOCOL_VERSION,
        message=f"Unsupported protocol version. This endpoint serves {', '.join(supported)}.",
        request_id=None if request is None else request.id,
        data={"supported": list(supported), "requested": _requested(request, version)},
    )


def _requested(request: jsonrpc.Request | None, version: bytes | None) -> str:
    """The version that a client asked for: `initialize` names it in its parameters, all others in the header."""
    offered: Any = None
    if request is not None and request.method == "initialize" and request.params is not None:
        offered = request.params.get("protocolVersion")
    if isinstance(offered, str):
        return offered
    return _UNSAID if version is None else version.decode("latin-1")
