"""The request that opens a session."""

import logging
from collections.abc import Callable
from typing import Any, Final

from mcp_types import INVALID_PARAMS

from mcp_sessions import counting, ids, lifecycle
from mcp_sessions.authentication.addresses import client_address
from mcp_sessions.authentication.blocking import Asker
from mcp_sessions.authentication.identity import Identity
from mcp_sessions.conf import Endpoint
from mcp_sessions.errors import StoreUnavailable, TooManySessions
from mcp_sessions.http import events
from mcp_sessions.http.headers import SESSION_ID
from mcp_sessions.http.responses import reject, send_message
from mcp_sessions.records import Handshake, Session
from mcp_sessions.repeats import Repeats
from mcp_sessions.sdk.kernel import Refused
from mcp_sessions.serving.limits import counted_as
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.signals import session_created
from mcp_sessions.store.calls import sessions
from mcp_sessions.store.calls.rates import Who
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Scope, Send

logger = logging.getLogger(__name__)

#: Bytes of what `initialize` leaves in the store; more is refused.
MAX_HANDSHAKE_BYTES: Final = 16 * 1024
_INITIALIZED: Final = "Session %.12s initialized by %s."
_refused: Final = Repeats(logger, "New sessions refused at a cap")


async def initialize(
    runtime: Runtime, request: jsonrpc.Request, identity: Identity, scope: Scope, send: Send
) -> None:
    """Lifecycle → Initialization. The session exists for every process before the response is sent.

    With RESPONSE = "sse" the response is an event stream of one event. It has no id: there is nothing to resume.
    """
    if lifecycle.is_draining():
        return await reject(send, rejections.STOPPED)
    conf = runtime.context.conf()
    as_stream = conf.response == "sse"
    if (refusal := await _refusal(runtime, request, identity, scope)) is not None:
        return await reject(send, refusal)
    try:
        response, handshake = await runtime.server.kernel.initialize(request, scope)
    except Refused as refused:
        return await send_message(send, refused.message, as_stream=as_stream)
    if len(handshake.text) > MAX_HANDSHAKE_BYTES:
        return await send_message(send, _too_large(request), as_stream=as_stream)
    validity = runtime.context.node.validity
    # A moment before which no session counts may have been by another machine's clock.
    created_ms = max(validity.now_ms(), validity.min_created_ms)
    minted, mint = _minting(handshake, identity, conf, created_ms)
    fingerprint, recorded = mint()
    create = sessions.create(
        fingerprint,
        principal=identity.principal,
        handshake=recorded,
        limits=conf.limits,
        another=mint,
        created_ms=created_ms,
        first_ms=validity.min_created_ms,
    )
    try:
        session = await runtime.context.store.run(create)
    except TooManySessions as error:
        _refused.add("Refused a new session on endpoint %r: %s", conf.alias, error)
        counting.count_refused_session(conf.alias, error.setting)
        return await reject(send, rejections.TOO_MANY_SESSIONS)
    except StoreUnavailable as error:
        session_id, session = runtime.outage.open(handshake, identity, error)
        minted[session.fingerprint] = session_id.text
    events.tell(logger, _INITIALIZED, event="opened", alias=conf.alias, session=session)
    await session_created.asend_robust(sender=Session, alias=conf.alias, session=session)
    headers = ((SESSION_ID, minted[session.fingerprint].encode("ascii")),)
    await send_message(send, response, headers, as_stream=as_stream)


def _minting(
    handshake: Handshake, identity: Identity, conf: Endpoint, created_ms: int
) -> tuple[dict[str, str], Callable[[], tuple[str, Handshake]]]:
    """The ids that were made, by their fingerprints, and what makes another one, with what is stored of it."""
    minted: dict[str, str] = {}
    recorded = handshake.opened_with(identity.credential)

    def mint() -> tuple[str, Handshake]:
        session_id = ids.mint(
            handshake,
            principal=identity.principal,
            namespace=conf.namespace,
            created_ms=created_ms,
            max_age_ms=conf.limits.max_age_ms,
        )
        minted[session_id.fingerprint] = session_id.text
        return session_id.fingerprint, recorded

    return minted, mint


def _too_large(request: jsonrpc.Request) -> dict[str, Any]:
    message = f"clientInfo and capabilities exceed {MAX_HANDSHAKE_BYTES} bytes"
    return jsonrpc.error_response(request.id, {"code": INVALID_PARAMS, "message": message})


async def _refusal(
    runtime: Runtime, request: jsonrpc.Request, identity: Identity, scope: Scope
) -> rejections.Rejection | None:
    """Why there is no new session: its client is blocked, or RATE_LIMITS are reached.

    While the store is away, these refuse nothing.
    """
    conf, blocks = runtime.context.conf(), runtime.blocks
    info = (request.params or {}).get("clientInfo")
    if blocks.any and isinstance(info, dict) and blocks.refuse(Asker(client=str(info.get("name", "")))):
        return rejections.BLOCKED
    if not conf.rates:
        return None
    who = Who(identity.principal, None, client_address(scope, conf.trusted_proxies))
    return await runtime.limits.refusal(counted_as(request), who)
