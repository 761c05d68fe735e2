"""Pipelines on a Redis Cluster: each node has its own, so that one that is dead or slow delays only its own slots."""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from mcp_sessions.connections.breaker import Breaker
from mcp_sessions.connections.defaults import REDIS_ERRORS, log
from mcp_sessions.connections.pipelines import IN_FLIGHT, STALL, Pipeline, PooledConnection, PooledServer
from mcp_sessions.connections.round_trips import Gathering, Job, NoReply, round_trips
from mcp_sessions.connections.server import NO_LIMIT, Server
from mcp_sessions.connections.standalone import Pipelines
from mcp_sessions.connections.topology import Address, ClusterNodes
from mcp_sessions.connections.trips import Waiting
from mcp_sessions.repeats import Repeats

#: What a node replies that does not serve the keys, or not all of them yet. The script has not run.
REDIRECTIONS: Final = (AskError, TryAgainError)
#: Seconds until a call is sent again whose keys are on their way from one node to another.
TRY_AGAIN: Final = 0.05
#: Ticks for which a round trip to a node waits at most while more calls come.
MOST_TICKS: Final = 4
_ALONE: Final = Gathering(together=False)


class ClusterPipelines:
    """As `Pipelines`, for the nodes of a Cluster: `Pipelines` for each, made when they are first needed."""

    def __init__(self, nodes: ClusterNodes) -> None:
        self.nodes = nodes
        self.name = ", ".join(f"{host}:{port}" for host, port in nodes.startup)
        self.outage = Repeats(log, f"Calls that failed on Redis at {self.name}")
        self.by_name = {name: SlotPipeline(self, name) for name in IN_FLIGHT}
        self._of_nodes: dict[Address, NodePipelines] = {}
        #: Those of nodes that have left, until what is under way there is done.
        self._closing: set[asyncio.Task[None]] = set()
        nodes.left = self._left

    def of_node(self, address: Address) -> "NodePipelines":
        found = self._of_nodes.get(address)
        if found is None:
            found = self._of_nodes[address] = NodePipelines(self, address)
        return found

    async def aclose(self) -> None:
        """Wait for everything that was submitted, as long as it may take."""
        for pipeline in self.by_name.values():
            await pipeline.drain()
        for pipelines in self._of_nodes.values():
            await pipelines.aclose()
        if self._closing:
            await asyncio.wait(self._closing)
        self.outage.end()

    def _left(self, address: Address) -> None:
        """Forget a node: its address may never come back, and nobody is to look out for it any more."""
        pipelines = self._of_nodes.pop(address, None)
        for slots in self.by_name.values():
            slots.forget(address)
        if pipelines is not None:
            task = asyncio.get_running_loop().create_task(pipelines.leave(), context=Context())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class SlotPipeline:
    """As `Pipeline`: hands each script to the pipeline of that name of the node that serves its keys."""

    def __init__(self, cluster: ClusterPipelines, name: str) -> None:
        self._cluster = cluster
        self.nodes = cluster.nodes
        self._name = name
        #: How many scripts, for any node.
        self.submitted = 0
        self._loop = asyncio.get_running_loop()
        self._of_nodes: dict[Address, Pipeline] = {}
        #: Scripts that are placed or redirected, and the futures of which their tasks wait for the replies of nodes.
        self._following: set[asyncio.Task[None]] = set()
        self.followed: set[asyncio.Future[Any]] = set()

    def submit(self, job: Job) -> "asyncio.Future[Any]":
        """The reply, an error reply or `NoReply` included as a value."""
        self.submitted += 1
        slots = self.nodes.slots
        address = slots[key_slot(job[1][0].encode())] if slots else None
        if address is not None:
            return (self._of_nodes.get(address) or self._open(address)).submit(job)
        future = self._loop.create_future()
        deadline = self._loop.time() + (self.nodes.options["socket_timeout"] or NO_LIMIT)
        self.follow((job, future, deadline), None, None)
        return future

    def follow(self, waiting: Waiting, error: ResponseError | None, asked: Address | None) -> None:
        """Take a script to whoever serves its keys, and the reply to its future, in the time that it has left."""
        task = self._loop.create_task(self._follow(waiting, error, asked), context=Context())
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    def forget(self, address: Address) -> None:
        """Submit nothing more to a node, unless another one says that it serves a slot."""
        self._of_nodes.pop(address, None)

    async def drain(self) -> None:
        """Wait for what is in flight and for what waits."""
        while self._following:
            await asyncio.wait(self._following)
        for pipeline in list(self._of_nodes.values()):
            await pipeline.drain()

    def _open(self, address: Address) -> Pipeline:
        pipeline = self._of_nodes[address] = self._cluster.of_node(address).by_name[self._name]
        return pipeline

    async def _follow(self, waiting: Waiting, error: ResponseError | None, asked: Address | None) -> None:
        job, future, deadline = waiting
        try:
            async with asyncio.timeout_at(max(deadline, self._loop.time() + STALL)):
                reply = await self._reply(job, error, asked)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except REDIS_ERRORS as failed:
            reply = NoReply(failed, sent=False)
        if not future.done():
            future.set_result(reply)

    async def _reply(self, job: Job, error: ResponseError | None, asked: Address | None) -> Any:
        """What the node replies that serves the keys, after any number of redirections."""
        hops = 0
        while True:
            asking = False
            if asked is None:
                asked = target = await self.nodes.address_of(job[1][0])
            elif isinstance(error, MovedError):
                asked = target = self.nodes.redirected(error, asked)
                self.nodes.moved(error.slot_id, target)
            elif isinstance(error, AskError):
                target, asking = self.nodes.redirected(error, asked), True
            else:
                target = asked
            reply = await (self._ask(job, target) if asking else self._submit(job, target))
            if not isinstance(reply, REDIRECTIONS):
                return reply
            error, hops = reply, hops + 1
            if hops > 1 or isinstance(error, TryAgainError):
                await asyncio.sleep(TRY_AGAIN)

    async def _submit(self, job: Job, address: Address) -> Any:
        """The reply of one node, a redirection included."""
        future = (self._of_nodes.get(address) or self._open(address)).submit(job)
        self.followed.add(future)
        try:
            return await future
        finally:
            self.followed.discard(future)

    async def _ask(self, job: Job, address: Address) -> Any:
        """The reply of the node to which a slot is moving: it must be told that it is asked on purpose."""
        connection = AskingConnection(self._cluster.of_node(address).server)
        try:
            steps = (_ALONE.round_trips if job[0].takes_many else round_trips)([job])
            commands = next(steps)
            while True:
                commands = steps.send(await connection.execute(commands))
        except StopIteration as stop:
            [reply] = stop.value
            return reply
        finally:
            await connection.release()


class NodeServer(PooledServer):
    """One node of a Cluster. Its keys are in many slots."""

    together = False


class NodePipelines(Pipelines):
    """The pipelines to one node."""

    def __init__(self, cluster: ClusterPipelines, address: Address) -> None:
        self._cluster = cluster
        self._address = address
        self.server = NodeServer(cluster.nodes.client(address).connection_pool)
        super().__init__(self.server)

    async def leave(self) -> None:
        """Close the connections when what is under way is done."""
        await self.aclose()
        await self.server.give_back()
        await self.server.pool.disconnect()

    def _make(self, server: Server, name: str) -> Pipeline:
        slots = self._cluster.by_name[name]
        return NodePipeline(slots, self._address, server, self.breaker, in_flight=IN_FLIGHT[name])


class NodePipeline(Pipeline):
    """A pipeline to one node: follows redirections, and has the cluster looked at again when the node fails."""

    def __init__(
        self, slots: SlotPipeline, address: Address, server: Server, breaker: Breaker, *, in_flight: int
    ) -> None:
        super().__init__(server, breaker, in_flight=in_flight)
        self._slots = slots
        self._address = address

    async def _gather(self) -> None:
        """Wait while each tick brings calls, whichever node they are for: each node gets only a part of them.

        A call that comes alone waits no longer than for a standalone Redis.
        """
        for _ in range(MOST_TICKS):
            submitted = self._slots.submitted
            await asyncio.sleep(0)
            if submitted == self._slots.submitted:
                break

    def _follows(self, waiting: Waiting, reply: Exception) -> bool:
        if isinstance(reply, REDIRECTIONS) and waiting[1] not in self._slots.followed:
            self._slots.follow(waiting, reply, self._address)
            return True
        if isinstance(reply, NoReply | ClusterDownError):
            self._slots.nodes.refresh()
        return False

    def _refusal(self) -> NoReply:
        self._slots.nodes.refresh()
        return super()._refusal()

    def _late(self) -> NoReply:
        self._slots.nodes.refresh()
        return super()._late()


class AskingConnection(PooledConnection):
    """A connection on which each command is preceded by ASKING. Any number may be in use at the same moment."""

    stays = False

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        replies = await super().execute([each for command in commands for each in (("ASKING",), command)])
        return replies[1::2]
