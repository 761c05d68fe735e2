"""What the checks look at in the servers that SERVER names.

This module imports the MCP SDK, which takes a second. `servers` imports it when a check runs, so that processes that
serve nothing (a shell, a task queue) start without it.
"""

from types import SimpleNamespace
from typing import Any

from asgiref.sync import async_to_sync
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import InvalidRequestState, RequestStateBoundary
from mcp.shared.exceptions import MCPError

from mcp_sessions import subscriptions
from mcp_sessions.sdk.server import load_server
from mcp_sessions.security import request_state_security
from mcp_sessions.tools import OptInTools


def problem(path: str) -> str | None:
    """Why the server at a dotted path cannot be loaded."""
    loaded = _server_or_problem(path)
    return loaded if isinstance(loaded, str) else None


def has_keys_of_its_own(path: str) -> bool:
    """Whether keys from SECRET_KEY do not open what the server seals for a client of the modern era."""
    server = _server_or_problem(path)
    layers = () if isinstance(server, str) else server.middleware
    boundaries = [layer for layer in layers if isinstance(layer, RequestStateBoundary)]
    return not all(_opens_what_is_sealed_by(boundary) for boundary in boundaries)


def opt_in_tools(path: str) -> frozenset[str]:
    """The names of the server's opt-in tools."""
    server = _server_or_problem(path)
    layers = () if isinstance(server, str) else server.middleware
    return frozenset().union(*(layer.names for layer in layers if isinstance(layer, OptInTools)))


def announces_in_one_process(path: str, alias: str) -> bool:
    """Whether what the server announces does not reach the other processes of the endpoint."""
    return isinstance(_server_or_problem(path), MCPServer) and not subscriptions.are_shared(alias)


def _server_or_problem(path: str) -> MCPServer[Any] | Server[Any] | str:
    try:
        return load_server(path)
    except Exception as error:  # noqa: BLE001 - this imports the user's module, which may raise anything
        return f"{path!r} cannot be loaded: {type(error).__name__}: {error}"


def _opens_what_is_sealed_by(boundary: RequestStateBoundary) -> bool:
    """Whether keys from SECRET_KEY open what the boundary seals. It hides its keys, so have it seal something."""
    context: Any = SimpleNamespace(method="tools/call", params={"name": "check"})

    async def request_input(_: Any) -> dict[str, Any]:
        return {"resultType": "input_required", "requestState": "check"}

    try:
        sealed: Any = async_to_sync(boundary)(context, request_input)
        request_state_security().codec.unseal(sealed["requestState"])
    except (InvalidRequestState, MCPError):
        return False
    return True
