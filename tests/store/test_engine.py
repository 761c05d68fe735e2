"""What the embedded engine promises besides its replies: its clock, no leaks, threads, inboxes, one dependency."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import engine as engines
from mcp_sessions.engine import Engine
from mcp_sessions.engine.keyspace import SWEPT_AT_ONCE, Keyspace
from tests.store.harness import DAY, HOUR, Clock


def _set(engine: Engine, key: str, milliseconds: int) -> None:
    engine.eval("redis.call('SET', KEYS[1], 'x', 'PX', ARGV[1])", [key], [milliseconds])


def test_a_key_ends_by_the_injected_clock() -> None:
    clock = Clock()
    engine = Engine(clock)
    _set(engine, "a", 1_000)
    get = "return {redis.call('GET', 'a'), redis.call('PTTL', 'a'), redis.call('TIME')}"
    assert engine.eval(get) == [b"x", 1_000, [b"1800000000", b"0"]]
    clock.advance(1_000)
    assert engine.eval(get) == [b"x", 0, [b"1800000001", b"0"]]
    clock.advance(1)
    assert engine.eval(get) == [None, -2, [b"1800000001", b"1000"]]


def test_time_stands_still_for_a_script() -> None:
    ticks = iter(range(1_800_000_000_000, 1_900_000_000_000, 1_000))
    engine = Engine(lambda: next(ticks))
    engine.eval("redis.call('SET', 'a', 'x', 'PX', 1000)")
    before, value, after = engine.eval(
        "return {redis.call('TIME'), redis.call('GET', 'a'), redis.call('TIME')}"
    )
    assert (before, value) == (after, b"x")


def test_expired_keys_go_a_bounded_number_at_a_time() -> None:
    clock = Clock()
    engine = Engine(clock)
    for n in range(1_000):
        _set(engine, f"k{n}", 1_000)
    clock.advance(1_001)
    engine.eval("return 1")
    assert len(engine) == 1_000 - SWEPT_AT_ONCE
    for _ in range(1_000 // SWEPT_AT_ONCE):
        engine.eval("return 1")
    assert len(engine) == 0


def test_a_key_that_is_kept_alive_is_not_swept() -> None:
    clock = Clock()
    engine = Engine(clock)
    for _ in range(100):
        _set(engine, "kept", 1_000)
        clock.advance(900)
    assert engine.eval("return redis.call('GET', 'kept')") == b"x"
    engine.eval("redis.call('SET', 'kept', 'for good')")
    clock.advance(DAY)
    assert engine.eval("return redis.call('GET', 'kept')") == b"for good"
    _set(engine, "kept", 1_000)
    clock.advance(1_001)
    engine.eval("return 1")
    assert len(engine) == 0


def test_what_is_touched_or_deleted_leaves_nothing_behind() -> None:
    engine = Engine()
    for n in range(5_000):
        _set(engine, f"k{n}", DAY - n)
        _set(engine, "same", DAY - n)
        engine.eval("redis.call('DEL', KEYS[1])", [f"k{n}"])
    assert len(engine) == 1
    assert len(engine._keys._queue) < 100


def test_entries_of_ends_that_have_passed_are_dropped_when_they_are_the_most() -> None:
    keys = Keyspace()
    keys.begin(1)
    names = [b"%d" % n for n in range(3 * SWEPT_AT_ONCE)]
    for number, name in enumerate(names):
        keys.set(name, b"x", b"PX", b"%d" % (DAY - number))
    most = 2 * len(names) + SWEPT_AT_ONCE
    for number in range(most - len(names)):
        assert len(keys._queue) == len(names) + number
        keys.pexpire(names[1], b"%d" % (HOUR - number))
    assert len(keys._queue) == most
    keys.pexpire(names[1], b"1")
    assert len(keys._queue) == len(names)

    # What is left is in order: each of these drops as many as it may, whichever end first.
    for left in (2 * SWEPT_AT_ONCE, SWEPT_AT_ONCE, 0):
        keys.begin(DAY - left + 2)
        assert len(keys) == left
    assert (keys._ends, keys._queue) == ({}, [])


def test_a_value_that_is_set_after_the_end_of_a_key_does_not_end_with_it() -> None:
    keys = Keyspace()
    for option, left in ((b"KEEPTTL", -1), (b"", -1), (b"PX", 5)):
        keys.now = 0
        keys.set(b"a", b"old", b"PX", b"10")
        keys.now = 11
        keys.set(b"a", b"new", option, b"5")
        assert (keys.get(b"a"), keys.pttl(b"a")) == (b"new", left)


def test_an_inbox_is_read_after_an_id() -> None:
    engine = Engine(Clock())
    assert engine.xread("inbox", b"0-0", 10) == []
    for n in range(3):
        engine.eval("redis.call('XADD', KEYS[1], '*', 'd', ARGV[1])", ["inbox"], [n])
    assert engine.xread("inbox", b"0-0", 1) == [(b"1800000000000-0", {b"d": b"0"})]
    assert engine.xread("inbox", b"1800000000000-0", 10)[-1] == (b"1800000000000-2", {b"d": b"2"})
    assert engine.xread("inbox", b"1800000000000-2", 10) == []


async def test_an_entry_wakes_whatever_waits_for_it_from_any_thread() -> None:
    engine = Engine()
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    read: list[Any] = []

    def wake(key: bytes) -> None:
        read.extend(engine.xread(key, b"0-0", 10))
        loop.call_soon_threadsafe(woken.set)

    engine.on_append = wake
    add = "for i = 1, 2 do redis.call('XADD', KEYS[1], '*', 'd', 'x') end error('after all')"
    await asyncio.to_thread(engine.eval, add, ["inbox"])
    await asyncio.wait_for(woken.wait(), 5)
    assert [fields for _, fields in read] == [{b"d": b"x"}] * 2


def test_threads_do_not_lose_updates() -> None:
    engine = Engine()
    script = "local n = tonumber(redis.call('HGET', 'h', 'f') or 0) redis.call('HSET', 'h', 'f', n + 1)"

    def add() -> None:
        for _ in range(500):
            engine.eval(script)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.eval("return redis.call('HGET', 'h', 'f')") == b"2000"


@pytest.mark.parametrize(
    "script", ["return redis.call('GET', 'k')", "return tostring(pcall(redis.call, 'GET', 'k'))"]
)
def test_a_python_error_is_raised_and_not_replied(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    engine = Engine()
    monkeypatch.setitem(engine._keys.commands, b"GET", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        engine.eval(script)
    assert engine.eval("return redis.call('EXISTS', 'k')") == 0


def test_a_command_that_no_script_calls_is_an_error() -> None:
    with pytest.raises(KeyError, match="FLUSHALL"):
        Engine().eval("return redis.pcall('FLUSHALL')")


def test_a_script_sees_nothing_of_python_or_the_system() -> None:
    engine = Engine()
    for name in ("python", "os", "io", "debug", "package", "require", "loadstring", "getfenv", "_G"):
        assert "nonexistent global variable" in str(engine.eval(f"return type({name})"))


def test_without_lupa_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "lua51", None)
    with pytest.raises(
        ImproperlyConfigured, match=r'no Redis is configured.*pip install "mcp-sessions\[memory\]"'
    ):
        Engine()


def test_the_module_can_be_imported_without_lupa() -> None:
    code = (
        "import sys; sys.modules['lupa'] = None; from mcp_sessions.engine import lua51; assert lua51 is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
