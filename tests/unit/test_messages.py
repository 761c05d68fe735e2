"""What `messages` refuses, and what it tells other processes, with a stand-in for them."""

import asyncio
import threading
from typing import Any
from unittest import mock

import pytest

from mcp_sessions import messages
from mcp_sessions.cluster.notifications import Announced, StreamChanged


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    outside = mock.Mock()
    monkeypatch.setattr(messages, "outside", outside)
    return outside


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        (messages.TOOLS_CHANGED, None),
        (messages.PROMPTS_CHANGED, None),
        (messages.RESOURCES_CHANGED, None),
        (messages.RESOURCE_UPDATED, "shop://1"),
        (messages.RESOURCE_UPDATED, ""),
    ],
)
def test_every_node_hears_an_announcement(told: mock.Mock, method: str, uri: str | None) -> None:
    messages.announce(method, uri, endpoint="shop")
    told.broadcast.assert_called_once_with("shop", Announced(method=method, uri=uri))


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        (messages.TOOLS_CHANGED, "shop://1"),
        (messages.RESOURCE_UPDATED, None),
        ("notifications/progress", None),
        ("notifications/progress", "shop://1"),
    ],
)
async def test_another_announcement_is_refused(told: mock.Mock, method: str, uri: str | None) -> None:
    with pytest.raises(ValueError, match="and a uri with notifications/resources/updated only"):
        await messages.aannounce(method, uri)
    assert not told.broadcast.called


@pytest.mark.parametrize(
    ("appended", "arrived", "notified"),
    [
        (None, False, []),
        (mock.Mock(claim=None), True, []),
        (
            mock.Mock(claim=mock.Mock(node="n1")),
            True,
            [mock.call("default", "n1", StreamChanged(fingerprint="f" * 64, stream="standalone"))],
        ),
    ],
)
def test_a_message_wakes_the_node_that_has_the_clients_stream(
    told: mock.Mock, monkeypatch: pytest.MonkeyPatch, appended: Any, notified: list[Any], *, arrived: bool
) -> None:
    store = mock.Mock()
    store.run.return_value = appended
    monkeypatch.setattr(messages, "sync_store_for", lambda _: store)
    assert messages.send("f" * 64, "notifications/message", {"level": "info"}) is arrived
    assert told.notify.call_args_list == notified


async def test_messages_of_one_event_loop_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for sync views, which have one thread together."""
    meeting = threading.Barrier(2, timeout=5)
    for name in ("send", "announce"):
        monkeypatch.setattr(messages, name, lambda *_, **__: meeting.wait() >= 0)
    assert (
        await asyncio.gather(*(messages.asend("f" * 64, "notifications/message") for _ in range(2)))
        == [True] * 2
    )
    await asyncio.gather(*(messages.aannounce(messages.TOOLS_CHANGED) for _ in range(2)))
