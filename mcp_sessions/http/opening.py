"""The request that opens a session."""

import logging
from typing import Final

from mcp_types import INVALID_PARAMS

from mcp_sessions.errors import TooManySessions
from mcp_sessions.http.headers import SESSION_ID
from mcp_sessions.http.responses import reject, send_message
from mcp_sessions.records import Handshake, Session, fingerprint, new_session_id, shown
from mcp_sessions.repeats import Repeats
from mcp_sessions.sdk.kernel import Refused
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.signals import session_created
from mcp_sessions.store.calls import sessions
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Scope, Send

logger = logging.getLogger(__name__)

#: Bytes of what `initialize` leaves in the store; more is refused.
MAX_HANDSHAKE_BYTES: Final = 16 * 1024
_refused: Final = Repeats(logger, "New sessions refused at a cap")


async def initialize(
    runtime: Runtime, request: jsonrpc.Request, principal: str, scope: Scope, send: Send
) -> None:
    """Lifecycle → Initialization. The session exists for every process before the response is sent.

    With RESPONSE = "sse" the response is an event stream of one event. It has no id: there is nothing to resume.
    """
    conf = runtime.context.conf()
    as_stream = conf.response == "sse"
    try:
        response, handshake = await runtime.server.kernel.initialize(request, scope)
    except Refused as refused:
        return await send_message(send, refused.message, as_stream=as_stream)
    if len(handshake.text) > MAX_HANDSHAKE_BYTES:
        message = f"clientInfo and capabilities exceed {MAX_HANDSHAKE_BYTES} bytes"
        error = jsonrpc.error_response(request.id, {"code": INVALID_PARAMS, "message": message})
        return await send_message(send, error, as_stream=as_stream)
    ids: dict[str, str] = {}

    def mint() -> tuple[str, Handshake]:
        minted = new_session_id()
        made = fingerprint(minted) or ""
        ids[made] = minted
        return made, handshake

    create = sessions.create(
        mint()[0], principal=principal, handshake=handshake, limits=conf.limits, another=mint
    )
    try:
        session = await runtime.context.store.run(create)
    except TooManySessions as error:
        _refused.add("Refused a new session on endpoint %r: %s", conf.alias, error)
        return await reject(send, rejections.TOO_MANY_SESSIONS)
    logger.info("Session %.12s initialized by %s.", session.fingerprint, shown(handshake.client_name))
    await session_created.asend_robust(sender=Session, alias=conf.alias, session=session)
    headers = ((SESSION_ID, ids[session.fingerprint].encode("ascii")),)
    await send_message(send, response, headers, as_stream=as_stream)
