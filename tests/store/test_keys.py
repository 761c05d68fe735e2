"""The names of keys, and what a record contains."""

import hashlib
import logging
from dataclasses import replace
from typing import Any

import pytest

from mcp_sessions.records import KEPT_HANDSHAKE_CHARS, Handshake, parse_handshake
from mcp_sessions.store import keys as keys_module
from mcp_sessions.store.calls import indexes, sessions
from mcp_sessions.store.calls.indexes import Place
from mcp_sessions.store.calls.reading import parse_features, parse_session
from mcp_sessions.store.keys import Keys, client_index, client_label, principal_index, protocol_index
from tests.store.harness import LIMITS

FINGERPRINT = "ab" * 32
BESIDE = ("index:ends", "index:fingerprints")
HANDSHAKE = '["2025-11-25",{"name":"claude-ai","version":"0.1.0"},{}]'
RECORD = f"1 1800000000000 86400000 2500 3602500 2000 7 -aifs\ntools/call:add\nanonymous\n{HANDSHAKE}"


def plain(key: str) -> str:
    return f":1:{key}"


def test_keys_are_those_of_the_table() -> None:
    keys = Keys("shop", plain)

    for part in ("session", "features", "state", "ended", "stream:standalone"):
        assert keys.resolve(FINGERPRINT, [part]) == [f":1:mcp:v1:shop:{{{FINGERPRINT}}}:{part}"]
    for part in ("index:activity", "index:ends", "clients", "inbox:aa"):
        assert keys.resolve("", [part]) == [f":1:mcp:v1:{{shop}}:{part}"]


def test_the_shards_of_an_index_have_slots_of_their_own_and_other_numbers_of_them_other_keys() -> None:
    of_sixteen = Keys("shop", plain, shards=16)

    assert of_sixteen.resolve("@ffff", ["clients"]) == [":1:mcp:v1:{shop/15of16}:clients"]
    for shards in (1, 2, 3, 16, 100, 256):
        keys = Keys("shop", plain, shards=shards)
        found = [keys.resolve(home, ["clients"])[0] for home in keys_module.homes(shards)]
        assert len(set(found)) == shards
        for number, home in enumerate(keys_module.homes(shards)):
            assert keys_module.shard_of(home[1:], shards) == number
            below = int(home[1:], 16) - 1
            assert below < 0 or keys_module.shard_of(f"{below:04x}", shards) == number - 1
    assert Keys("shop", plain).resolve("@ffff", ["clients"]) == [":1:mcp:v1:{shop}:clients"]


def test_a_sessions_indexes_are_activity_principal_client_and_protocol() -> None:
    handshake = parse_handshake(HANDSHAKE)
    own = ("index:activity", "index:client:claude-ai", "index:protocol:2025-11-25")
    of_ann = ("index:principal:" + hashlib.sha256(b"ann").hexdigest()[:32],)
    nobodys = "index:principal:2f183a4e64493af3f377f745eda50236"

    assert indexes.places(FINGERPRINT, handshake, "anonymous") == [
        Place("@" + FINGERPRINT, (own[0], nobodys, *own[1:]), BESIDE)
    ]
    assert indexes.places(FINGERPRINT, handshake, "ann") == [
        Place("@" + FINGERPRINT, own, BESIDE),
        Place("@" + hashlib.sha256(b"ann").hexdigest()[:32], of_ann, ()),
    ]
    assert indexes.places(FINGERPRINT, handshake, "ann", together=True) == [
        Place("@" + FINGERPRINT, (own[0], *of_ann, *own[1:]), BESIDE)
    ]
    assert client_index("claude ai") == "index:client:claude ai"
    assert protocol_index("draft/1") == "index:protocol:draft%2F1"


@pytest.mark.parametrize(
    "make_key",
    [
        plain,
        lambda key: f"{key}:behind",
        lambda key: key,
        lambda key: key.upper(),
        lambda key: str(hash(key)),
        lambda key: f"{key[::-1]}",
        lambda key: f"{key}{key}",
        lambda key: key if len(key) < 100 else f"long:{hash(key)}",
    ],
)
def test_every_key_function_is_followed(make_key: Any) -> None:
    keys = Keys("shop", make_key)

    for fingerprint in (FINGERPRINT, "0" * 64, "1" * 64, "01" * 32):
        for part in ("session", "stream-info:standalone"):
            [key] = keys.resolve(fingerprint, [part])
            assert key == make_key(f"mcp:v1:shop:{{{fingerprint}}}:{part}")
    assert keys.resolve("", ["nodes"]) == [make_key("mcp:v1:{shop}:nodes")]


def test_hostile_text_stays_within_its_part_of_the_key() -> None:
    keys = Keys("sh}op{", plain)
    prefix = ":1:mcp:v1:{sh%7Dop%7B}:index:client:"

    for name in ("}:{x", "*?[", "\r\n", "☃" * 500, "\ud800", "a" * 10_000):
        [key] = keys.resolve("", [client_index(name)])
        assert key.startswith(prefix)
        assert len(key) <= len(prefix) + 160
        assert not set(key.removeprefix(prefix)) & set("{}*?[]:\r\n/")


def test_names_that_differ_within_a_hundred_characters_have_different_indexes() -> None:
    names = ["☃" * 99 + "a", "☃" * 99 + "b", "a", "A", "", " ", "%20", "+", "é", "e\u0301"]

    assert len({client_index(name) for name in names}) == len(names)
    assert client_index("x" * 100 + "a") == client_index("x" * 100 + "b")
    assert client_label("x" * 101) == "x" * 100


def test_principals_of_any_text_have_different_indexes() -> None:
    assert len({principal_index(each) for each in ("", "a", "\ud800", "a\n", "issuer|a")}) == 5


def test_every_key_of_the_code_is_in_the_table() -> None:
    table = str(keys_module.__doc__)

    for part in ("session", "features", "state", "ended", "index:activity", "index:ends", "clients"):
        assert f":{part}`" in table


def test_a_record_is_read_with_all_its_fields() -> None:
    session = parse_session(FINGERPRINT, [RECORD.encode(), 0, [b"level", b"debug", b"tool:paint", b"1"]])

    assert session is not None
    assert session.handshake == Handshake(
        protocol_version="2025-11-25",
        client_info={"name": "claude-ai", "version": "0.1.0"},
        capabilities={},
    )
    created = 1_800_000_000_000
    assert (session.created_ms, session.deadline_ms) == (created, created + 86_400_000)
    assert (session.last_activity_ms, session.expires_ms) == (created + 2_500, created + 3_602_500)
    assert (session.active, session.initialized, session.requests) == (True, True, 7)
    assert (session.last_call, session.principal) == ("tools/call:add", "anonymous")
    assert (session.log_level, session.tools) == ("debug", frozenset({"paint"}))


@pytest.mark.parametrize(("more", "is_kept"), [(-1, True), (0, True), (1, False)])
def test_only_handshakes_of_ordinary_length_are_kept_once_they_were_read(more: int, is_kept: bool) -> None:
    padding = "x" * (KEPT_HANDSHAKE_CHARS - len(HANDSHAKE) + more)
    record = RECORD.replace("claude-ai", "claude-ai" + padding).encode()
    first, second = (parse_session(FINGERPRINT, [record, 0]) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.handshake == second.handshake
    assert len(first.handshake.text) == KEPT_HANDSHAKE_CHARS + more
    assert (first.handshake is second.handshake) == is_kept


@pytest.mark.parametrize("flags", ["-", "-a", "-i", "-fs"])
def test_flags_are_what_they_say(flags: str) -> None:
    session = parse_session(FINGERPRINT, [RECORD.replace("-aifs", flags).encode(), 0])

    assert session is not None
    assert (session.active, session.initialized) == ("a" in flags, "i" in flags)
    assert (session.log_level, session.tools) == (None, frozenset())


def test_without_a_reply_there_is_no_session_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert parse_session(FINGERPRINT, None) is None
    assert not caplog.records


@pytest.mark.parametrize("reply", [b"2 whatever", b"", [b"1 2"], [b"\xff"], ValueError("WRONGTYPE")])
def test_what_cannot_be_read_is_logged_with_a_short_fingerprint(
    reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert parse_session(FINGERPRINT, reply) is None

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"Session {FINGERPRINT[:12]} is unreadable")
    assert FINGERPRINT[:13] not in record.getMessage()


def test_features_of_other_releases_are_ignored() -> None:
    assert parse_features([b"colour", b"red", b"tool:sing", b"1"]) == (None, frozenset({"sing"}))


def call_of(touch: Any) -> str:
    """The call as the record keeps it."""
    return str(touch.arguments[2])


@pytest.mark.parametrize("call", ["", "ping", "tools/call:remember", "x" * 128])
def test_ordinary_calls_are_kept_as_they_are(call: str) -> None:
    assert call_of(sessions.touch(FINGERPRINT, principal="ann", limits=LIMITS, call=call)) == call


@pytest.mark.parametrize("call", ["a\nb", "é", "x" * 129, "\ud800" * 200, "\x00", "tab\t"])
def test_other_calls_become_a_bounded_line_of_ascii(call: str) -> None:
    cleaned = call_of(sessions.touch(FINGERPRINT, principal="ann", limits=LIMITS, call=call))

    assert 0 < len(cleaned) <= 128
    assert cleaned.isascii()
    assert cleaned.isprintable()


@pytest.mark.parametrize(
    "principal", ["", "anonymous", "https://issuer|ann", "a\nb\\n", "é☃\ud800", "\\", "\x00"]
)
def test_principals_of_any_text_are_read_back_from_their_line(principal: str) -> None:
    line = sessions.touch(FINGERPRINT, principal=principal, limits=LIMITS).arguments[0]

    assert line.isascii()
    assert "\n" not in line
    session = parse_session(FINGERPRINT, [RECORD.replace("anonymous", line).encode("ascii"), 0])
    assert session is not None
    assert session.principal == principal


@pytest.mark.parametrize(("cap", "shards"), [(0, 16), (1, 16), (7, 16), (16, 16), (50, 16), (3, 1)])
def test_the_parts_of_a_cap_are_the_cap_and_differ_by_one_at_most(cap: int, shards: int) -> None:
    parts = [indexes.part_of(cap, home, shards) for home in keys_module.homes(shards)]
    assert sum(parts) == cap
    assert max(parts) - min(parts) <= 1


def test_the_index_of_a_principal_is_in_one_shard_and_any_other_in_all() -> None:
    limits = replace(LIMITS, shards=16)
    for principal in (None, "anonymous"):
        assert list(indexes.homes_of(principal=principal, limits=limits)) == keys_module.homes(16)
    [home] = indexes.homes_of(principal="ann", limits=limits)
    keys = Keys("shop", plain, shards=16)
    of_ann = keys_module.home_of_principal("ann")
    assert keys.resolve(home, ["clients"]) == keys.resolve(of_ann, ["clients"])


def test_a_key_function_that_only_adds_to_names_is_not_called_for_each_request() -> None:
    called: list[str] = []

    def make_key(key: str) -> str:
        called.append(key)
        return f"before:{key}:behind"

    keys = Keys("shop", make_key)
    called.clear()
    [key] = keys.resolve(FINGERPRINT, ["session"])
    assert (key, called) == (f"before:mcp:v1:shop:{{{FINGERPRINT}}}:session:behind", [])
