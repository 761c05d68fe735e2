"""What a client sends and another process hears is bounded."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from mcp_sessions.cluster.client_requests import ClientRequests
from mcp_sessions.cluster.notifications import Cancelled
from mcp_sessions.conf import Endpoint
from mcp_sessions.serving.admission import Admission
from mcp_sessions.serving.inbox import Inbox
from mcp_sessions.store.call import Call
from mcp_sessions.transport import jsonrpc

LONGEST = 16 * 1024


class Node:
    """Remembers what was broadcast."""

    def __init__(self) -> None:
        self.told: list[Cancelled] = []

    async def broadcast(self, message: Cancelled) -> bool:
        self.told.append(message)
        return True


async def passed_on(params: dict[str, Any]) -> bytes:
    """What is left of a client's progress for the process that waits."""
    left: list[bytes] = []

    async def run(call: Call[Any]) -> None:
        left.append(call.arguments[0])

    store: Any = SimpleNamespace(run=run)
    requests = ClientRequests(store, Mock(), conf=Mock(), spawn=Mock(), is_dead=Mock())
    await requests.progress("f" * 64, {"progressToken": "q0123456789abcdef", **params})
    [payload] = left
    return payload


def test_progress_is_passed_on() -> None:
    said = {"progress": 1, "total": 2.5, "message": "half way"}
    assert json.loads(asyncio.run(passed_on(said))) == said


@pytest.mark.parametrize(
    "params",
    [
        {"message": "\U0001f600" * 1_000_000},
        {"message": ["x" * 1_000_000], "progress": "9" * 1_000_000, "total": 10**4000},
        {"other": "x" * 1_000_000, "_meta": {"more": "x" * 1_000_000}},
    ],
)
def test_progress_that_is_passed_on_is_bounded(params: dict[str, Any]) -> None:
    assert len(asyncio.run(passed_on(params))) <= LONGEST


async def test_a_cancellation_is_passed_on_in_few_bytes_and_that_of_an_impossible_id_is_not() -> None:
    node = Node()
    context: Any = SimpleNamespace(
        node=node, conf=lambda: Endpoint(alias="default", server="shop"), spawn=asyncio.ensure_future
    )
    inbox = Inbox(context, Admission(Mock()), Mock(), Mock(), Mock(), Mock(), Mock())
    ids: list[Any] = ["x" * 1_000_000, 10**4000, True, None, {}, "x" * jsonrpc.MAX_ID_CHARS, 7, "7", "\ud800"]
    told = [inbox.cancel("f" * 64, {"requestId": request_id}) for request_id in ids]
    assert await asyncio.gather(*told) == [True] * len(ids)
    names = [name for cancelled in node.told for name in cancelled.requests]
    assert len(names) == len(set(names)) == 3, "7 and '7' are one id"
    assert {len(name) for name in names} == {81}
