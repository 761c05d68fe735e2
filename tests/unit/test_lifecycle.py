"""The start and the three phases of a process's end, and ASGI lifespan, which runs them too."""

import asyncio
import logging
import threading
from time import monotonic

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import lifecycle
from mcp_sessions.lifecycle import Hook
from mcp_sessions.transport.asgi import Message


@pytest.fixture(autouse=True)
def _own_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hook of the application under test, and none left behind."""
    for phase in (lifecycle._start, lifecycle._drain, lifecycle._abort, lifecycle._shutdown):
        monkeypatch.setattr(phase, "hooks", {})
    monkeypatch.setattr(lifecycle, "_stopping", threading.Event())


def noting(said: list[str], word: str) -> Hook:
    async def hook() -> None:
        said.append(word)

    return hook


async def test_the_hooks_of_a_phase_run_last_registered_first() -> None:
    said: list[str] = []
    for word in ("redis", "lifespan"):
        lifecycle.on_shutdown(noting(said, word))
    await lifecycle.shutdown()
    assert said == ["lifespan", "redis"]


async def test_a_hook_registered_twice_runs_once() -> None:
    said: list[str] = []
    hook = noting(said, "once")
    lifecycle.on_drain(lifecycle.on_drain(hook))
    await lifecycle.drain()
    assert said == ["once"]


async def test_the_drain_hooks_run_at_the_same_time_and_each_has_all_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise

    async def more_work() -> None:
        await work()

    lifecycle.on_drain(work)
    lifecycle.on_drain(more_work)
    began = monotonic()
    with caplog.at_level(logging.WARNING):
        await lifecycle.drain(0.2)
    assert 0.2 <= monotonic() - began < 0.4
    assert outcomes == ["cancelled", "cancelled"]
    assert caplog.records == []  # work that is left at the end of the drain is not a fault of the hook


async def test_the_last_shutdown_hook_has_all_of_the_time_that_is_left() -> None:
    @lifecycle.on_shutdown
    async def hanging() -> None:
        await asyncio.Event().wait()

    began = monotonic()
    await lifecycle.shutdown(0.2)
    assert 0.2 <= monotonic() - began < 0.4


async def test_a_failing_hook_is_logged_and_the_next_runs(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    lifecycle.on_shutdown(noting(said, "next"))

    @lifecycle.on_shutdown
    async def failing() -> None:
        raise ValueError("no such connection")

    await lifecycle.shutdown()
    assert said == ["next"]
    assert "failing" in caplog.text
    assert "no such connection" in caplog.text


async def test_a_hanging_hook_is_given_up_and_the_next_still_has_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[str] = []
    lifecycle.on_shutdown(noting(said, "next"))

    @lifecycle.on_shutdown
    async def hanging() -> None:
        await asyncio.Event().wait()

    await lifecycle.shutdown(0.05)
    assert said == ["next"]
    assert "hanging" in caplog.text


async def test_a_start_hook_that_finds_the_settings_wrong_ends_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[Message] = []

    @lifecycle.on_start
    async def look() -> None:
        raise ImproperlyConfigured("SERVER returns no server")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        said.append(message)

    await lifecycle.lifespan({"type": "lifespan"}, receive, send)
    assert said == [{"type": "lifespan.startup.failed", "message": "SERVER returns no server"}]
    assert "This process cannot serve, and ends." in caplog.text
    assert "ImproperlyConfigured: SERVER returns no server" in caplog.text, "with the place"


async def test_a_start_hook_that_fails_in_another_way_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @lifecycle.on_start
    async def warm_up() -> None:
        raise RuntimeError("no connection to the warehouse")

    await lifecycle.start()
    assert "no connection to the warehouse" in caplog.text


def test_an_operator_drains_a_process_and_lets_it_go_on() -> None:
    try:
        lifecycle.take_on_nothing(drains=True)
        assert lifecycle.is_draining()
        assert not lifecycle.is_stopping()
    finally:
        lifecycle.take_on_nothing(drains=False)
    assert not lifecycle.is_draining()


@pytest.mark.parametrize("phase", ["start", "drain", "abort", "shutdown"])
async def test_the_hooks_of_a_phase_have_five_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, phase: str
) -> None:
    given: list[float] = []

    def no_time(seconds: float) -> asyncio.Timeout:
        given.append(seconds)
        return asyncio.Timeout(0)

    @getattr(lifecycle, f"on_{phase}")  # type: ignore[untyped-decorator] # as the module has them
    async def hook() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("mcp_sessions.lifecycle.asyncio.timeout", no_time)
    with caplog.at_level(logging.INFO):
        await getattr(lifecycle, phase)()
    assert given == [pytest.approx(5, abs=0.5)]
    [record] = caplog.records
    assert record.levelno == (logging.WARNING if phase == "shutdown" else logging.INFO)
    assert record.getMessage().startswith(f"The {phase} hook ")
    assert record.getMessage().endswith(" was cancelled after 5.0 s.")


async def test_each_hook_of_the_shutdown_but_the_last_has_half_of_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[float] = []

    def noted(seconds: float) -> asyncio.Timeout:
        given.append(round(seconds))
        return asyncio.Timeout(None)

    for word in ("last", "second", "first"):
        lifecycle.on_shutdown(noting([], word))
    monkeypatch.setattr("mcp_sessions.lifecycle.asyncio.timeout", noted)
    await lifecycle.shutdown(80)
    assert given == [40, 40, 80]
    given.clear()
    await lifecycle.shutdown(-5)
    assert given == [0, 0, 0]


async def test_lifespan_runs_all_phases_before_it_says_complete(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    lifecycle.on_shutdown(noting(said, "shutdown"))
    lifecycle.on_abort(noting(said, "abort"))
    lifecycle.on_drain(noting(said, "drain"))
    lifecycle.on_start(noting(said, "start"))
    assert not lifecycle.is_stopping()
    events: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return events.pop(0)

    async def send(message: Message) -> None:
        said.append(message["type"])

    with caplog.at_level(logging.INFO):
        await lifecycle.lifespan({"type": "lifespan"}, receive, send)
    assert said == [
        "start",
        "lifespan.startup.complete",
        "drain",
        "abort",
        "shutdown",
        "lifespan.shutdown.complete",
    ]
    assert lifecycle.is_stopping()
    assert caplog.records == []
