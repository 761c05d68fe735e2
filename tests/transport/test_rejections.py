"""Answers that refuse a request."""

import json

from mcp_sessions.transport import rejections


def test_a_rejection_is_a_jsonrpc_error_without_an_id() -> None:
    assert json.loads(rejections.NO_SESSION_ID.body) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "Bad Request: the Mcp-Session-Id header is missing"},
    }
