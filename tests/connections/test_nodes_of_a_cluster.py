"""The pipelines to the nodes of a Cluster: one set for each, closed when it leaves or all are closed."""

import asyncio
from typing import Any
from unittest import mock

import pytest

from mcp_sessions.connections import cluster as clusters
from mcp_sessions.connections.cluster import (
    AskingConnection,
    ClusterPipelines,
    NodePipeline,
    NodePipelines,
)
from mcp_sessions.connections.pipelines import IN_FLIGHT
from mcp_sessions.connections.server import Taken
from mcp_sessions.connections.topology import ClusterNodes

ONE, TWO = ("one", 1), ("two", 2)


class Node:
    """The pipelines to a node, which note what is done to them."""

    def __init__(self, cluster: ClusterPipelines, address: tuple[str, int]) -> None:
        self.address = address
        self.done: list[str] = []
        self.may_leave = asyncio.Event()
        self.by_name = {name: mock.AsyncMock() for name in IN_FLIGHT}

    async def leave(self) -> None:
        self.done.append("leaves")
        await self.may_leave.wait()
        self.done.append("left")

    async def aclose(self) -> None:
        self.done.append("closed")


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> ClusterPipelines:
    monkeypatch.setattr(clusters, "NodePipelines", Node)
    return ClusterPipelines(ClusterNodes([ONE, TWO], {"socket_timeout": 2, "max_connections": 32}))


async def test_each_node_has_its_pipelines_and_the_cluster_the_name_of_all(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert made.by_name.keys() == IN_FLIGHT.keys()
    assert made.name == "one:1, two:2"
    one, two = made.of_node(ONE), made.of_node(TWO)
    assert (one.address, two.address) == (ONE, TWO)
    assert made.of_node(ONE) is one
    for name, pipeline in made.by_name.items():
        assert pipeline._open(TWO) is two.by_name[name]
    made.outage.add("refused")
    await made.aclose()
    assert "Redis at one:1, two:2: 1 in 0.0 s. That is over." in caplog.text


async def test_a_node_that_left_is_forgotten_and_waited_for(made: Any) -> None:
    one, two = made.of_node(ONE), made.of_node(TWO)
    for pipeline in made.by_name.values():
        pipeline._open(ONE)
        pipeline._open(TWO)
    made.nodes.left(ONE)
    made.nodes.left(("three", 3))
    assert all(list(pipeline._of_nodes) == [TWO] for pipeline in made.by_name.values())
    assert made.of_node(ONE) is not one

    closing = asyncio.create_task(made.aclose())
    while not two.done:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (one.done, two.done, closing.done()) == (["leaves"], ["closed"], False)
    for name in IN_FLIGHT:
        two.by_name[name].drain.assert_awaited_once_with()
    one.may_leave.set()
    await closing
    assert one.done == ["leaves", "left"]
    await asyncio.sleep(0)
    assert made._closing == set()


async def test_the_pipelines_to_a_node_serve_those_of_their_names_and_close_its_connections() -> None:
    made = ClusterPipelines(ClusterNodes([ONE], {"socket_timeout": 7, "max_connections": 32}))
    node = made.of_node(ONE)
    assert isinstance(node, NodePipelines)
    assert (node.name, node.server.seconds, node.server.together) == ("one:1", 7, False)
    for name, pipeline in node.by_name.items():
        assert isinstance(pipeline, NodePipeline)
        assert (pipeline._slots, pipeline._address) == (made.by_name[name], ONE)
        assert len(pipeline._idle) == IN_FLIGHT[name]

    done = mock.Mock()
    for name, pipeline in node.by_name.items():
        done.attach_mock(mock.AsyncMock(), name)
        mock.patch.object(pipeline, "drain", getattr(done, name)).start()
    node.server.give_back = done.give_back = mock.AsyncMock()  # type: ignore[method-assign]
    node.server.pool = mock.Mock(disconnect=mock.AsyncMock())
    done.attach_mock(node.server.pool.disconnect, "disconnect")
    await node.leave()
    assert [call[0] for call in done.mock_calls] == [*IN_FLIGHT, "give_back", "disconnect"]
    mock.patch.stopall()
    await made.aclose()


async def test_a_connection_that_asks_on_purpose_goes_back_to_its_pool() -> None:
    server = mock.Mock(keeps=True, kept=[], pool=mock.AsyncMock())
    connection = AskingConnection(server)
    connection._taken = Taken("a connection", 0.0, 0)
    await connection.release()
    await connection.release()
    server.pool.release.assert_awaited_once_with("a connection")
    assert server.kept == []
