"""Answers that refuse a request."""

import json
from typing import Final

from mcp_sessions.transport import rejections

#: Of each rejection: the HTTP status, the JSON-RPC code, and after how many seconds one may try again.
EXPECTED: Final = {
    "NO_SESSION_ID": (400, -32600, None),
    "SESSION_NOT_FOUND": (404, -32600, None),
    "STORE_UNAVAILABLE": (503, -32603, 2),
    "TOO_MANY_SESSIONS": (503, -32603, 30),
    "TOO_MANY_STREAMS": (503, -32603, 10),
    "TOO_MANY_REQUESTS": (503, -32603, 10),
    "TOO_MANY_CANCELLATIONS": (503, -32603, 60),
    "AUTHENTICATION_UNAVAILABLE": (503, -32603, 2),
    "NOT_AWAITED": (400, -32600, None),
    "BLOCKED": (403, -32600, None),
    "BAD_ORIGIN": (403, -32600, None),
    "BAD_HOST": (421, -32600, None),
    "BAD_VERSION": (400, -32600, None),
    "BAD_EVENT_ID": (400, -32600, None),
    "REPEATED_HEADER": (400, -32600, None),
    "NOT_ACCEPTABLE": (406, -32600, None),
    "NOT_ACCEPTABLE_STREAM": (406, -32600, None),
    "NOT_JSON": (415, -32600, None),
    "TOO_LARGE": (413, -32600, None),
    "TOO_DEEP": (400, -32700, None),
    "UNPARSABLE": (400, -32700, None),
    "BATCH": (400, -32600, None),
    "NOT_JSONRPC": (400, -32600, None),
    "BAD_METHOD": (405, -32600, None),
    "POST_ONLY": (405, -32600, None),
    "FAILED": (500, -32603, None),
    "STOPPED": (503, -32603, 1),
}


def test_each_rejection_has_the_status_and_the_code_that_clients_act_on() -> None:
    found = {}
    for name, each in vars(rejections).items():
        if isinstance(each, rejections.Rejection):
            headers, error = dict(each.headers), json.loads(each.body)["error"]
            after = headers.get(b"retry-after")
            found[name] = (each.status, error["code"], None if after is None else int(after))
            assert headers[b"content-length"] == b"%d" % len(each.body)
            assert headers[b"content-type"] == b"application/json"
    assert found == EXPECTED


def test_an_error_says_where_it_is_explained_unless_it_says_more_itself() -> None:
    for rejection in (
        rejections.BLOCKED,
        rejections.SESSION_NOT_FOUND,
        rejections.BAD_HOST,
        rejections.STOPPED,
    ):
        see = json.loads(rejection.body)["error"]["data"]["see"]
        assert see.endswith(f"#{rejection.status}")
    own = rejections.Rejection(status=404, message="no", data={"name": 1}, request_id="7")
    assert json.loads(own.body) == {
        "jsonrpc": "2.0",
        "id": "7",
        "error": {"code": -32600, "message": "no", "data": {"name": 1}},
    }


def test_a_rejection_is_a_jsonrpc_error_without_an_id() -> None:
    assert json.loads(rejections.NO_SESSION_ID.body) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "Bad Request: the Mcp-Session-Id header is missing"},
    }
