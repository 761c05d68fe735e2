"""What the driver for event loops makes of replies: over pipelines that are played, without a server."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from mcp_sessions.connections.round_trips import NoReply
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.call import Call, Operation
from mcp_sessions.store.calls import nodes, streams
from mcp_sessions.store.drivers.asynchronous import RedisStore, _log_failure
from mcp_sessions.store.keys import Keys
from mcp_sessions.store.sealing import Sealer

ONE, TWO = "ab" * 32, "cd" * 32
AWAY = NoReply(RedisConnectionError("away"), sent=False)
REFUSED = ResponseError("OOM command not allowed")


class Pipe:
    """Answers what is sent at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str], Sequence[Any]]] = []
        self.replies: list[Any] = []
        self.drained = 0

    def submit(self, job: Any) -> "asyncio.Future[Any]":
        script, keys, arguments = job
        self.sent.append((script.name, keys, tuple(arguments)))
        future = asyncio.get_running_loop().create_future()
        future.set_result(self.replies.pop(0))
        return future

    async def drain(self) -> None:
        self.drained += 1


class Pipelines:
    """In the place of those of an event loop; they are their own outage."""

    name = "one:6379"

    def __init__(self) -> None:
        self.by_name = {name: Pipe() for name in ("touches", "looks", "messages", "others", "follow_ups")}
        self.outage = self
        self.said: list[str] = []
        self.closed = 0

    def add(self, text: str, *arguments: Any) -> None:
        self.said.append(text % arguments)

    async def aclose(self) -> None:
        self.closed += 1


class Loop:
    """In the place of what belongs to an event loop."""

    def __init__(self) -> None:
        self.pipelines = Pipelines()

    async def aclose(self) -> None:
        await self.pipelines.aclose()


@pytest.fixture
async def store() -> RedisStore:
    def make_client(_: float | None) -> Any:
        raise AssertionError("nothing connects")

    made = RedisStore(Keys("shop", str), make_client)
    loops: Any = made._loops
    loops[asyncio.get_running_loop()] = Loop()
    return made


def pipelines(store: RedisStore) -> Pipelines:
    found: Any = store._loops[asyncio.get_running_loop()].pipelines
    assert isinstance(found, Pipelines)
    return found


def call(**changes: Any) -> Call[Any]:
    """One whose result is what it was asked for, and the reply."""
    made = Call(nodes.LIST, ONE, ("session",), ("x",), lambda home, reply: (home, reply))
    return made._replace(**changes)


Run = Callable[[RedisStore, Call[Any]], Any]


async def alone(store: RedisStore, work: Call[Any]) -> Any:
    return await store.run(work)


async def together(store: RedisStore, work: Call[Any]) -> Any:
    [result] = await store.run_all([work])
    return result


async def in_an_operation(store: RedisStore, work: Call[Any]) -> Any:
    def operation() -> Operation[Any]:
        [result] = yield [work]
        return result

    return await store.run(operation())


@pytest.fixture(params=[alone, together, in_an_operation])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_call_is_sent_through_its_pipe_with_its_keys_and_the_time(
    store: RedisStore, run: Run
) -> None:
    others = pipelines(store).by_name["others"]
    others.replies = ["reply", "later"]
    assert await run(store, call()) == (ONE, "reply")
    store._clock = lambda: 0
    assert await run(store, call()) == (ONE, "later")
    key = f"mcp:v1:shop:{{{ONE}}}:session"
    assert others.sent == [("node_list", [key], ("", "x")), ("node_list", [key], (0, "x"))]
    pipelines(store).by_name["messages"].replies = ["of messages"]
    assert await run(store, call(script=streams.APPEND)) == (ONE, "of messages")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (REFUSED, "Redis at one:6379 refuses calls: "),
        (AWAY, "Redis at one:6379 cannot be reached: "),
    ],
)
async def test_a_call_that_fails_counts_as_an_outage_and_is_a_result_only_where_it_fails_alone(
    store: RedisStore, run: Run, reply: Any, said: str
) -> None:
    pipelines(store).by_name["others"].replies = [reply, reply]
    with pytest.raises(StoreUnavailable) as raised:
        await run(store, call(follow_up=lambda *_: pytest.fail("nothing follows")))
    result = await run(store, call(fails_alone=True))
    assert isinstance(result, StoreUnavailable)
    assert pipelines(store).said == [f"{said}{raised.value}"] * 2


async def test_a_record_of_another_type_is_decoded_and_no_outage(store: RedisStore, run: Run) -> None:
    wrong = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    pipelines(store).by_name["others"].replies = [wrong]
    assert await run(store, call(script=streams.KEEP)) == (ONE, wrong)
    assert pipelines(store).said == []


async def test_what_follows_a_call_is_sent_behind_it_and_nobody_waits_for_that(
    store: RedisStore, run: Run
) -> None:
    found = pipelines(store).by_name
    found["others"].replies, found["follow_ups"].replies = ["reply"], ["fine", AWAY]
    asked: list[Any] = []

    def follow_up(result: Any, reply: Any) -> list[Call[Any]]:
        asked.append((result, reply))
        return [call(home=ONE), call(home=TWO)]

    assert await run(store, call(follow_up=follow_up)) == (ONE, "reply")
    assert asked == [((ONE, "reply"), "reply")]
    assert [keys[0].split("}")[0][-4:] for _, keys, _ in found["follow_ups"].sent] == ["abab", "cdcd"]
    assert (found["follow_ups"].drained, pipelines(store).said) == (0, [])
    await store.settle()
    assert found["follow_ups"].drained == 1


async def test_what_is_secret_is_sealed_on_every_way(store: RedisStore, run: Run) -> None:
    store._sealer = Sealer(["a key " * 8])
    others = pipelines(store).by_name["others"]
    others.replies = ["reply"]
    assert await run(store, call(arguments=("x", "said"), secrets=(1,))) == (ONE, "reply")
    [(_, _, (now, plain, sealed))] = others.sent
    assert (now, plain) == ("", "x")
    others.replies = [[sealed]]
    assert await run(store, call()) == (ONE, [b"said"])


async def test_results_are_in_the_order_of_their_calls(store: RedisStore) -> None:
    found = pipelines(store).by_name
    found["others"].replies, found["messages"].replies = ["1", "3"], ["2"]
    asked = iter([call(), call(script=streams.APPEND), call(home=TWO)])
    assert await store.run_all(asked) == [(ONE, "1"), (ONE, "2"), (TWO, "3")]
    assert await store.run_all([]) == []


async def test_an_operation_learns_where_it_waits_that_the_store_is_away(store: RedisStore) -> None:
    def operation() -> Operation[Any]:
        with pytest.raises(StoreUnavailable):
            yield [call()]
        results = yield [call(), call()]
        return results

    pipelines(store).by_name["others"].replies = [AWAY, "1", "2"]
    assert await store.run(operation()) == [(ONE, "1"), (ONE, "2")]


async def test_a_store_is_closed_for_its_event_loop_once(store: RedisStore) -> None:
    closed = pipelines(store)
    await store.aclose()
    await store.aclose()
    await store.settle()
    assert (closed.closed, store._loops) == (1, {})


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("fine", []),
        (AWAY, [f"An index update failed: {AWAY}"]),
        (KeyError("broken"), ["An index update failed: 'broken'"]),
        (None, []),
    ],
)
async def test_what_follows_and_fails_is_only_logged(
    outcome: Any, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_sessions.store")
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    if outcome is None:
        future.cancel()
    elif isinstance(outcome, KeyError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    _log_failure(future)
    assert [record.getMessage() for record in caplog.records] == said
