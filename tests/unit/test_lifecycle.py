"""The two phases of a process's end, and ASGI lifespan, which runs them too."""

import asyncio
import logging

import pytest

from mcp_sessions import lifecycle
from mcp_sessions.lifecycle import Hook
from mcp_sessions.transport.asgi import Message


@pytest.fixture(autouse=True)
def _own_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hook of the application under test, and none left behind."""
    monkeypatch.setattr(lifecycle._drain, "hooks", {})
    monkeypatch.setattr(lifecycle._shutdown, "hooks", {})


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


async def test_lifespan_runs_both_phases_before_it_says_complete(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    lifecycle.on_shutdown(noting(said, "shutdown"))
    lifecycle.on_drain(noting(said, "drain"))
    events: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return events.pop(0)

    async def send(message: Message) -> None:
        said.append(message["type"])

    with caplog.at_level(logging.INFO):
        await lifecycle.lifespan({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "drain", "shutdown", "lifespan.shutdown.complete"]
    assert caplog.records == []
