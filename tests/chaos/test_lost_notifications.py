"""Notifications between processes are hints: without any of them everything still comes, a heartbeat later."""

import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any, Final
from unittest.mock import Mock

import pytest
from django.conf import LazySettings

from mcp_sessions import messages as to_clients
from mcp_sessions.cluster.node import HEARTBEAT_SECONDS
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from tests.chaos.harness import Service, join_from_outside, serving
from tests.support.gates import Gate
from tests.support.mcp_client import RawClient, cancelling, events, hearing_of_tools, messages
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.slow]

#: Seconds that anything may take without a notification: a heartbeat, and what busy machines add.
BOUND: Final = HEARTBEAT_SECONDS + 3


@pytest.fixture(scope="module")
def service(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes that never hear of each other."""
    directory = tmp_path_factory.mktemp("lost")
    with serving(directory, redis_server, 2, MCP_SERVER="tests.served.drop_notifications.server") as service:
        yield service
        assert service.redis.notifications() == 0


def test_a_resumed_stream_goes_on(service: Service, client: RawClient, gate: Gate) -> None:
    a, b = service.urls
    with client.stream(a, client.calling("count_past", gate=gate.path, number=5)) as response:
        start = next(events(response))
    gate.reached()
    with client.get(b, last_event_id=start.id) as resumed:
        received = messages(resumed)
        assert next(received)["params"]["progress"] == 1
        gate.open()
        opened = monotonic()
        assert [next(received)["params"]["progress"] for _ in range(4)] == [2, 3, 4, 5]
        assert next(received)["result"]["structuredContent"] == {"result": 5}
        assert next(received, None) is None
    assert monotonic() - opened < BOUND


def test_an_answer_is_found(service: Service, client: RawClient) -> None:
    a, b = service.urls
    with client.stream(a, client.calling("ask", label="how many?")) as response:
        received = messages(response)
        result = {"action": "accept", "content": {"number": 7}}
        reply = {"jsonrpc": "2.0", "id": next(received)["id"], "result": result}
        assert client.post(b, reply).status_code == 202
        answered = monotonic()
        assert next(received)["result"]["structuredContent"] == {"result": "how many?: 7"}
    assert monotonic() - answered < BOUND


def test_the_progress_of_an_answer_is_found(service: Service, client: RawClient) -> None:
    a, b = service.urls
    with client.stream(a, client.calling("ask_with_progress")) as response:
        received = messages(response)
        question = next(received)
        said = {
            "progressToken": question["params"]["_meta"]["progressToken"],
            "progress": 3,
            "message": "soon",
        }
        told = {"jsonrpc": "2.0", "method": "notifications/progress", "params": said}
        assert client.post(b, told).status_code == 202
        since = monotonic()
        heard = next(received)["params"]
        assert (heard["progress"], heard["message"]) == (3, "soon")
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        assert client.post(b, reply).status_code == 202
        assert next(received)["result"]["structuredContent"] == {"result": "decline"}
    assert monotonic() - since < 2 * BOUND


def test_a_message_on_the_standalone_stream_comes(service: Service, client: RawClient) -> None:
    a, b = service.urls
    with client.get(b) as listening:
        received = messages(listening)
        client.value(a, "tell", number=3, pace=0)
        told = monotonic()
        heard = [message["params"]["uri"] for _, message in zip(range(3), received, strict=False)]
    assert heard == ["chaos://1", "chaos://2", "chaos://3"]
    assert monotonic() - told < BOUND


def test_a_request_is_cancelled(service: Service, client: RawClient, gate: Gate) -> None:
    a, b = service.urls
    message = client.calling("count_past", gate=gate.path, number=2)
    with client.stream(a, message) as response:
        gate.reached()
        assert client.post(b, cancelling(message)).status_code == 202
        since = monotonic()
        assert list(messages(response))[-1]["error"]["code"] == -32800
    assert monotonic() - since < BOUND
    assert gate.outcome() == "cancelled"


def test_an_announcement_reaches_both_eras(service: Service, client: RawClient) -> None:
    a, b = service.urls
    teller = RawClient()
    teller.initialize(a)
    with hearing_of_tools(b) as heard, client.get(b) as standalone:
        told = messages(standalone)
        assert teller.value(a, "change_tools") == "told"
        announced = monotonic()
        assert next(heard)["method"] == "notifications/tools/list_changed"
        assert next(told)["method"] == "notifications/tools/list_changed"
    assert monotonic() - announced < BOUND


def test_an_announcement_from_no_process_of_the_service_reaches_it(
    service: Service, client: RawClient, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    join_from_outside(settings, service)
    monkeypatch.setattr(nodes, "notify", Mock(side_effect=StoreUnavailable))
    with client.get(service.urls[0]) as standalone:
        told = messages(standalone)
        to_clients.announce(to_clients.PROMPTS_CHANGED)
        announced = monotonic()
        # What another test announced may be heard by a heartbeat that comes only now.
        assert any(message["method"] == to_clients.PROMPTS_CHANGED for message in told)
    assert monotonic() - announced < BOUND


def test_the_end_of_a_session_closes_its_streams(service: Service, client: RawClient) -> None:
    a, b = service.urls
    with client.get(b) as listening, client.stream(b, client.calling("ask", label="?")) as asking:
        ended: list[Any] = []
        readers = [threading.Thread(target=lambda r=r: ended.append(r.read())) for r in (listening, asking)]
        for reader in readers:
            reader.start()
        assert client.delete(a).status_code == 204
        for reader in readers:
            reader.join(BOUND)
        assert len(ended) == 2
    assert client.post(b, client.request("ping")).status_code == 404
