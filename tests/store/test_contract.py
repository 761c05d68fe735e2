"""What every store promises about sessions, whatever holds them."""

import asyncio

import pytest

from mcp_sessions.store.session import Handshake
from tests.store.worlds import CLAUDE, DAY, HOUR, MINUTE, SECOND, World, a_fingerprint


async def test_a_new_session_is_what_was_negotiated_and_not_yet_active(world: World) -> None:
    fingerprint = a_fingerprint()

    created = await world.store.create(
        fingerprint, principal="issuer|ann", handshake=CLAUDE, limits=world.limits
    )

    assert (created.fingerprint, created.principal, created.handshake) == (fingerprint, "issuer|ann", CLAUDE)
    assert (created.active, created.initialized, created.requests, created.last_call) == (False, False, 0, "")
    assert (created.log_level, created.tools) == (None, frozenset())
    now = world.clock.now
    assert (created.created_ms, created.last_activity_ms) == (now, now)
    assert (created.expires_ms, created.deadline_ms) == (now + MINUTE, now + DAY)


async def test_a_second_process_sees_a_session_as_soon_as_it_is_created(world: World) -> None:
    created = await world.store.get(await world.open(active=False))

    assert created is not None
    assert await world.other.get(created.fingerprint) == created
    assert world.directory.get(created.fingerprint) == created


async def test_a_touch_counts_slides_and_remembers_the_call(world: World) -> None:
    fingerprint = await world.open(active=False)
    world.clock.advance(5 * SECOND)

    touched = await world.touch(fingerprint, call="tools/call:remember", initialized=True)

    assert touched is not None
    assert (touched.active, touched.initialized) == (True, True)
    assert (touched.requests, touched.last_call) == (1, "tools/call:remember")
    assert touched.last_activity_ms == world.clock.now
    assert touched.expires_ms == world.clock.now + HOUR
    assert await world.other.get(fingerprint) == touched


async def test_a_touch_without_a_call_keeps_the_last_one_and_initialized_stays(world: World) -> None:
    fingerprint = await world.open()
    await world.touch(fingerprint, call="tools/list", initialized=True)

    touched = await world.touch(fingerprint)

    assert touched is not None
    assert (touched.last_call, touched.initialized, touched.requests) == ("tools/list", True, 3)


@pytest.mark.parametrize(
    "call",
    ["tools/call:" + "x" * 500, "tools/call:a\nb", "tools/call:naïve ☃", "tools/call:\x00\x7f", "a\\nb"],
)
async def test_a_hostile_call_is_kept_as_one_bounded_line_of_ascii(world: World, call: str) -> None:
    fingerprint = await world.open()

    touched = await world.touch(fingerprint, call=call)

    assert touched is not None
    assert touched.last_call.isascii()
    assert touched.last_call.isprintable()
    assert 0 < len(touched.last_call) <= 128
    assert await world.store.get(fingerprint) == touched


async def test_touches_of_many_sessions_in_one_tick_answer_each_its_own(world: World) -> None:
    opened = [await world.open() for _ in range(20)]

    touched = await asyncio.gather(*[world.touch(each, call=f"call-{each[:8]}") for each in opened])

    assert [(each.fingerprint, each.last_call) for each in touched if each] == [
        (fingerprint, f"call-{fingerprint[:8]}") for fingerprint in opened
    ]


async def test_concurrent_touches_are_all_counted(world: World) -> None:
    fingerprint = await world.open()

    await asyncio.gather(
        *[
            store.touch(fingerprint, principal="anonymous", limits=world.limits)
            for store in (world.store, world.other)
            for _ in range(50)
        ]
    )

    session = await world.store.get(fingerprint)
    assert session is not None
    assert session.requests == 101


async def test_a_stranger_gets_nothing_and_changes_nothing(world: World) -> None:
    fingerprint = await world.open(principal="issuer|ann")
    before = await world.store.get(fingerprint)
    world.clock.advance(MINUTE)

    for stranger in ("issuer|bob", "anonymous", "", "issuer|ann "):
        assert await world.touch(fingerprint, principal=stranger, call="tools/list", initialized=True) is None
        assert await world.store.end(fingerprint, principal=stranger, reason="deleted") is None

    assert await world.store.get(fingerprint) == before


@pytest.mark.parametrize("principal", ["issuer|zoë ☃", "a\nb", "back\\slash", "\ud800", "a\\nb", "1 2 3"])
async def test_a_principal_of_any_text_owns_its_session_and_nobody_like_it(
    world: World, principal: str
) -> None:
    fingerprint = await world.open(principal=principal)

    touched = await world.touch(fingerprint, principal=principal)

    assert touched is not None
    assert touched.principal == principal
    assert await world.touch(fingerprint, principal=principal + "x") is None
    assert await world.touch(fingerprint, principal=principal.replace("\n", "\\n") + " ") is None


async def test_a_handshake_of_any_json_comes_back_unchanged(world: World) -> None:
    handshake = Handshake(
        protocol_version="2025-06-18",
        client_info={"name": 'quo"te\n☃ \ud83d', "version": "1", "extra": [1, 2.5, None, {"a": "\\"}]},
        capabilities={"experimental": {"x]\n[": True}},
    )
    fingerprint = await world.open(handshake=handshake)

    session = await world.other.get(fingerprint)

    assert session is not None
    assert session.handshake == handshake


async def test_an_unknown_session_is_gone_for_every_method(world: World) -> None:
    fingerprint = a_fingerprint()

    assert await world.touch(fingerprint) is None
    assert await world.store.get(fingerprint) is None
    assert await world.store.keep([fingerprint], limits=world.limits) == {}
    assert await world.store.end(fingerprint, principal=None, reason="deleted") is None
    assert await world.store.set_log_level(fingerprint, "debug") is False
    assert await world.store.change_tools(fingerprint, enable=["paint"]) is None
    assert world.directory.get(fingerprint) is None
    assert world.directory.end(fingerprint) is None
    assert world.directory.state(fingerprint) == {}


async def test_end_gives_the_session_once_and_it_is_gone_for_every_process(world: World) -> None:
    fingerprint = await world.open(principal="issuer|ann")
    await world.store.set_log_level(fingerprint, "debug")
    before = await world.store.get(fingerprint)

    ended = await world.store.end(fingerprint, principal="issuer|ann", reason="deleted")

    assert ended == before
    assert await world.other.touch(fingerprint, principal="issuer|ann", limits=world.limits) is None
    assert await world.other.end(fingerprint, principal=None, reason="deleted") is None
    assert world.directory.get(fingerprint) is None


async def test_the_operator_ends_anybodys_session(world: World) -> None:
    fingerprint = await world.open(principal="issuer|ann")

    ended = world.directory.end(fingerprint)

    assert ended is not None
    assert ended.fingerprint == fingerprint
    assert await world.touch(fingerprint, principal="issuer|ann") is None
    assert world.directory.end(fingerprint) is None


async def test_of_many_that_end_a_session_at_once_exactly_one_gets_it(world: World) -> None:
    fingerprint = await world.open()

    ended = await asyncio.gather(
        *[
            store.end(fingerprint, principal=None, reason="deleted")
            for store in (world.store, world.other)
            for _ in range(10)
        ]
    )

    assert sum(session is not None for session in ended) == 1


async def test_an_ended_fingerprint_never_gets_a_second_session(world: World) -> None:
    fingerprint = await world.open()
    await world.store.end(fingerprint, principal=None, reason="deleted")

    with pytest.raises(ValueError, match=fingerprint[:12]):
        await world.open(fingerprint=fingerprint)

    assert await world.store.get(fingerprint) is None
    assert world.directory.count() == 0


async def test_a_fingerprint_that_is_taken_is_refused_and_its_session_stays(world: World) -> None:
    fingerprint = await world.open(principal="issuer|ann")

    with pytest.raises(ValueError, match="exists"):
        await world.open(fingerprint=fingerprint, principal="issuer|bob")

    session = await world.store.get(fingerprint)
    assert session is not None
    assert session.principal == "issuer|ann"
    assert world.directory.count() == 1


async def test_the_log_level_is_remembered_for_every_process(world: World) -> None:
    fingerprint = await world.open()

    assert await world.store.set_log_level(fingerprint, "debug") is True
    assert await world.other.set_log_level(fingerprint, "warning") is True

    touched = await world.touch(fingerprint)
    assert touched is not None
    assert touched.log_level == "warning"


async def test_tools_are_enabled_and_disabled_and_every_process_knows(world: World) -> None:
    fingerprint = await world.open()

    assert await world.store.change_tools(fingerprint, enable=["paint", "zeichne ☃"]) == frozenset(
        {"paint", "zeichne ☃"}
    )
    assert await world.other.change_tools(
        fingerprint, enable=["sing"], disable=["paint", "never-enabled"]
    ) == frozenset({"zeichne ☃", "sing"})

    touched = await world.touch(fingerprint)
    assert touched is not None
    assert touched.tools == {"zeichne ☃", "sing"}
    assert touched.log_level is None


async def test_a_session_whose_last_tool_is_disabled_has_none(world: World) -> None:
    fingerprint = await world.open()
    await world.store.change_tools(fingerprint, enable=["paint"])

    assert await world.store.change_tools(fingerprint, disable=["paint"]) == frozenset()

    touched = await world.touch(fingerprint)
    assert touched is not None
    assert touched.tools == frozenset()
    assert await world.store.change_tools(fingerprint, enable=["sing"]) == frozenset({"sing"})


async def test_a_tool_that_is_enabled_and_disabled_at_once_is_disabled(world: World) -> None:
    fingerprint = await world.open()

    assert await world.store.change_tools(fingerprint, enable=["a", "b"], disable=["a"]) == frozenset({"b"})


async def test_the_operators_store_answers_a_ping(world: World) -> None:
    world.directory.ping()
    assert world.directory.shared == world.store.shared == (world.kind != "memory")
