"""Connections of pipelines: which are taken, kept, opened again, closed and given back, with a pool that is played."""

from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
from hiredis import pack_command
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from mcp_sessions.connections import pipelines
from mcp_sessions.connections.pipelines import PooledConnection, PooledServer

COMMANDS: Sequence[Any] = [("PING",), ("GET", "a key")]
DEMOTED = ReadOnlyError("You can't write against a read only replica.")
WRONG = ResponseError("wrong")
#: Seconds for which a connection stays outside of its pool.
KEEP = 1.0


class Connection:
    """Gives one reply after the other, and notes what is done to it."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.done: list[Any] = []
        self.socket_timeout: float | None = 5.0
        #: What is found when somebody looks whether it is closed, and what goes wrong when it is opened or written to.
        self.stale: Any = False
        self.refuses: Exception | None = None
        self.breaks: Exception | None = None

    async def can_read(self) -> bool:
        if isinstance(self.stale, Exception):
            raise self.stale
        return bool(self.stale)

    async def connect(self) -> None:
        self.done.append("connect")
        if self.refuses is not None:
            raise self.refuses

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait, "a server that hangs is not waited for"
        self.done.append("disconnect")

    async def send_packed_command(self, packed: Any) -> None:
        self.done.append(packed)
        if self.breaks is not None:
            raise self.breaks

    async def send_command(self, *words: Any) -> None:
        self.done.append(words)

    async def read_response(self) -> Any:
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply


class Pool:
    """Hands out what a test put here."""

    max_connections = 32

    def __init__(self, *connections: Connection) -> None:
        self.connection_kwargs = {"socket_timeout": 2.0}
        self.free: list[Any] = list(connections)
        self.released: list[Connection] = []

    def make_connection(self) -> Any:
        return self.free.pop(0)

    async def get_connection(self) -> Any:
        connection = self.free.pop(0)
        if isinstance(connection, Exception):
            raise connection
        return connection

    async def release(self, connection: Connection) -> None:
        self.released.append(connection)


def played(*connections: Any) -> tuple[PooledServer, Pool]:
    """A server whose connections are kept, and its pool."""
    pool = Pool(*connections)
    server = PooledServer(pool)
    server.keeps = True  # whatever redis-py has
    return server, pool


class Clock:
    """The monotonic clock, moved by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pipelines, "monotonic", made)
    return made


PACKED = [pack_command(command) for command in COMMANDS]


async def test_each_command_has_its_reply_and_the_connection_stays_for_the_next(clock: Clock) -> None:
    made = Connection(b"PONG", WRONG, b"again", b"and again")
    server, pool = played(made)
    used = server.connection()
    assert await used.execute(COMMANDS) == [b"PONG", WRONG]
    assert await used.execute(COMMANDS) == [b"again", b"and again"]
    assert made.done == [PACKED, PACKED]
    assert (made.socket_timeout, pool.released, server.kept) == (None, [], [])
    await used.release()
    await used.release()
    assert ([each.connection for each in server.kept], pool.released) == ([made], [])


@pytest.mark.parametrize(("keeps", "stays"), [(False, True), (True, False), (True, True)])
async def test_what_may_not_be_kept_goes_back_to_the_pool(clock: Clock, keeps: bool, stays: bool) -> None:
    made = Connection(b"PONG", b"a value")
    server, pool = played(made)
    server.keeps = keeps
    used = PooledConnection(server)
    used.stays = stays
    await used.execute(COMMANDS)
    await used.release()
    assert (len(server.kept), len(pool.released)) == ((1, 0) if keeps and stays else (0, 1))


async def test_a_connection_that_is_kept_goes_through_its_pool_after_a_moment(clock: Clock) -> None:
    first, second = Connection(*[b""] * 4), Connection(*[b""] * 2)
    server, pool = played(first, second)
    for ahead, released in ((0.0, []), (KEEP, []), (0.125, [first])):
        clock.now += ahead
        used = server.connection()
        await used.execute(COMMANDS)
        await used.release()
        assert pool.released == released
    assert [each.until - clock.now for each in server.kept] == [KEEP]


async def test_the_connection_that_was_used_last_is_taken_first(clock: Clock) -> None:
    connections = [Connection(*[b""] * 4) for _ in range(2)]
    server, _ = played(*connections)
    both = [server.connection() for _ in range(2)]
    for used in both:
        await used.execute(COMMANDS)
    for used in both:
        await used.release()
    await both[0].execute(COMMANDS)
    assert [len(each.done) for each in connections] == [1, 2]


@pytest.mark.parametrize("sign", [True, RedisError("closed"), OSError("closed")])
async def test_a_connection_that_was_closed_meanwhile_is_opened_again_before_it_is_used(
    clock: Clock, sign: Any
) -> None:
    made = Connection(b"PONG", b"a value")
    made.stale = sign
    server, pool = played(made)
    assert await server.connection().execute(COMMANDS) == [b"PONG", b"a value"]
    assert made.done == ["disconnect", "connect", PACKED]
    assert pool.released == []


async def test_where_redis_py_has_no_way_to_look_its_pool_has_looked(clock: Clock) -> None:
    made = Connection(b"PONG", b"a value")
    with mock.patch.object(Connection, "can_read", mock.PropertyMock(side_effect=AttributeError)):
        assert await played(made)[0].connection().execute(COMMANDS) == [b"PONG", b"a value"]
    assert made.done == [PACKED]


async def test_after_a_doubt_each_connection_is_opened_again_once(clock: Clock) -> None:
    """Also those that come from the pool, where they were before."""
    kept, pooled = Connection(*[b""] * 6), Connection(*[b""] * 6)
    server, pool = played(kept, pooled, pooled)
    server.keeps = False
    for _ in range(2):
        used = server.connection()
        await used.execute(COMMANDS)
        await used.release()
    server.renew()
    pool.free[:] = [kept, kept, pooled, pooled, Connection(b"", b"")]
    new = pool.free[-1]
    for _ in range(5):
        used = server.connection()
        await used.execute(COMMANDS)
        await used.release()
    for each in (kept, pooled):
        assert each.done == [PACKED, "disconnect", "connect", PACKED, PACKED]
    assert new.done == [PACKED], "it was opened after the doubt"


@pytest.mark.parametrize("error", [RedisConnectionError("refused"), OSError("refused"), TimeoutError("late")])
async def test_without_a_connection_nothing_was_sent(clock: Clock, error: Exception) -> None:
    made = Connection()
    made.stale, made.refuses = True, error
    server, pool = played(made, error)
    for released in ([made], [made]):
        used = server.connection()
        replies = await used.execute(COMMANDS)
        assert [(reply.cause, reply.sent) for reply in replies] == [(error, False)] * 2
        await used.release()
        assert (pool.released, server.kept) == (released, []), "what cannot be opened is given back"


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_a_connection_that_breaks_is_closed_and_what_has_no_reply_may_have_been_done(
    clock: Clock, count: int
) -> None:
    commands, replies = [*COMMANDS, ("PING",)], [b"PONG", b"a value"][:count]
    made = Connection(*replies, error := RedisConnectionError("broken"))
    server, pool = played(made, other := Connection(b"", b""))
    used = server.connection()
    found = await used.execute(commands)
    assert found[:count] == replies
    assert [(reply.cause, reply.sent) for reply in found[count:]] == [(error, True)] * (3 - count)
    assert (made.done[1:], pool.released, server._renewals) == (["disconnect"], [made], 1)
    await used.execute(COMMANDS)
    assert other.done == [PACKED], "the next goes on another one"
    await used.release()
    assert [each.connection for each in server.kept] == [other]


async def test_what_is_not_sent_completely_may_have_been_done(clock: Clock) -> None:
    made = Connection()
    made.breaks = error = RedisConnectionError("broken")
    server, pool = played(made)
    replies = await server.connection().execute(COMMANDS)
    assert [(reply.cause, reply.sent) for reply in replies] == [(error, True)] * 2
    assert (made.done, pool.released) == ([PACKED, "disconnect"], [made])


async def test_a_connection_whose_caller_is_interrupted_is_closed(clock: Clock) -> None:
    made = Connection(b"PONG", KeyboardInterrupt())
    server, pool = played(made)
    used = server.connection()
    with pytest.raises(KeyboardInterrupt):
        await used.execute(COMMANDS)
    assert (made.done, pool.released) == ([PACKED, "disconnect"], [made])
    await used.release()
    assert server.kept == []


@pytest.mark.parametrize("second", [b"a value", WRONG])
async def test_a_connection_to_what_is_a_replica_now_is_closed_after_its_replies(
    clock: Clock, second: Any
) -> None:
    for replies in ([DEMOTED, second], [second, DEMOTED]):
        made = Connection(*replies)
        server, pool = played(made)
        assert await server.connection().execute(COMMANDS) == replies
        assert (made.done, pool.released, server._renewals) == ([PACKED, "disconnect"], [made], 1)


@pytest.mark.parametrize("fails", [None, RedisConnectionError("refused"), ResponseError("loading")])
async def test_a_probe_runs_a_script_on_a_connection_of_its_own(fails: Exception | None) -> None:
    made = Connection(1 if fails is None else fails)
    server, pool = played(made)
    if fails is None:
        await server.probe()
    else:
        with pytest.raises(type(fails)):
            await server.probe()
    assert made.done == ["connect", ("EVAL", "return 1", 0), "disconnect"]
    assert (pool.released, made.replies) == ([], [])
    refused = Connection()
    refused.refuses = RedisConnectionError("refused")
    pool.free = [refused]
    with pytest.raises(RedisConnectionError):
        await server.probe()
    assert refused.done == ["connect", "disconnect"]


@pytest.mark.parametrize(
    ("more", "can_read", "keeps"), [(1, True, True), (0, True, False), (1, False, False)]
)
def test_connections_are_kept_if_there_are_more_and_it_can_be_told_whether_one_is_closed(
    more: int, can_read: bool, keeps: bool
) -> None:
    pool = Pool()
    pool.max_connections = sum(pipelines.IN_FLIGHT.values()) + more
    kind = type("AbstractConnection", (), {"can_read": None} if can_read else {})
    with mock.patch.object(pipelines, "AbstractConnection", kind):
        assert PooledServer(pool).keeps == keeps
