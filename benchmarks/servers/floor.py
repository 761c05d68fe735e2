"""What no server on the SDK's kernel can do without: the kernel itself, for a client that is always the same.

No sessions, no store, no streams, no routing, no checks. Its speed bounds the ratio that any of them can reach.
"""

import json
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner
from mcp.shared.inbound import InboundModernRoute
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

from benchmarks.servers.tool import server
from mcp_sessions.sdk.channel import NoChannel
from mcp_sessions.sdk.dispatch import DispatchContext, Outbound
from mcp_sessions.sdk.envelope import EnvelopedConnection
from mcp_sessions.sdk.kernel import Kernel
from mcp_sessions.sdk.server import hosted_lowlevel
from mcp_sessions.transport import jsonrpc

REVISION: Final = "2025-11-25"
_kernel = Kernel(server, hosted_lowlevel(server, server._lowlevel_server))  # noqa: SLF001


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer one POST, of either era."""
    body, more = b"", True
    while more:
        part = await receive()
        body, more = body + part.get("body", b""), part.get("more_body", False)
    message = json.loads(body)
    if "id" not in message:
        return await respond(send, 202, b"")
    request = jsonrpc.Request(id=message["id"], method=message["method"], params=message.get("params"))
    connection = _connection(request)
    runner = ServerRunner(_kernel.lowlevel, connection, {})
    context = DispatchContext(request, scope, NoChannel(), connection)
    result = await runner.on_request(context, request.method, request.params)
    await respond(send, 200, jsonrpc.encode({"jsonrpc": "2.0", "id": request.id, "result": result}))


def _connection(request: jsonrpc.Request) -> Connection:
    envelope = (request.params or {}).get("_meta", {})
    if PROTOCOL_VERSION_META_KEY in envelope:
        route = InboundModernRoute(
            protocol_version=envelope[PROTOCOL_VERSION_META_KEY],
            client_info=envelope[CLIENT_INFO_META_KEY],
            client_capabilities=envelope[CLIENT_CAPABILITIES_META_KEY],
        )
        return EnvelopedConnection(route)
    connection = Connection.for_loop(
        Outbound(NoChannel()), session_id="the-only-one", protocol_version_hint=REVISION
    )
    if request.method != "initialize":
        connection.initialized.set()
    return connection


async def respond(send: Any, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"mcp-session-id", b"the-only-one"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
