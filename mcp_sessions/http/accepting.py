"""Notifications of clients: accepted, and handled in the background."""

from mcp_sessions.http.responses import reject, respond
from mcp_sessions.records import Session
from mcp_sessions.serving.runtime import Runtime
from mcp_sessions.streams.standalone import StandaloneChannel
from mcp_sessions.transport import jsonrpc, rejections
from mcp_sessions.transport.asgi import Scope, Send


async def accept(
    runtime: Runtime, notification: jsonrpc.Notification, session: Session, scope: Scope, send: Send
) -> None:
    """Store what others wait for, answer 202, and run the server's handler in the background, if it has one."""
    params = notification.params or {}
    if notification.method == "notifications/cancelled":
        if not await runtime.inbox.cancel(session.fingerprint, params):
            return await reject(send, rejections.TOO_MANY_CANCELLATIONS)
    elif notification.method == "notifications/progress":
        await runtime.client_requests.progress(session.fingerprint, params)
    kernel = runtime.server.kernel
    if kernel.hears(notification.method):
        if not runtime.admission.may_run(session.fingerprint):
            return await reject(send, rejections.TOO_MANY_REQUESTS)
        context = runtime.context if session.is_stored else runtime.outage.context
        channel = StandaloneChannel(context, runtime.client_requests, session)
        handling = kernel.notify(notification, scope, session, channel)
        runtime.admission.run_notification(session.fingerprint, handling)
    await respond(send, 202)
