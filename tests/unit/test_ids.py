"""Signed session ids: what comes back out of one, and that nothing but one of ours is one."""

import hashlib
import hmac
import re
import time
from contextlib import suppress
from typing import Any, Final

import pytest
from django.test import override_settings
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mcp_sessions import ids
from mcp_sessions.errors import SessionGone
from mcp_sessions.ids import MOST_CHARS, NAME_CHARS, VERSION_CHARS, SignedId, mint, verify
from mcp_sessions.records import FINGERPRINT, Handshake

NOW: Final = 1_796_000_000_000
DAY: Final = 86_400_000
CAPABILITIES: Final[Any] = {
    "roots": {"listChanged": True},
    "sampling": {"tools": {}, "context": {}},
    "elicitation": {"form": {}, "url": {}},
    "tasks": {"list": {}, "cancel": {}},
    "experimental": {},
    "extensions": {},
}

# A loaded machine is not a failure, and nothing is kept between two runs.
settings.register_profile("repository", deadline=None, database=None)
settings.load_profile("repository")

#: Any text, lone surrogates included: JSON can have them.
anything = st.text(st.characters(codec=None), max_size=100)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)
#: What clients send: some of what the protocol names, and what it does not name.
capabilities = st.builds(
    lambda some, more: {name: CAPABILITIES[name] for name in some} | more,
    st.sets(st.sampled_from(sorted(CAPABILITIES))),
    st.dictionaries(anything, json_values, max_size=2),
)
handshakes = st.builds(
    lambda protocol, name, version, capable: Handshake(
        protocol_version=protocol, client_info={"name": name, "version": version}, capabilities=capable
    ),
    st.sampled_from(["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]),
    anything,
    anything,
    capabilities,
)
namespaces = st.text("abcdefghijkl_.:-0123", min_size=1, max_size=20)
#: What has the form of an id.
alike = st.builds(
    "1{:012x}{}".format,
    st.integers(0, 2**48 - 1),
    st.text("ABCDEFXYZabcdefxyz0189-_", min_size=54, max_size=387),
)
moments = st.integers(0, 2**48 - 1)
ages = st.integers(1, 10**12)


def a_handshake(**changes: Any) -> Handshake:
    values = {
        "protocol_version": "2025-11-25",
        "client_info": {"name": "claude-code", "version": "2.1.147"},
        "capabilities": {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {}},
    }
    return Handshake(**{**values, **changes})


def an_id(
    handshake: Handshake | None = None, *, principal: str = "user:1", created_ms: int = NOW
) -> SignedId:
    return mint(
        handshake or a_handshake(),
        principal=principal,
        namespace="shop",
        created_ms=created_ms,
        max_age_ms=DAY,
    )


def assert_unknown(text: str, principal: str = "user:1", namespace: str = "shop") -> None:
    with pytest.raises(SessionGone):
        verify(text, principal, namespace)


@given(handshakes, anything, namespaces, moments, ages)
def test_what_was_minted_comes_back(
    handshake: Handshake, principal: str, namespace: str, created_ms: int, max_age_ms: int
) -> None:
    minted = mint(
        handshake, principal=principal, namespace=namespace, created_ms=created_ms, max_age_ms=max_age_ms
    )
    found = verify(minted.text, principal, namespace)

    assert found == minted
    assert re.fullmatch(r"[\x21-\x7e]+", found.text)
    assert len(found.text) <= MOST_CHARS
    assert (found.created_ms, found.deadline_ms) == (created_ms, created_ms + max_age_ms)
    assert found.fingerprint == hashlib.sha256(minted.text.encode("ascii")).hexdigest()
    carried = found.handshake
    if carried is not None:
        assert carried.protocol_version == handshake.protocol_version
        assert carried.client_name == handshake.client_name[:NAME_CHARS]
        assert carried.client_version == handshake.client_version[:VERSION_CHARS]
        assert carried.capabilities == handshake.capabilities


@given(st.data(), handshakes)
def test_an_id_with_one_changed_bit_is_unknown(data: st.DataObject, handshake: Handshake) -> None:
    text = an_id(handshake).text
    place, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(text.encode("ascii"))
    changed[place] ^= 1 << bit
    assert_unknown(changed.decode("latin-1"))


@given(st.data())
def test_an_id_with_a_part_missing_doubled_or_inserted_is_unknown(data: st.DataObject) -> None:
    text = an_id().text
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    inserted = data.draw(st.text(max_size=20))
    changed = text[:start] + inserted + text[stop:]
    assume(changed != text)
    assert_unknown(changed)


@given(anything, anything, namespaces, namespaces)
@example("user:1", "user:11", "shop", "shop")
@example("user:1", "user:1", "shop", "shop2")
def test_an_id_of_another_principal_or_namespace_is_unknown(
    mine: str, yours: str, here: str, there: str
) -> None:
    assume((mine, here) != (yours, there))
    minted = mint(a_handshake(), principal=mine, namespace=here, created_ms=NOW, max_age_ms=DAY)
    assert_unknown(minted.text, yours, there)


@given(st.text() | alike)
@example("")
@example("x" * 43)
@example("1" * 100_000)
def test_invented_text_is_unknown(text: str) -> None:
    assert_unknown(text)


def test_parts_of_two_ids_do_not_make_a_third() -> None:
    one, other = an_id().text, an_id(created_ms=NOW + 1).text
    mixed = {
        first[:cut] + second[cut:]
        for cut in range(len(one))
        for first, second in ((one, other), (other, one))
    }
    mixed -= {one, other}
    assert len(mixed) > 50
    for text in mixed:
        assert_unknown(text)


def test_no_two_ids_are_alike_and_none_shows_itself() -> None:
    minted = [an_id() for _ in range(100)]
    assert len({each.text for each in minted}) == len({each.fingerprint for each in minted}) == 100
    assert all(FINGERPRINT.match(each.fingerprint) for each in minted)
    assert not any(each.text in f"{each} {each!r}" for each in minted)


def test_an_ordinary_client_has_a_short_id() -> None:
    assert len(an_id().text) == 121


@pytest.mark.parametrize("known", CAPABILITIES)
def test_a_known_capability_takes_no_more_room_than_none(known: str) -> None:
    with_all = {**CAPABILITIES, known: {}}
    minted = an_id(a_handshake(capabilities=with_all))
    carried = minted.handshake
    assert carried is not None
    assert carried.capabilities == with_all
    assert len(minted.text) <= len(an_id(a_handshake(capabilities={})).text) + 6


def test_what_does_not_fit_is_left_out_and_the_id_still_holds() -> None:
    unusual = {"experimental": {f"feature-{n}": {"level": n} for n in range(40)}}
    minted = an_id(a_handshake(capabilities=unusual))
    assert minted.handshake is None
    assert len(minted.text) == 67
    assert verify(minted.text, "user:1", "shop").deadline_ms == NOW + DAY


def test_what_just_fits_is_carried() -> None:
    lengths = {}
    for size in range(300):
        minted = an_id(a_handshake(capabilities={"experimental": {"x" * size: {}}}))
        lengths[size] = len(minted.text), minted.handshake is not None
    longest = max(size for size, (_, carried) in lengths.items() if carried)
    assert lengths[longest][0] == MOST_CHARS
    assert all(carried == (size <= longest) for size, (_, carried) in lengths.items())


def test_what_a_newer_release_carries_is_not_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_carried_of", lambda _: b'{"protocol":"2027-01-01"}')
    assert verify(an_id().text, "user:1", "shop").handshake is None


@pytest.mark.parametrize(
    ("text", "carried", "unwritten"),
    [
        (
            "101a229f12800AAAFJlwAsFvVaGvDn74QjyPXIZA9E1siMjAyNS0xMS0yNSIsImNsYXVkZS1jb2RlIiwiMi4xLjE0NyIsNTgxNV0"
            "Y4Vxo7zBM_0aUZuF-cWKWT82",
            Handshake(
                protocol_version="2025-11-25",
                client_info={"name": "claude-code", "version": "2.1.147"},
                capabilities={
                    "roots": {"listChanged": True},
                    "sampling": {"tools": {}},
                    "elicitation": {"url": {}},
                    "extensions": {},
                    "tasks": {"cancel": {}},
                },
            ),
            False,
        ),
        (
            "101a229f12800gAAFJlwAFbz5MXXd9yOenLfyaFhXxFsiMjAyNS0wNi0xOCIsImdyw7bDn2UiLCIxIix7InJvb3RzIjp7IngiOjF9fV0"
            "SAx2KrY-e4hvFQXcCOkbZ9Ne",
            Handshake(
                protocol_version="2025-06-18",
                client_info={"name": "größe", "version": "1"},
                capabilities={"roots": {"x": 1}},
            ),
            True,
        ),
    ],
)
def test_an_id_of_an_earlier_release_stays_valid(text: str, carried: Handshake, unwritten: bool) -> None:
    assert ids.looks_like_one(text)
    with override_settings(SECRET_KEY="pinned"):
        found = verify(text, "user:1", "shop")
    assert (found.created_ms, found.deadline_ms, found.unwritten) == (NOW, NOW + DAY, unwritten)
    assert found.handshake is not None
    assert found.handshake.protocol_version == carried.protocol_version
    assert found.handshake.client_info == carried.client_info
    assert found.handshake.capabilities == carried.capabilities


@pytest.mark.parametrize("text", ["1" + 66 * "0", "1" + 399 * "0"])
def test_what_is_as_short_or_as_long_as_an_id_may_be_looks_like_one(text: str) -> None:
    assert ids.looks_like_one(text)
    assert not ids.looks_like_one(text[:66])
    assert not ids.looks_like_one(text.ljust(401, "0"))
    assert not ids.looks_like_one("2" + text[1:])
    assert not ids.looks_like_one(text + "\n")


def test_an_old_key_verifies_for_as_long_as_it_is_a_fallback() -> None:
    with override_settings(SECRET_KEY="old"):
        minted = an_id()
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"]):
        assert verify(minted.text, "user:1", "shop") == minted
        renewed = an_id()
    with override_settings(SECRET_KEY="new"):
        assert_unknown(minted.text)
        assert verify(renewed.text, "user:1", "shop") == renewed


def test_digests_tell_keys_apart_and_do_not_give_them_away() -> None:
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        new, old = ids.key_digests()
    with override_settings(SECRET_KEY="old"):
        assert ids.key_digests() == [old]
    assert new != old
    assert all(re.fullmatch(r"[0-9a-f]{8}", each) for each in (new, old))


def test_wrong_ids_are_not_kept_in_memory() -> None:
    verify.cache_clear()
    for n in range(100):
        assert_unknown(an_id().text + str(n))
        assert_unknown(an_id().text, "somebody else")
    assert verify.cache_info().currsize == 0
    verify(an_id().text, "user:1", "shop")
    assert verify.cache_info().currsize == 1


def test_unknown_ids_take_the_same_time_and_a_good_one_hardly_more_than_its_signature() -> None:
    forged = {an_id().text[:-24] + "A" * 24 for _ in range(500)}
    foreign = {an_id(principal="user:2").text for _ in range(500)}
    ours = {an_id().text for _ in range(500)}

    def microseconds(texts: set[str]) -> float:
        """Of the processor, for one of them."""
        verify.cache_clear()
        start = time.process_time()
        for text in texts:
            with suppress(SessionGone):
                verify(text, "user:1", "shop")
        return (time.process_time() - start) / len(texts) * 1e6

    def signatures() -> float:
        """Microseconds for one, which the check of an id cannot do without: about a microsecond."""
        start = time.process_time()
        for text in ours:
            hmac.digest(b"k" * 32, text.encode(), "sha256")
        return (time.process_time() - start) / len(ours) * 1e6

    rounds = [[*(microseconds(each) for each in (forged, foreign, ours)), signatures()] for _ in range(10)]
    of_forged, of_foreign, of_ours, of_signature = map(min, zip(*rounds, strict=True))
    assert 1 / 2 < of_forged / of_foreign < 2
    assert of_ours < 10 * of_signature
