"""Whatever is in a request, the pure parts that read it answer, and raise nothing but what they say."""

import json
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_sessions import ids
from mcp_sessions.errors import SessionGone
from mcp_sessions.handles import text as handles
from mcp_sessions.http import access, headers, responses
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.event_ids import EventId
from mcp_sessions.transport.rejections import Rejection

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
#: What looks like a message, with anything in its places.
MESSAGES: Final = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": st.integers() | st.text() | JSON,
        "method": st.sampled_from(["initialize", "tools/call"]) | JSON,
        "params": st.dictionaries(st.text(), JSON) | JSON,
        "result": JSON,
        "error": JSON,
    },
)
#: A header: what servers pass on has no line breaks.
HEADER: Final = st.binary().map(lambda value: value.replace(b"\r", b"").replace(b"\n", b""))
FINGERPRINT: Final = "0" * 64
#: How long a machine takes that does other things, too, is no failure.
patient = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.binary() | (MESSAGES | JSON).map(lambda value: json.dumps(value).encode()))
def test_a_body_is_a_message_or_is_refused(body: bytes) -> None:
    found = jsonrpc.parse(body)
    if isinstance(found, Rejection):
        assert 400 <= found.status < 500
    else:
        jsonrpc.call_name(found)


@patient
@given(st.text())
def test_an_event_id_is_of_this_session_or_is_none(text: str) -> None:
    found = EventId.parse(text, fingerprint=FINGERPRINT)
    assert found is None or EventId.parse(str(found), fingerprint=FINGERPRINT) == found


@patient
@given(st.text(), st.text(), st.text())
def test_an_invented_id_is_unknown(text: str, principal: str, namespace: str) -> None:
    try:
        ids.verify(text, principal, namespace)
    except SessionGone:
        return
    raise AssertionError("somebody has guessed a signature")


@patient
@given(st.sampled_from(["box", "reading-list"]), st.text())
def test_the_text_of_a_handle_is_read(kind: str, text: str) -> None:
    handles.read(kind, text)
    handles.read(kind, f"{kind}-{text}")


@patient
@given(HEADER, HEADER)
def test_types_are_accepted_or_refused(content_type: bytes, accept: bytes) -> None:
    for rejection in (
        headers.post_rejection(content_type, accept, json_only=False),
        headers.get_rejection(accept),
    ):
        assert rejection is None or 400 <= rejection.status < 500


@patient
@given(st.lists(st.tuples(st.sampled_from([b"accept", b"authorization", b"x"]), HEADER), max_size=6))
def test_headers_are_combined_or_refused(raw: list[tuple[bytes, bytes]]) -> None:
    if headers.repetition(raw) is None:
        headers.combined(raw)


@patient
@given(HEADER, HEADER)
def test_no_host_and_no_origin_gets_in_that_is_not_named(origin: bytes, host: bytes) -> None:
    named: Any = ("shop.example.com",)
    if access.host_allowed(host, named, False):  # noqa: FBT003 - the setting's name is DEBUG
        assert host.lower().partition(b":")[0].rstrip(b".") == b"shop.example.com"
    if access.origin_allowed(origin, host, named, ("https://app.example.com",)):
        assert origin == b"https://app.example.com" or origin.partition(b"://")[2] == host


@patient
@given(st.binary())
def test_a_preflight_answers_with_headers_that_are_headers(requested: bytes) -> None:
    for name, value in responses.preflight(requested):
        assert b"\n" not in name + value
        assert b"\r" not in name + value
        assert value.isascii()
