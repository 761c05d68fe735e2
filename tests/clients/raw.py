"""What a client library does not show: the HTTP status that a session id gets at one process."""

import httpx

from tests.support.processes import Process

HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}


def status_of(process: Process, session_id: str) -> int:
    """The status of a `ping` in that session, asked of that process."""
    body = {"jsonrpc": "2.0", "id": "raw", "method": "ping"}
    headers = HEADERS | {"Mcp-Session-Id": session_id}
    return httpx.post(f"{process.url}/mcp", json=body, headers=headers).status_code


def end(process: Process, session_id: str) -> int:
    """The status of a DELETE of that session, asked of that process."""
    headers = HEADERS | {"Mcp-Session-Id": session_id}
    return httpx.delete(f"{process.url}/mcp", headers=headers).status_code
