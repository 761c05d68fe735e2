"""Questions to the client, and its resource subscriptions: what every implementation promises."""

from mcp_sessions.store.stream_commands import MOST_PROGRESS
from mcp_sessions.store.streaming import Replies
from tests.store.stream_worlds import Streams, gather
from tests.store.worlds import HOUR, MINUTE, a_fingerprint


async def ask(streams: Streams, question: str = "q1", *, timeout_ms: int = MINUTE) -> str:
    """The fingerprint of a new session whose client was asked something by node a."""
    fingerprint = await streams.world.open()
    assert await streams.store.ask(fingerprint, question, node="a", timeout_ms=timeout_ms)
    return fingerprint


async def answer_of(streams: Streams, fingerprint: str) -> bytes | None:
    """The response to the question, as the node finds it that waits."""
    replies = await streams.store.replies(fingerprint, "q1", after=0)
    return replies.answer if replies else None


async def test_an_answer_reaches_the_node_that_waits(streams: Streams) -> None:
    fingerprint = await ask(streams)
    assert await answer_of(streams, fingerprint) is None

    assert await streams.other.answer(fingerprint, "q1", payload=b'{"ok": true}\x00') == "a"

    assert await answer_of(streams, fingerprint) == b'{"ok": true}\x00'


async def test_an_answer_can_be_taken_again_when_its_reply_was_lost(streams: Streams) -> None:
    fingerprint = await ask(streams)
    await streams.other.answer(fingerprint, "q1", payload=b"yes")

    taken = [await answer_of(streams, fingerprint) for _ in range(2)]

    assert taken == [b"yes", b"yes"]


async def test_of_many_answers_exactly_one_wins(streams: Streams) -> None:
    fingerprint = await ask(streams)

    outcomes = await gather(
        *[
            store.answer(fingerprint, "q1", payload=b"%d" % n)
            for n, store in enumerate([streams.store, streams.other] * 10)
        ]
    )

    winners = [n for n, outcome in enumerate(outcomes) if outcome == "a"]
    assert (len(winners), outcomes.count(None)) == (1, 19)
    assert await answer_of(streams, fingerprint) == b"%d" % winners[0]


async def test_an_empty_answer_is_an_answer(streams: Streams) -> None:
    fingerprint = await ask(streams)

    assert await streams.other.answer(fingerprint, "q1", payload=b"") == "a"
    assert await streams.other.answer(fingerprint, "q1", payload=b"") is None
    assert await answer_of(streams, fingerprint) == b""


async def test_nobody_waits_for_what_was_never_asked(streams: Streams) -> None:
    fingerprint, stranger = await ask(streams), await ask(streams, "q2")

    assert await streams.other.answer(fingerprint, "q2", payload=b"yes") is None
    assert await streams.other.answer(stranger, "q1", payload=b"yes") is None
    assert await answer_of(streams, fingerprint) is None
    assert await streams.other.progress(fingerprint, "q2", payload=b"1") is None
    assert await streams.store.replies(fingerprint, "q2", after=0) is None


async def test_a_late_answer_is_refused(streams: Streams) -> None:
    fingerprint = await ask(streams, timeout_ms=MINUTE)
    streams.advance(MINUTE)

    assert await streams.other.answer(fingerprint, "q1", payload=b"yes") is None
    assert await streams.other.progress(fingerprint, "q1", payload=b"1") is None


async def test_an_answer_to_a_question_that_was_withdrawn_is_refused(streams: Streams) -> None:
    fingerprint = await ask(streams)
    for _ in range(2):
        await streams.store.withdraw(fingerprint, "q1")

    assert await streams.other.answer(fingerprint, "q1", payload=b"yes") is None
    assert await answer_of(streams, fingerprint) is None


async def test_progress_finds_the_node_until_the_answer_is_there(streams: Streams) -> None:
    fingerprint = await ask(streams)

    assert await streams.other.progress(fingerprint, "q1", payload=b"1") == "a"
    await streams.other.answer(fingerprint, "q1", payload=b"yes")
    assert await streams.other.progress(fingerprint, "q1", payload=b"2") is None

    replies = await streams.store.replies(fingerprint, "q1", after=0)
    assert replies == Replies(progress=[b"1"], place=1, answer=b"yes")


async def test_progress_stays_to_be_read_from_any_place(streams: Streams) -> None:
    fingerprint = await ask(streams)
    for payload in (b"1", b"2\x00\xff", b"3"):
        await streams.other.progress(fingerprint, "q1", payload=payload)

    read = [await streams.store.replies(fingerprint, "q1", after=after) for after in (0, 2, 3, 4)]

    assert [each and (list(each.progress), each.place) for each in read] == [
        ([b"1", b"2\x00\xff", b"3"], 3),
        ([b"3"], 3),
        ([], 3),
        ([], 3),
    ]


async def test_progress_that_is_told_again_because_its_reply_was_lost_counts_once(streams: Streams) -> None:
    fingerprint = await ask(streams)
    for payload in (b"1", b"1", b"2", b"2", b"1"):
        await streams.other.progress(fingerprint, "q1", payload=payload)

    replies = await streams.store.replies(fingerprint, "q1", after=0)

    assert replies == Replies(progress=[b"1", b"2", b"1"], place=3, answer=None)


async def test_of_much_progress_the_newest_is_kept(streams: Streams) -> None:
    fingerprint = await ask(streams)
    told = [b"%d" % n for n in range(3 * MOST_PROGRESS)]
    for payload in told:
        await streams.other.progress(fingerprint, "q1", payload=payload)

    replies = await streams.store.replies(fingerprint, "q1", after=5)

    assert replies == Replies(progress=told[-MOST_PROGRESS:], place=len(told), answer=None)


async def test_a_repeated_registration_keeps_an_answer_that_came_meanwhile(streams: Streams) -> None:
    fingerprint = await ask(streams)
    await streams.other.answer(fingerprint, "q1", payload=b"yes")

    assert await streams.store.ask(fingerprint, "q1", node="a", timeout_ms=MINUTE)

    assert await answer_of(streams, fingerprint) == b"yes"


async def test_no_question_outlives_its_session(streams: Streams) -> None:
    ended, expired, unknown = await ask(streams), await ask(streams, timeout_ms=2 * HOUR), a_fingerprint()
    await streams.other.answer(ended, "q1", payload=b"yes")
    await streams.world.store.end(ended, principal=None, reason="deleted")
    streams.advance(HOUR)

    for fingerprint in (ended, expired, unknown):
        assert not await streams.store.ask(fingerprint, "q2", node="a", timeout_ms=MINUTE)
        assert await streams.other.answer(fingerprint, "q1", payload=b"yes") is None
        assert await answer_of(streams, fingerprint) is None
        assert await streams.other.progress(fingerprint, "q1", payload=b"1") is None
        await streams.store.withdraw(fingerprint, "q1")


async def test_subscriptions_are_known_to_every_process(streams: Streams) -> None:
    one, two, three = [await streams.world.open() for _ in range(3)]
    for fingerprint, uri in (
        (one, "book://1"),
        (one, "book://2"),
        (two, "book://1"),
        (three, "book://\ud800"),
    ):
        assert await streams.store.subscribe(fingerprint, uri, max_subscriptions=10) is True

    asked = [one, two, three, a_fingerprint()]
    assert await streams.other.subscribed(asked, "book://1") == {one, two}
    assert await streams.other.subscribed(asked, "book://2") == {one}
    assert await streams.other.subscribed(asked, "book://\ud800") == {three}
    assert await streams.other.subscribed(asked, "book://3") == frozenset()
    assert await streams.other.subscribed([], "book://1") == frozenset()


async def test_a_subscription_can_be_undone(streams: Streams) -> None:
    fingerprint = await streams.world.open()
    await streams.store.subscribe(fingerprint, "book://1", max_subscriptions=10)

    assert await streams.other.unsubscribe(fingerprint, "book://1") is True
    assert await streams.other.unsubscribe(fingerprint, "book://1") is False
    assert await streams.store.subscribed([fingerprint], "book://1") == frozenset()


async def test_a_session_subscribes_to_so_many_resources(streams: Streams) -> None:
    fingerprint = await streams.world.open()

    done = [
        await streams.store.subscribe(fingerprint, f"book://{n}", max_subscriptions=2)
        for n in (1, 2, 2, 3, 1)
    ]

    assert done == [True, True, True, False, True]
    assert await streams.store.subscribed([fingerprint], "book://3") == frozenset()


async def test_subscriptions_live_as_long_as_their_session(streams: Streams) -> None:
    fingerprint, ended = await streams.world.open(), await streams.world.open()
    for each in (fingerprint, ended):
        await streams.store.subscribe(each, "book://1", max_subscriptions=10)
    await streams.world.store.end(ended, principal=None, reason="deleted")
    for _ in range(5):
        streams.advance(HOUR - MINUTE)
        assert await streams.world.touch(fingerprint)
    assert await streams.store.subscribed([fingerprint, ended], "book://1") == {fingerprint}

    streams.advance(HOUR)

    assert await streams.store.subscribed([fingerprint], "book://1") == frozenset()
    assert await streams.store.subscribe(fingerprint, "book://1", max_subscriptions=10) is None
    assert await streams.store.unsubscribe(fingerprint, "book://1") is None
