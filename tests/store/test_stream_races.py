"""Several processes on one stream at the same moment: nothing is lost, doubled, or written after the end."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mcp_sessions.conf import StreamLimits
from mcp_sessions.store.calls import nodes, requests, sessions, streams, subscriptions
from mcp_sessions.store.calls.streams import Appended, Claim, Taken
from mcp_sessions.transport.event_ids import STANDALONE
from tests.store.harness import EXCHANGE, FIRST, MINUTE, Harness, gather
from tests.support.redis import RedisServer

#: Tries for an interleaving that must occur.
MOST_ROUNDS = 200


async def test_one_of_several_claims_at_the_same_moment_reads(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one", last=True)

    taken: list[Taken] = await gather(
        *[
            store.run(streams.claim(fingerprint, EXCHANGE, node=f"n{n}", after=0, ttl_ms=300_000))
            for n, store in enumerate([harness.store, harness.other] * 5)
        ]
    )
    batches = await gather(*[harness.read(fingerprint, each) for each in taken])

    tokens = sorted(each.claim.token for each in taken)
    assert tokens == list(range(FIRST, FIRST + 10))
    replaced = {each.replaced for each in taken}
    assert replaced == {Claim(node="a", token=1), *(e.claim for e in taken if e.claim.token != tokens[-1])}
    assert [each.claim.token for each, batch in zip(taken, batches, strict=True) if batch.valid] == tokens[
        -1:
    ]


async def test_two_readers_that_take_a_stream_from_each_other_deliver_each_message_once(
    harness: Harness,
) -> None:
    """A writer, and two nodes that claim and read in turns without knowing of each other."""
    fingerprint, total, delivered = await harness.open(), 60, Counter[bytes]()

    async def write() -> None:
        for n in range(total):
            await harness.publish(fingerprint, b"%d" % n)

    async def deliver(store: Any, node: str) -> None:
        while delivered.total() < total:
            taken = await store.run(
                streams.claim(fingerprint, STANDALONE, node=node, after=None, ttl_ms=300_000)
            )
            batch = await store.run(
                streams.read(fingerprint, STANDALONE, claim=taken.claim, after=taken.after, max_bytes=9)
            )
            delivered.update(event.payload for event in batch.events)
            fenced[batch.valid] += 1

    fenced: Counter[bool] = Counter()
    async with asyncio.timeout(60):
        await gather(write(), deliver(harness.store, "a"), deliver(harness.other, "b"))

    assert delivered == Counter(b"%d" % n for n in range(total))
    assert fenced[True]


async def test_a_claim_in_the_middle_of_appends_misses_nothing(harness: Harness) -> None:
    """Whoever appends learns of the claim exactly from the message on that the claimer does not find."""
    total = 10
    for _ in range(20):
        fingerprint = await harness.exchange()

        async def write(fingerprint: str = fingerprint) -> list[Appended | None]:
            return [await harness.append(fingerprint, b"%d" % n, first=n) for n in range(1, total + 1)]

        async def resume(fingerprint: str = fingerprint) -> tuple[Taken, list[int]]:
            taken = await harness.claim(fingerprint, after=0)
            batch = await harness.read(fingerprint, taken)
            return taken, [event.position for event in batch.events]

        appended, (taken, found) = await gather(write(), resume())

        told = [each.position for each in appended if each and each.claim == taken.claim]
        assert told == list(range(total + 1 - len(told), total + 1))
        assert set(found) | set(told) == set(range(1, total + 1))


async def test_an_exchange_ends_once_whether_its_node_answers_or_another_gives_it_up(
    redis_harness: Harness,
) -> None:
    harness, seen = redis_harness, set()
    for round_ in itertools.count():
        fingerprint = await harness.exchange()
        acts = [
            harness.append(fingerprint, b"answer", last=True),
            harness.close_orphan(fingerprint),
        ]
        answered, closed = await in_order(acts, swap=bool(round_ % 2))

        [(_, payload)] = await harness.kept(fingerprint)
        assert payload == (b"answer" if answered.accepted else b"lost")
        assert closed is not None
        seen.add(payload)
        if seen == {b"lost", b"answer"}:
            break
        assert round_ < MOST_ROUNDS, seen


async def in_order(acts: list[Any], *, swap: bool) -> list[Any]:
    """Begin the acts at the same moment, the last one first if `swap`; their outcomes, in their own order."""
    outcomes = await gather(*(reversed(acts) if swap else acts))
    return outcomes[::-1] if swap else outcomes


async def test_nothing_is_left_of_what_races_with_the_end_of_its_session(
    redis_harness: Harness, redis_server: RedisServer
) -> None:
    """Both outcomes of each act must occur, or the acts did not really race with the end."""
    harness, seen = redis_harness, set()
    names = ("open", "append", "publish", "claim", "ask", "subscribe")
    for round_ in itertools.count():
        fingerprint = await harness.exchange()
        end = harness.other.run(sessions.end(fingerprint, principal=None, reason="deleted"))
        racing = [start(harness, fingerprint, name) for name in names for _ in range(3)]
        place = round_ % (len(racing) + 1)
        outcomes = await gather(*racing[:place], end, *racing[place:])
        assert outcomes.pop(place) is not None
        labels = [name for name in names for _ in range(3)]
        seen |= {(name, bool(done)) for name, done in zip(labels, outcomes, strict=True)}

        assert lasting(redis_server, fingerprint) == {"ended"}
        if seen == set(itertools.product(names, (True, False))):
            break
        assert round_ < MOST_ROUNDS, seen


def start(harness: Harness, fingerprint: str, name: str) -> Any:
    store, limits = harness.store, harness.stream_limits
    acts: dict[str, Callable[[], Any]] = {
        "open": lambda: store.run(
            streams.open_stream(fingerprint, "ff", node="a", request_id="8", limits=limits)
        ),
        "append": lambda: harness.append(fingerprint, b"one"),
        "publish": lambda: harness.publish(fingerprint, b"one"),
        "claim": lambda: store.run(
            streams.claim(fingerprint, STANDALONE, node="a", after=None, ttl_ms=300_000)
        ),
        "ask": lambda: store.run(requests.register(fingerprint, "q1", node="a", kept_ms=MINUTE)),
        "subscribe": lambda: store.run(subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=9)),
    }
    return acts[name]()


def lasting(server: RedisServer, fingerprint: str) -> set[str]:
    """The parts of a session whose TTL is longer than that of a log. All have one."""
    log = StreamLimits(max_events=1, max_bytes=1, ttl_ms=5 * MINUTE).ttl_ms
    with server.client(decode_responses=True) as redis:
        ttls = {key.rpartition("}:")[2]: redis.pttl(key) for key in redis.scan_iter(f"*{fingerprint}*")}
    assert all(ttl > 0 for ttl in ttls.values()), ttls
    return {part for part, ttl in ttls.items() if ttl > log}


async def test_one_append_that_two_processes_repeat_is_made_once(harness: Harness) -> None:
    """A reply was lost, the caller sends again, and the first one was only slow."""
    fingerprint = await harness.exchange()
    batch = [b"%d" % n for n in range(20)]

    done = await gather(
        *[
            store.run(
                streams.append(
                    fingerprint,
                    EXCHANGE,
                    node="a",
                    first=1,
                    payloads=batch,
                    last=True,
                    limits=harness.stream_limits,
                )
            )
            for store in [harness.store, harness.other] * 5
        ]
    )

    assert {each.position for each in done} == {20}
    assert [payload for _, payload in await harness.kept(fingerprint)] == batch


async def test_publications_from_threads_and_loops_get_positions_of_their_own(harness: Harness) -> None:
    harness.stream_limits = replace(harness.stream_limits, max_events=1_000)
    fingerprint, barrier = await harness.open(), threading.Barrier(3)

    def publish(thread: int) -> None:
        barrier.wait()
        for n in range(20):
            name = f"{thread}-{n}"
            harness.sync.run(
                streams.publish(
                    fingerprint, payloads=[name.encode()] * 2, key=name, limits=harness.stream_limits
                )
            )

    await gather(
        *[asyncio.to_thread(publish, thread) for thread in range(3)],
        *[harness.publish(fingerprint, b"loop", b"loop") for _ in range(20)],
    )

    kept = await harness.kept(fingerprint, stream=STANDALONE)
    assert [position for position, _ in kept] == list(range(FIRST, FIRST + 160))
    messages = [payload for _, payload in kept]
    assert messages[::2] == messages[1::2], "what was published together is together"
    assert Counter(messages[::2])[b"loop"] == 20
    assert len(set(messages)) == 61


@pytest.mark.parametrize("count", [200])
async def test_no_notification_is_lost_between_threads_that_notify_and_a_loop_that_listens(
    harness: Harness, count: int
) -> None:
    await harness.store.run(nodes.beat("a", about="{}", forget_after_ms=MINUTE))
    after, _ = await harness.store.listen("a", after="0-0", block_ms=1)
    heard: list[bytes] = []

    def notify(thread: int) -> None:
        for n in range(count):
            harness.sync.run(nodes.notify({"a": [b"%d-%d" % (thread, n)]}))

    notifying = asyncio.gather(*[asyncio.to_thread(notify, thread) for thread in range(2)])
    async with asyncio.timeout(60):
        while len(heard) < 2 * count:
            after, notifications = await harness.store.listen("a", after=after, block_ms=20_000)
            heard += notifications
    await notifying

    for thread in range(2):
        of_thread = [each for each in heard if each.startswith(b"%d-" % thread)]
        assert of_thread == [b"%d-%d" % (thread, n) for n in range(count)]
