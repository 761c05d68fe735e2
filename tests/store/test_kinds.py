"""Records that are no sessions: each kind has indexes of its own, and the same owner, lifetimes, caps and ends."""

import pytest

from mcp_sessions.errors import TooManySessions
from mcp_sessions.records import KINDS, Handshake, Kind, Session, parse_handshake, record_fingerprint
from mcp_sessions.store.calls import indexes, queries, sessions, state
from mcp_sessions.store.calls.queries import Query
from tests.store.harness import DAY, HOUR, MINUTE, Harness

ANN, BEN = "user:1", "user:2"


def basket(name: str = "", *, label: str = "basket", kind: Kind = "handle") -> Handshake:
    return Handshake(
        protocol_version="2026-07-28",
        client_info={"name": "shop", "version": "1"},
        capabilities={},
        kind=kind,
        label=label,
        name=name,
    )


async def a_basket(
    harness: Harness, name: str, *, principal: str = ANN, label: str = "basket", again: bool = False
) -> Session:
    fingerprint = record_fingerprint("handle", label, principal, name)
    return await harness.store.run(
        sessions.create(
            fingerprint,
            principal=principal,
            handshake=basket(name, label=label),
            limits=harness.limits,
            again=again,
        )
    )


async def listed(harness: Harness, query: Query) -> list[str]:
    page = await harness.store.run(queries.page(query, offset=0, limit=100, limits=harness.limits))
    assert page.total == len(page.sessions)
    return sorted(each.name or each.kind for each in page.sessions)


def test_the_text_of_a_record_says_what_it_is() -> None:
    for kind in KINDS[1:]:
        again = parse_handshake(basket("b-1", kind=kind).text)
        assert again == basket("b-1", kind=kind)
        assert (again.kind, again.client_name) == (kind, "shop")
    assert basket(label="", kind="session").text == '["2026-07-28",{"name":"shop","version":"1"},{}]'
    with pytest.raises(ValueError, match="not a handshake"):
        parse_handshake('["2026-07-28",{},{},"unheard of","",""]')


def test_different_records_have_different_fingerprints() -> None:
    parts = [
        ("a", "b"),
        ("ab", ""),
        ("", "ab"),
        ("a\0b",),
        ("a", "b", ""),
        ("a\\", "b"),
        ("a", "\\b"),
        ("\ud800", ""),
    ]
    fingerprints = {record_fingerprint(kind, *each) for kind in KINDS for each in parts}
    assert len(fingerprints) == len(KINDS) * len(parts)


async def test_each_kind_is_listed_apart_and_by_label_and_owner(harness: Harness) -> None:
    await harness.open(principal=ANN)
    for name, principal, label in (("b-1", ANN, "basket"), ("b-2", BEN, "basket"), ("t-1", ANN, "trip")):
        await a_basket(harness, name, principal=principal, label=label)

    assert await listed(harness, Query()) == ["session"]
    assert await listed(harness, Query(kind="handle")) == ["b-1", "b-2", "t-1"]
    assert await listed(harness, Query(kind="handle", label="basket")) == ["b-1", "b-2"]
    assert await listed(harness, Query(kind="handle", principal=ANN)) == ["b-1", "t-1"]
    assert await listed(harness, Query(kind="handle", principal=ANN, label="basket")) == ["b-1"]
    assert await listed(harness, Query(kind="handle", client="shop")) == ["b-1", "b-2", "t-1"]
    assert await listed(harness, Query(kind="handle", protocol="2026-07-28")) == ["b-1", "b-2", "t-1"]
    assert await listed(harness, Query(kind="handle", protocol="2025-11-25")) == []
    assert await listed(harness, Query(kind="user")) == []
    assert await listed(harness, Query(principal=ANN)) == ["session"]


async def test_a_record_lives_and_is_listed_as_long_as_its_own_lifetimes_say(harness: Harness) -> None:
    """Long after the IDLE_TTL of the endpoint, with which it is listed."""
    limits = harness.limits
    harness.limit(idle_ms=30 * DAY, first_ms=30 * DAY, max_age_ms=90 * DAY)
    long = await a_basket(harness, "long")
    harness.limit(idle_ms=MINUTE, first_ms=MINUTE)
    await a_basket(harness, "short")
    harness.limits = limits

    harness.clock.advance(2 * HOUR)
    assert await listed(harness, Query(kind="handle")) == ["long"]
    await harness.sweep()
    assert await harness.store.run(indexes.count(limits=limits, kind="handle")) == 1

    harness.limit(idle_ms=30 * DAY)
    harness.clock.advance(29 * DAY)
    assert await harness.touch(long.fingerprint, principal=ANN)
    await harness.settled()
    harness.clock.advance(29 * DAY)
    assert await listed(harness, Query(kind="handle")) == ["long"]
    harness.clock.advance(2 * DAY)
    assert await listed(harness, Query(kind="handle")) == []
    assert not await harness.touch(long.fingerprint, principal=ANN)


async def test_a_cap_of_a_principal_counts_one_label(harness: Harness) -> None:
    harness.limit(max_sessions_per_principal=2)
    for name in ("b-1", "b-2"):
        await a_basket(harness, name)
    await harness.open(principal=ANN)
    await a_basket(harness, "t-1", label="trip")
    await a_basket(harness, "b-3", principal=BEN)

    with pytest.raises(TooManySessions) as refused:
        await a_basket(harness, "b-4")

    assert refused.value.per_principal


async def test_a_record_that_may_come_again_is_listed_again_and_an_end_that_is_repeated_spares_it(
    harness: Harness,
) -> None:
    first = await a_basket(harness, "b-1")
    end = {"principal": None, "reason": "expired_by_operator", "token": "a token"}
    await harness.store.run(state.set_values(first.fingerprint, {"n": "1"}, max_bytes=100))
    assert await harness.store.run(sessions.end(first.fingerprint, **end))  # type: ignore[arg-type]
    assert await harness.store.run(sessions.end_reason(first.fingerprint)) == "expired_by_operator"
    with pytest.raises(ValueError, match="ended"):
        await a_basket(harness, "b-1")

    harness.clock.advance(5)
    second = await a_basket(harness, "b-1", again=True)
    assert await harness.store.run(state.names(first.fingerprint)) == []
    assert await listed(harness, Query(kind="handle")) == ["b-1"]

    repeated = await harness.store.run(sessions.end(first.fingerprint, **end))  # type: ignore[arg-type]
    assert repeated is not None
    assert repeated.created_ms == first.created_ms
    assert await harness.store.run(sessions.get(second.fingerprint)) == second


async def test_a_record_that_nobody_ended_has_no_reason(harness: Harness) -> None:
    basket = await a_basket(harness, "b-1")
    assert await harness.store.run(sessions.end_reason(basket.fingerprint)) is None
    assert await harness.store.run(sessions.end_reason(record_fingerprint("handle", "never"))) is None


async def test_a_record_that_is_made_again_while_many_end_stays_listed(harness: Harness) -> None:
    first = await a_basket(harness, "b-1")
    harness.clock.advance(5)
    end = sessions.end_many(
        [first.fingerprint], reason="expired_by_operator", token="t", shards=harness.limits.shards
    )
    outcomes = await harness.store.run_all(next(end))
    await a_basket(harness, "b-1", again=True)
    await harness.store.run_all(end.send(outcomes))
    end.close()

    assert await listed(harness, Query(kind="handle")) == ["b-1"]
    assert await listed(harness, Query(kind="handle", principal=ANN, label="basket")) == ["b-1"]


async def test_a_record_is_found_by_its_fingerprint_only_among_those_of_its_kind(harness: Harness) -> None:
    handle, session = (await a_basket(harness, "b-1")).fingerprint, await harness.open()
    for fingerprint, own in ((handle, "handle"), (session, "session")):
        for length in (8, 64):
            found = [
                kind
                for kind in KINDS
                if await harness.store.run(
                    queries.find(fingerprint[:length], limits=harness.limits, limit=9, kind=kind)
                )
            ]
            assert found == [own]
