"""Where what a server announces goes: to the node of this event loop, or else to the store."""

import asyncio
import threading

import pytest
from django.conf import LazySettings
from mcp.server.subscriptions import ResourceUpdated, ServerEvent, ToolsListChanged

from mcp_sessions import subscriptions
from mcp_sessions.cluster import outside
from mcp_sessions.cluster.node import Node
from mcp_sessions.cluster.notifications import Announced, Notification
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.factory import store_for
from mcp_sessions.subscriptions import SharedSubscriptions

TOOLS = Announced(method="notifications/tools/list_changed", uri=None)
BOOK = Announced(method="notifications/resources/updated", uri="book://1")
BOUND = 10


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {
        "default": {"SERVER": "project.mcp.server", "NAMESPACE": "subscriptions"},
        "other": {"SERVER": "project.mcp.server", "PATH": "other"},
    }


@pytest.fixture
def bus() -> SharedSubscriptions:
    return SharedSubscriptions()


async def test_in_a_loop_that_serves_the_endpoint_its_node_tells_the_others(bus: SharedSubscriptions) -> None:
    told: list[Announced] = []

    async def publish(announced: Announced) -> None:
        told.append(announced)

    subscriptions.attach("default", publish)
    await bus.publish(ToolsListChanged())
    await bus.publish(ResourceUpdated(uri="book://1"))
    subscriptions.detach("default", publish)
    subscriptions.detach("default", publish)

    assert told == [TOOLS, BOOK]


async def test_in_any_other_loop_the_store_tells_the_nodes(bus: SharedSubscriptions) -> None:
    heard: asyncio.Queue[Notification] = asyncio.Queue()

    def hear(notification: Notification, name: str) -> None:
        heard.put_nowait(notification)

    async def beat() -> None:
        """These nodes look after nothing."""

    async def publish(announced: Announced) -> None:
        raise AssertionError("the node of another endpoint")

    node = Node(store_for("default"), hear=hear, on_beat=beat, pause=lambda: 0.05)
    await node.start()
    subscriptions.attach("other", publish)
    await bus.publish(ToolsListChanged())
    assert await asyncio.wait_for(heard.get(), BOUND) == TOOLS
    subscriptions.detach("other", publish)
    await node.stop()


async def test_in_any_other_loop_an_unreachable_store_is_an_error(
    bus: SharedSubscriptions, settings: LazySettings
) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    with pytest.raises(StoreUnavailable):
        await bus.publish(ToolsListChanged())


async def test_a_node_that_stops_late_leaves_its_successor_attached(bus: SharedSubscriptions) -> None:
    told: list[str] = []

    async def old(announced: Announced) -> None:
        told.append("old")

    async def new(announced: Announced) -> None:
        told.append("new")

    subscriptions.attach("default", old)
    subscriptions.attach("default", new)
    subscriptions.detach("default", old)
    await bus.publish(ToolsListChanged())
    subscriptions.detach("default", new)

    assert told == ["new"]


async def test_announcements_of_one_event_loop_do_not_wait_for_each_other(
    bus: SharedSubscriptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for sync views, which have one thread together."""
    meeting, told = threading.Barrier(2, timeout=5), list[tuple[str, Announced]]()

    def broadcast(endpoint: str, announced: Announced) -> None:
        meeting.wait()
        told.append((endpoint, announced))

    monkeypatch.setattr(outside, "broadcast", broadcast)
    await asyncio.gather(*(bus.publish(ToolsListChanged()) for _ in range(2)))
    assert told == [("default", TOOLS)] * 2


def test_what_arrives_is_heard_by_each_listener_of_the_endpoint(
    bus: SharedSubscriptions, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere, heard = SharedSubscriptions("other"), list[tuple[str, ServerEvent]]()

    def fail(event: ServerEvent) -> None:
        heard.append(("fails", event))
        raise ValueError("a mistake of the listener")

    def listener(name: str) -> subscriptions.Listener:
        return lambda event: heard.append((name, event))

    stops = [bus.subscribe(fail), bus.subscribe(listener("ann")), elsewhere.subscribe(listener("other"))]
    subscriptions.hear("default", BOOK)
    book = ResourceUpdated(uri="book://1")
    assert heard == [("fails", book), ("ann", book)]
    assert "a mistake of the listener" in caplog.text
    for stop in stops[:2]:
        stop()
        stop()
    subscriptions.hear("default", TOOLS)
    subscriptions.hear("other", TOOLS)
    assert heard[2:] == [("other", ToolsListChanged())]
    assert [subscriptions.are_shared(each) for each in ("default", "other", "nowhere")] == [True, True, False]
