"""Pipelines on a Redis Cluster: each node has its own, so that one that is dead or slow delays only its own slots."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.clients import REDIS_ERRORS
from mcp_sessions.store.drivers.pipelines import Pipeline, PooledConnection, Waiting, replies_of
from mcp_sessions.store.drivers.round_trips import Gathering, Job, round_trips, unavailable
from mcp_sessions.store.topology import Address, ClusterNodes

#: What a node replies that does not serve the keys, or not all of them yet. The script has not run.
REDIRECTIONS: Final = (AskError, TryAgainError)
#: Seconds until a call is sent again whose keys are on their way from one node to another.
TRY_AGAIN: Final = 0.05
_ALONE: Final = Gathering(together=False)


class ClusterPipelines:
    """As `Pipeline`, for the scripts of one pipe: a pipeline for each node, made when it is first needed."""

    def __init__(self, nodes: ClusterNodes, *, in_flight: int) -> None:
        self.nodes = nodes
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._pipelines: dict[Address, NodePipeline] = {}
        #: Calls that are placed or redirected, and the futures of which they wait for the replies of nodes.
        self._placing: set[asyncio.Task[None]] = set()
        self._followed: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._placing) + sum(map(len, self._pipelines.values()))

    def submit(self, job: Job) -> "asyncio.Future[Any]":
        """The reply, an error reply included as a value. Fails with StoreUnavailable only."""
        slots = self.nodes.slots
        address = slots[key_slot(job[1][0].encode())] if slots else None
        if address is None:
            future = self._loop.create_future()
            self._place(job, future, None)
            return future
        return (self._pipelines.get(address) or self._open(address)).submit(job)

    async def drain(self) -> None:
        """Wait for what is in flight and for what waits."""
        while self._placing:
            await asyncio.wait(self._placing)
        for pipeline in list(self._pipelines.values()):
            await pipeline.drain()

    def redirect(self, job: Job, future: "asyncio.Future[Any]", reply: ResponseError, asked: Address) -> bool:
        """Whether a reply is a redirection that is followed now. The caller of the future waits until it is done."""
        if not isinstance(reply, REDIRECTIONS) or future in self._followed:
            return False
        self._place(job, future, reply, asked)
        return True

    def _open(self, address: Address) -> "NodePipeline":
        pipeline = NodePipeline(self, self.nodes.client(address), address, in_flight=self._in_flight)
        self._pipelines[address] = pipeline
        return pipeline

    def _place(
        self,
        job: Job,
        future: "asyncio.Future[Any]",
        error: ResponseError | None = None,
        asked: Address | None = None,
    ) -> None:
        task = self._loop.create_task(self._follow(job, future, error, asked))
        self._placing.add(task)
        task.add_done_callback(self._placing.discard)

    async def _follow(
        self,
        job: Job,
        future: "asyncio.Future[Any]",
        error: ResponseError | None,
        asked: Address | None,
    ) -> None:
        """Take one script to whoever serves its keys, and the reply to its caller."""
        try:
            async with asyncio.timeout(self.nodes.options["socket_timeout"]):
                reply = await self._reply(job, error, asked)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except StoreUnavailable as unavailable_error:
            if not future.done():
                future.set_exception(unavailable(unavailable_error.__cause__ or unavailable_error))
        except REDIS_ERRORS as redis_error:
            if not future.done():
                future.set_exception(unavailable(redis_error))
        else:
            if not future.done():
                future.set_result(reply)

    async def _reply(self, job: Job, error: ResponseError | None, asked: Address | None) -> Any:
        """What the node replies that serves the keys, after any number of redirections."""
        hops = 0
        while True:
            if asked is None:
                asked = await self.nodes.address_of(job[1][0])
                reply = await self._submit(job, asked)
            elif isinstance(error, MovedError):
                asked = self.nodes.redirected(error, asked)
                self.nodes.moved(error.slot_id, asked)
                reply = await self._submit(job, asked)
            elif isinstance(error, AskError):
                reply = await self._ask(job, self.nodes.redirected(error, asked))
            else:
                reply = await self._submit(job, asked)
            if not isinstance(reply, REDIRECTIONS):
                return reply
            error, hops = reply, hops + 1
            if hops > 1 or isinstance(error, TryAgainError):
                await asyncio.sleep(TRY_AGAIN)

    async def _submit(self, job: Job, address: Address) -> Any:
        """The reply of one node, a redirection included."""
        future = (self._pipelines.get(address) or self._open(address)).submit(job)
        self._followed.add(future)
        try:
            return await future
        finally:
            self._followed.discard(future)

    async def _ask(self, job: Job, address: Address) -> Any:
        """The reply of the node to which a slot is moving: it must be told that it was asked on purpose."""
        connection = Asking(PooledConnection(self.nodes.client(address)))
        try:
            [reply] = await replies_of(
                connection, _ALONE.round_trips([job]) if job[0].takes_many else round_trips([job])
            )
        finally:
            await connection.release()
        return reply


class NodePipeline(Pipeline):
    """The pipeline of one node: follows redirections, and looks at the cluster again when the node fails."""

    def __init__(self, cluster: ClusterPipelines, client: Redis, address: Address, *, in_flight: int) -> None:
        super().__init__(client, in_flight=in_flight, together=False)
        self._cluster = cluster
        self._address = address

    def _deliver(self, waiting: list[Waiting], replies: list[Any]) -> None:
        for (job, future), reply in zip(waiting, replies, strict=True):
            if isinstance(reply, ClusterDownError):
                self._cluster.nodes.refresh()
            if not future.done() and not self._cluster.redirect(job, future, reply, self._address):
                future.set_result(reply)

    def _fail(self, waiting: list[Waiting], error: BaseException) -> None:
        self._cluster.nodes.refresh()
        super()._fail(waiting, error)


class Asking:
    """A connection on which each command is preceded by ASKING."""

    def __init__(self, connection: PooledConnection) -> None:
        self._connection = connection

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        replies = await self._connection.execute(
            [each for command in commands for each in (("ASKING",), command)]
        )
        return replies[1::2]

    async def release(self) -> None:
        await self._connection.release()
