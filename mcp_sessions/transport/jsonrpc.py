"""JSON-RPC messages: parsed from request bodies, and encoded. Pure.

Sections are those of the Model Context Protocol specification, Basic → Transports → Streamable HTTP.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NoReturn, TypeGuard

import pydantic_core

from mcp_sessions.transport.rejections import BATCH, NOT_JSONRPC, TOO_DEEP, UNPARSABLE, Rejection

#: JSON nested deeper is refused before it is parsed.
MAX_DEPTH: Final = 64
#: Characters of a JSON-RPC id that is a string; one that is a number has 64 bits.
MAX_ID_CHARS: Final = 256
RequestId = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A JSON-RPC request: it gets a response."""

    id: RequestId
    method: str
    params: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A JSON-RPC notification: it gets no response."""

    method: str
    params: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A JSON-RPC response of the client to a request of the server: `result` or `error`, whichever is not None."""

    id: RequestId
    result: dict[str, Any] | None
    error: dict[str, Any] | None


Message = Request | Notification | Reply


def parse(body: bytes) -> Message | Rejection:
    """The one JSON-RPC message of a body (section Sending Messages to the Server), or the reason why there is none."""
    # Only what has many brackets can be nested too deeply; there are few in most bodies.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        return TOO_DEEP
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        # The fast parser refuses lone surrogates, which JSON allows: let the other one decide.
        try:
            value = json.loads(body.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return UNPARSABLE
    if isinstance(value, list):
        return BATCH
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return NOT_JSONRPC
    return _message(value) if "method" in value else _reply(value)


def _message(value: dict[str, Any]) -> Request | Notification | Rejection:
    method, params = value["method"], value.get("params")
    if not isinstance(method, str) or not (isinstance(params, dict) or "params" not in value):
        return NOT_JSONRPC
    if "id" not in value:
        return Notification(method=method, params=params)
    if not is_request_id(value["id"]):
        return NOT_JSONRPC
    return Request(id=value["id"], method=method, params=params)


def _reply(value: dict[str, Any]) -> Reply | Rejection:
    result, error = value.get("result"), value.get("error")
    one_of_both = isinstance(result, dict) != isinstance(error, dict) and ("result" in value) != (
        "error" in value
    )
    if not one_of_both or not is_request_id(value.get("id")):
        return NOT_JSONRPC
    return Reply(id=value["id"], result=result, error=error)


def call_name(message: Message) -> str:
    """What the admin shows as a session's last call."""
    if isinstance(message, Reply):
        return "response"
    if message.method == "tools/call" and message.params is not None:
        return f"tools/call:{message.params.get('name')}"
    return message.method


def is_request_id(value: Any) -> TypeGuard[RequestId]:
    """A string or an integer; True is neither (JSON-RPC 2.0, section 4). Bounded: it travels between processes."""
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


#: A string, also one without an end: matched once from each opening quote, and never again from within.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = [1 if byte in b"[{" else -1 for byte in range(256)]


def _depth(body: bytes) -> int:
    """How deep the JSON of a body is nested, in linear time."""
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as compact ASCII JSON, NaN as null: no text or number that a handler returns fails to encode.

    ASCII also because some clients split the lines of event streams at each of Unicode's line ends.
    """
    try:
        return pydantic_core.to_json(message, ensure_ascii=True, inf_nan_mode="null")
    except ValueError:  # a lone surrogate
        value = pydantic_core.to_jsonable_python(message, inf_nan_mode="null")
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def error_response(request_id: RequestId | None, error: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def notification(method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """A notification; absent params stay absent, since JSON-RPC forbids null."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        message["params"] = params
    return message
