"""JSON-RPC messages: which bodies are messages, and how messages are encoded."""

import json
import math
import time

import pytest

from mcp_sessions.transport import jsonrpc, rejections


def parse(value: object) -> jsonrpc.Message | rejections.Rejection:
    return jsonrpc.parse(json.dumps(value).encode())


def test_a_request_a_notification_and_both_kinds_of_response_are_told_apart() -> None:
    assert parse({"jsonrpc": "2.0", "id": 1, "method": "ping"}) == jsonrpc.Request(
        id=1, method="ping", params=None
    )
    assert parse({"jsonrpc": "2.0", "id": "a", "method": "m", "params": {"x": 1}}) == jsonrpc.Request(
        id="a", method="m", params={"x": 1}
    )
    assert parse({"jsonrpc": "2.0", "method": "n"}) == jsonrpc.Notification(method="n", params=None)
    assert parse({"jsonrpc": "2.0", "id": 3, "result": {}}) == jsonrpc.Reply(id=3, result={}, error=None)
    error = {"code": 1, "message": "no"}
    assert parse({"jsonrpc": "2.0", "id": 3, "error": error}) == jsonrpc.Reply(id=3, result=None, error=error)


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "text",
        {},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
        {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": [], "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": 7},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": None},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "result": 5},
        {"jsonrpc": "2.0", "id": 1, "result": None},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": None},
        {"jsonrpc": "2.0", "result": {}},
    ],
)
def test_what_is_not_one_jsonrpc_message_is_refused(value: object) -> None:
    assert parse(value) is rejections.NOT_JSONRPC


@pytest.mark.protocol("H5")
def test_a_batch_is_refused_by_name() -> None:
    assert parse([{"jsonrpc": "2.0", "id": 1, "method": "ping"}]) is rejections.BATCH
    assert parse([]) is rejections.BATCH


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": Infinity}', b"9" * 5000, b'{"jsonrpc": "2.0"} trailing'],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert jsonrpc.parse(body) is rejections.UNPARSABLE


def test_depth_is_bounded_before_parsing() -> None:
    assert jsonrpc.parse(b"[" * 100_000) is rejections.TOO_DEEP
    assert jsonrpc.parse(b'{"a":' * 100_000) is rejections.TOO_DEEP


@pytest.mark.parametrize(
    "unended", [b'"' + b'\\"' * 1_000_000, b'"' * 2_000_001, b'"' + b'\\"' * 1_000_000 + b"\\\n"]
)
def test_strings_that_do_not_end_cost_linear_time(unended: bytes) -> None:
    began = time.process_time()
    assert jsonrpc.parse(b"[" * 65 + unended) is rejections.TOO_DEEP
    assert time.process_time() - began < 20  # quadratic time would be hours


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_a_body_in_another_encoding_than_utf_8_is_refused(encoding: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode(encoding)
    assert jsonrpc.parse(body) is rejections.UNPARSABLE


def test_the_ids_of_requests_are_bounded() -> None:
    ping = {"jsonrpc": "2.0", "method": "ping"}
    for fits in ("x" * jsonrpc.MAX_ID_CHARS, 2**63 - 1, -(2**63), 0):
        assert isinstance(parse({**ping, "id": fits}), jsonrpc.Request)
    for too_long in ("x" * (jsonrpc.MAX_ID_CHARS + 1), 2**63, -(2**63) - 1, 10**4000):
        assert parse({**ping, "id": too_long}) is rejections.NOT_JSONRPC
        assert parse({"jsonrpc": "2.0", "result": {}, "id": too_long}) is rejections.NOT_JSONRPC


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    params = {"text": "[{" * 500 + '"\\', "list": [[] for _ in range(200)]}
    assert isinstance(parse({"jsonrpc": "2.0", "method": "n", "params": params}), jsonrpc.Notification)


def test_the_deepest_allowed_nesting_is_allowed() -> None:
    nested: object = {}
    for _ in range(jsonrpc.MAX_DEPTH - 3):
        nested = [nested]
    assert isinstance(parse({"jsonrpc": "2.0", "method": "n", "params": {"x": nested}}), jsonrpc.Notification)
    assert parse({"jsonrpc": "2.0", "method": "n", "params": {"x": [nested]}}) is rejections.TOO_DEEP


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (jsonrpc.Reply(id=1, result={}, error=None), "response"),
        (jsonrpc.Request(id=1, method="tools/call", params={"name": "add"}), "tools/call:add"),
        (jsonrpc.Request(id=1, method="tools/call", params={}), "tools/call:None"),
        (jsonrpc.Request(id=1, method="tools/call", params=None), "tools/call"),
        (jsonrpc.Request(id=1, method="prompts/get", params={"name": "add"}), "prompts/get"),
        (jsonrpc.Notification(method="notifications/progress", params=None), "notifications/progress"),
    ],
)
def test_the_last_call_of_a_session_is_named_by_its_method_and_tool(
    message: jsonrpc.Message, name: str
) -> None:
    assert jsonrpc.call_name(message) == name


def test_a_message_that_utf_8_cannot_carry_is_still_encoded_as_compact_ascii() -> None:
    encoded = jsonrpc.encode({"text": "\ud800é\n", "more": [1, 2]})
    assert json.loads(encoded) == {"text": "\ud800é\n", "more": [1, 2]}
    assert encoded == rb'{"text":"\ud800\u00e9\n","more":[1,2]}'


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_encoded_is_json_whichever_encoder_it_takes(number: float) -> None:
    for text in ("plain", "\ud800"):
        encoded = jsonrpc.encode({"text": text, "list": [number, {"deeper": (number, 1.5)}]})
        assert json.loads(encoded) == {"text": text, "list": [None, {"deeper": [None, 1.5]}]}
