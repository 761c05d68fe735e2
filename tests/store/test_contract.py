"""What every store promises about sessions, whatever holds them."""

import asyncio

import pytest

from mcp_sessions.records import Handshake
from mcp_sessions.store.calls import indexes, sessions, state
from tests.store.harness import CLAUDE, DAY, HOUR, MINUTE, SECOND, Harness, a_fingerprint


async def test_a_new_session_is_what_was_negotiated_and_not_yet_active(harness: Harness) -> None:
    fingerprint = a_fingerprint()

    created = await harness.store.run(
        sessions.create(fingerprint, principal="issuer|ann", handshake=CLAUDE, limits=harness.limits)
    )

    assert (created.fingerprint, created.principal, created.handshake) == (fingerprint, "issuer|ann", CLAUDE)
    assert (created.active, created.initialized, created.requests, created.last_call) == (False, False, 0, "")
    assert (created.log_level, created.tools) == (None, frozenset())
    now = harness.clock.now
    assert (created.created_ms, created.last_activity_ms) == (now, now)
    assert (created.expires_ms, created.deadline_ms) == (now + MINUTE, now + DAY)


async def test_a_second_process_sees_a_session_as_soon_as_it_is_created(harness: Harness) -> None:
    created = await harness.store.run(sessions.get(await harness.open(active=False)))

    assert created is not None
    assert await harness.other.run(sessions.get(created.fingerprint)) == created
    assert harness.sync.run(sessions.get(created.fingerprint)) == created


async def test_a_touch_counts_slides_and_remembers_the_call(harness: Harness) -> None:
    fingerprint = await harness.open(active=False)
    harness.clock.advance(5 * SECOND)

    touched = await harness.touch(fingerprint, call="tools/call:remember", initialized=True)

    assert touched is not None
    assert (touched.active, touched.initialized) == (True, True)
    assert (touched.requests, touched.last_call) == (1, "tools/call:remember")
    assert touched.last_activity_ms == harness.clock.now
    assert touched.expires_ms == harness.clock.now + HOUR
    assert await harness.other.run(sessions.get(fingerprint)) == touched


async def test_a_touch_without_a_call_keeps_the_last_one_and_initialized_stays(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.touch(fingerprint, call="tools/list", initialized=True)

    touched = await harness.touch(fingerprint)

    assert touched is not None
    assert (touched.last_call, touched.initialized, touched.requests) == ("tools/list", True, 3)


@pytest.mark.parametrize(
    "call",
    ["tools/call:" + "x" * 500, "tools/call:a\nb", "tools/call:naïve ☃", "tools/call:\x00\x7f", "a\\nb"],
)
async def test_a_hostile_call_is_kept_as_one_bounded_line_of_ascii(harness: Harness, call: str) -> None:
    fingerprint = await harness.open()

    touched = await harness.touch(fingerprint, call=call)

    assert touched is not None
    assert touched.last_call.isascii()
    assert touched.last_call.isprintable()
    assert 0 < len(touched.last_call) <= 128
    assert await harness.store.run(sessions.get(fingerprint)) == touched


async def test_touches_of_many_sessions_in_one_tick_each_get_their_own_session(harness: Harness) -> None:
    opened = [await harness.open() for _ in range(20)]

    touched = await asyncio.gather(*[harness.touch(each, call=f"call-{each[:8]}") for each in opened])

    assert [(each.fingerprint, each.last_call) for each in touched if each] == [
        (fingerprint, f"call-{fingerprint[:8]}") for fingerprint in opened
    ]


async def test_concurrent_touches_are_all_counted(harness: Harness) -> None:
    fingerprint = await harness.open()

    await asyncio.gather(
        *[
            store.run(sessions.touch(fingerprint, principal="anonymous", limits=harness.limits))
            for store in (harness.store, harness.other)
            for _ in range(50)
        ]
    )

    session = await harness.store.run(sessions.get(fingerprint))
    assert session is not None
    assert session.requests == 101


async def test_a_stranger_gets_nothing_and_changes_nothing(harness: Harness) -> None:
    fingerprint = await harness.open(principal="issuer|ann")
    before = await harness.store.run(sessions.get(fingerprint))
    harness.clock.advance(MINUTE)

    for stranger in ("issuer|bob", "anonymous", "", "issuer|ann "):
        assert (
            await harness.touch(fingerprint, principal=stranger, call="tools/list", initialized=True) is None
        )
        assert (
            await harness.store.run(sessions.end(fingerprint, principal=stranger, reason="deleted")) is None
        )

    assert await harness.store.run(sessions.get(fingerprint)) == before


@pytest.mark.parametrize("principal", ["issuer|zoë ☃", "a\nb", "back\\slash", "\ud800", "a\\nb", "1 2 3"])
async def test_a_principal_may_be_any_text_and_no_similar_one_owns_its_session(
    harness: Harness, principal: str
) -> None:
    fingerprint = await harness.open(principal=principal)

    touched = await harness.touch(fingerprint, principal=principal)

    assert touched is not None
    assert touched.principal == principal
    assert await harness.touch(fingerprint, principal=principal + "x") is None
    assert await harness.touch(fingerprint, principal=principal.replace("\n", "\\n") + " ") is None


async def test_a_handshake_of_any_json_comes_back_unchanged(harness: Harness) -> None:
    handshake = Handshake(
        protocol_version="2025-06-18",
        client_info={"name": 'quo"te\n☃ \ud83d', "version": "1", "extra": [1, 2.5, None, {"a": "\\"}]},
        capabilities={"experimental": {"x]\n[": True}},
    )
    fingerprint = await harness.open(handshake=handshake)

    session = await harness.other.run(sessions.get(fingerprint))

    assert session is not None
    assert session.handshake == handshake


async def test_an_unknown_session_is_gone_for_every_method(harness: Harness) -> None:
    fingerprint = a_fingerprint()

    assert await harness.touch(fingerprint) is None
    assert await harness.store.run(sessions.get(fingerprint)) is None
    assert await harness.store.run(sessions.keep([fingerprint], limits=harness.limits)) == {}
    assert await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted")) is None
    assert await harness.store.run(sessions.set_log_level(fingerprint, "debug")) is False
    assert await harness.store.run(sessions.change_tools(fingerprint, enable=["paint"])) is None
    assert harness.sync.run(sessions.get(fingerprint)) is None
    assert harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator")) is None
    assert harness.sync.run(state.items(fingerprint)) == {}


async def test_end_returns_the_session_once_and_it_is_gone_for_every_process(harness: Harness) -> None:
    fingerprint = await harness.open(principal="issuer|ann")
    await harness.store.run(sessions.set_log_level(fingerprint, "debug"))
    before = await harness.store.run(sessions.get(fingerprint))

    ended = await harness.store.run(sessions.end(fingerprint, principal="issuer|ann", reason="deleted"))

    assert ended == before
    assert (
        await harness.other.run(sessions.touch(fingerprint, principal="issuer|ann", limits=harness.limits))
        is None
    )
    assert await harness.other.run(sessions.end(fingerprint, principal=None, reason="deleted")) is None
    assert harness.sync.run(sessions.get(fingerprint)) is None


async def test_the_operator_ends_anybodys_session(harness: Harness) -> None:
    fingerprint = await harness.open(principal="issuer|ann")

    ended = harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator"))

    assert ended is not None
    assert ended.fingerprint == fingerprint
    assert await harness.touch(fingerprint, principal="issuer|ann") is None
    assert harness.sync.run(sessions.end(fingerprint, principal=None, reason="expired_by_operator")) is None


async def test_exactly_one_of_many_concurrent_ends_gets_the_session(harness: Harness) -> None:
    fingerprint = await harness.open()

    ended = await asyncio.gather(
        *[
            store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
            for store in (harness.store, harness.other)
            for _ in range(10)
        ]
    )

    assert sum(session is not None for session in ended) == 1


async def test_an_ended_fingerprint_never_gets_a_second_session(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))

    with pytest.raises(ValueError, match=fingerprint[:12]):
        await harness.open(fingerprint=fingerprint)

    assert await harness.store.run(sessions.get(fingerprint)) is None
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 0


async def test_a_fingerprint_that_is_taken_is_refused_and_its_session_stays(harness: Harness) -> None:
    fingerprint = await harness.open(principal="issuer|ann")

    with pytest.raises(ValueError, match="exists"):
        await harness.open(fingerprint=fingerprint, principal="issuer|bob")

    session = await harness.store.run(sessions.get(fingerprint))
    assert session is not None
    assert session.principal == "issuer|ann"
    assert harness.sync.run(indexes.count(limits=harness.limits)) == 1


async def test_the_log_level_is_remembered_for_every_process(harness: Harness) -> None:
    fingerprint = await harness.open()

    assert await harness.store.run(sessions.set_log_level(fingerprint, "debug")) is True
    assert await harness.other.run(sessions.set_log_level(fingerprint, "warning")) is True

    touched = await harness.touch(fingerprint)
    assert touched is not None
    assert touched.log_level == "warning"


async def test_tools_are_enabled_and_disabled_and_every_process_knows(harness: Harness) -> None:
    fingerprint = await harness.open()

    assert await harness.store.run(
        sessions.change_tools(fingerprint, enable=["paint", "zeichne ☃"])
    ) == frozenset({"paint", "zeichne ☃"})
    assert await harness.other.run(
        sessions.change_tools(fingerprint, enable=["sing"], disable=["paint", "never-enabled"])
    ) == frozenset({"zeichne ☃", "sing"})

    touched = await harness.touch(fingerprint)
    assert touched is not None
    assert touched.tools == {"zeichne ☃", "sing"}
    assert touched.log_level is None


async def test_a_session_whose_last_tool_is_disabled_has_none(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(sessions.change_tools(fingerprint, enable=["paint"]))

    assert await harness.store.run(sessions.change_tools(fingerprint, disable=["paint"])) == frozenset()

    touched = await harness.touch(fingerprint)
    assert touched is not None
    assert touched.tools == frozenset()
    assert await harness.store.run(sessions.change_tools(fingerprint, enable=["sing"])) == frozenset({"sing"})


async def test_a_tool_that_is_enabled_and_disabled_at_once_is_disabled(harness: Harness) -> None:
    fingerprint = await harness.open()

    assert await harness.store.run(
        sessions.change_tools(fingerprint, enable=["a", "b"], disable=["a"])
    ) == frozenset({"b"})


async def test_a_store_says_whether_other_processes_share_it(harness: Harness) -> None:
    assert harness.sync.shared == harness.store.shared == (harness.kind != "embedded")
