"""Calls on keys that are on their way to another node of a Cluster: it is told that it is asked on purpose."""

from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
from redis.exceptions import NoScriptError

from mcp_sessions.connections import cluster
from mcp_sessions.connections.cluster import AskingConnection, SlotPipeline
from mcp_sessions.connections.pipelines import PooledConnection
from mcp_sessions.connections.round_trips import Job
from mcp_sessions.store.calls import reading

ADDRESS = ("two", 2)


async def test_each_command_is_preceded_by_asking_and_only_its_own_reply_counts() -> None:
    execute = mock.AsyncMock(return_value=[b"OK", b"one", b"OK", b"two"])
    with mock.patch.object(PooledConnection, "execute", execute):
        replies = await AskingConnection(mock.Mock()).execute([("GET", "a"), ("GET", "b")])
    assert replies == [b"one", b"two"]
    execute.assert_awaited_once_with([("ASKING",), ("GET", "a"), ("ASKING",), ("GET", "b")])


@pytest.mark.parametrize(
    ("script", "replies", "reply"),
    [
        (reading.TOUCH, [[[b"of the touch"]]], b"of the touch"),
        (reading.GET, [[[b"a", b"list"]]], [b"a", b"list"]),
        (reading.GET, [[NoScriptError("?")], [b"found"]], b"found"),
    ],
)
async def test_a_call_is_asked_as_any_other_and_its_connection_given_back(
    script: Any, replies: list[Any], reply: Any
) -> None:
    sent: list[Sequence[Any]] = []
    released: list[Any] = []

    class Connection:
        def __init__(self, server: Any) -> None:
            self.server = server

        async def execute(self, commands: Sequence[Sequence[Any]]) -> Any:
            sent.extend(commands)
            return replies.pop(0)

        async def release(self) -> None:
            released.append(self.server)

    pipelines = mock.Mock()
    job: Job = (script, ["key"], ("now",))
    with mock.patch.object(cluster, "AskingConnection", Connection):
        assert await SlotPipeline(pipelines, "others")._ask(job, ADDRESS) == reply
    pipelines.of_node.assert_called_once_with(ADDRESS)
    assert released == [pipelines.of_node.return_value.server]
    assert sent[0] == ("EVALSHA", script.sha, 1, "key", "now")
