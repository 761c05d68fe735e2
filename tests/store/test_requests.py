"""Requests to the client, and its resource subscriptions: what every driver promises."""

from mcp_sessions.store.calls import requests, sessions, subscriptions
from mcp_sessions.store.calls.requests import COUNTED_MS, MOST_PROGRESS, Replies
from tests.store.harness import HOUR, MINUTE, Harness, a_fingerprint, gather


async def ask(harness: Harness, request: str = "q1", *, kept_ms: int = MINUTE) -> str:
    """The fingerprint of a new session whose client was asked something by node a."""
    fingerprint = await harness.open()
    assert await harness.store.run(requests.register(fingerprint, request, node="a", kept_ms=kept_ms))
    return fingerprint


async def answer_of(harness: Harness, fingerprint: str) -> bytes | None:
    """The response that the waiting node finds."""
    replies = await harness.store.run(requests.replies(fingerprint, "q1", after=0, kept_ms=MINUTE))
    return replies.answer if replies else None


async def test_an_answer_reaches_the_node_that_waits(harness: Harness) -> None:
    fingerprint = await ask(harness)
    assert await answer_of(harness, fingerprint) is None

    assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b'{"ok": true}\x00')) == "a"

    assert await answer_of(harness, fingerprint) == b'{"ok": true}\x00'


async def test_an_answer_can_be_taken_again_when_its_reply_was_lost(harness: Harness) -> None:
    fingerprint = await ask(harness)
    await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes"))

    taken = [await answer_of(harness, fingerprint) for _ in range(2)]

    assert taken == [b"yes", b"yes"]


async def test_exactly_one_of_many_answers_wins(harness: Harness) -> None:
    fingerprint = await ask(harness)

    outcomes = await gather(
        *[
            store.run(requests.answer(fingerprint, "q1", payload=b"%d" % n))
            for n, store in enumerate([harness.store, harness.other] * 10)
        ]
    )

    winners = [n for n, outcome in enumerate(outcomes) if outcome == "a"]
    assert (len(winners), outcomes.count(None)) == (1, 19)
    assert await answer_of(harness, fingerprint) == b"%d" % winners[0]


async def test_an_empty_answer_is_an_answer(harness: Harness) -> None:
    fingerprint = await ask(harness)

    assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b"")) == "a"
    assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b"")) is None
    assert await answer_of(harness, fingerprint) == b""


async def test_an_answer_to_a_request_that_was_never_made_is_refused(harness: Harness) -> None:
    fingerprint, stranger = await ask(harness), await ask(harness, "q2")

    assert await harness.other.run(requests.answer(fingerprint, "q2", payload=b"yes")) is None
    assert await harness.other.run(requests.answer(stranger, "q1", payload=b"yes")) is None
    assert await answer_of(harness, fingerprint) is None
    assert await harness.other.run(requests.progress(fingerprint, "q2", payload=b"1")) is None
    assert await harness.store.run(requests.replies(fingerprint, "q2", after=0, kept_ms=MINUTE)) is None


async def test_a_late_answer_is_refused(harness: Harness) -> None:
    fingerprint = await ask(harness, kept_ms=MINUTE)
    harness.advance(MINUTE + 1)

    assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes")) is None
    assert await harness.other.run(requests.progress(fingerprint, "q1", payload=b"1")) is None


async def test_an_answer_to_a_request_that_was_withdrawn_is_refused(harness: Harness) -> None:
    fingerprint = await ask(harness)
    for _ in range(2):
        await harness.store.run(requests.withdraw(fingerprint, "q1", kept_ms=MINUTE))

    assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes")) is None
    assert await answer_of(harness, fingerprint) is None


async def test_a_refused_answer_is_read_by_nobody(harness: Harness) -> None:
    fingerprint = await ask(harness)
    await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes"))

    assert await harness.other.run(requests.refuse(fingerprint, "q1"))

    assert await harness.store.run(requests.replies(fingerprint, "q1", after=0, kept_ms=MINUTE)) is None
    assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b"again")) is None
    assert await harness.other.run(requests.refuse(fingerprint, "q1"))


async def test_an_answer_that_was_read_is_not_refused_any_more(harness: Harness) -> None:
    fingerprint = await ask(harness)
    await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes"))
    assert await answer_of(harness, fingerprint) == b"yes"

    assert not await harness.other.run(requests.refuse(fingerprint, "q1"))
    assert await answer_of(harness, fingerprint) == b"yes"
    for _ in range(2):
        await harness.store.run(requests.withdraw(fingerprint, "q1", kept_ms=MINUTE))
    assert not await harness.other.run(requests.refuse(fingerprint, "q1"))
    assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b"late")) is None
    assert await harness.store.run(requests.replies(fingerprint, "q1", after=0, kept_ms=MINUTE)) is None

    harness.advance(COUNTED_MS + 1)
    assert await harness.other.run(requests.refuse(fingerprint, "q1"))


async def test_an_answer_is_read_or_refused_and_never_both(redis_harness: Harness) -> None:
    """The node that waits reads at the moment when another one, which takes it for dead, refuses."""
    harness, seen = redis_harness, set()
    for round_ in range(200):
        fingerprint = await ask(harness)
        await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes"))
        acts = [answer_of(harness, fingerprint), harness.other.run(requests.refuse(fingerprint, "q1"))]
        outcomes = await gather(*(acts if round_ % 2 else acts[::-1]))
        read, refused = outcomes if round_ % 2 else outcomes[::-1]
        assert refused == (read is None)
        seen.add(refused)
    assert seen == {True, False}


async def test_progress_finds_the_node_until_the_answer_is_there(harness: Harness) -> None:
    fingerprint = await ask(harness)

    assert await harness.other.run(requests.progress(fingerprint, "q1", payload=b"1")) == "a"
    await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes"))
    assert await harness.other.run(requests.progress(fingerprint, "q1", payload=b"2")) is None

    replies = await harness.store.run(requests.replies(fingerprint, "q1", after=0, kept_ms=MINUTE))
    assert replies == Replies(progress=[b"1"], place=1, answer=b"yes")


async def test_progress_stays_to_be_read_from_any_place(harness: Harness) -> None:
    fingerprint = await ask(harness)
    for payload in (b"1", b"2\x00\xff", b"3"):
        await harness.other.run(requests.progress(fingerprint, "q1", payload=payload))

    read = [
        await harness.store.run(requests.replies(fingerprint, "q1", after=after, kept_ms=MINUTE))
        for after in (0, 2, 3, 4)
    ]

    assert [each and (list(each.progress), each.place) for each in read] == [
        ([b"1", b"2\x00\xff", b"3"], 3),
        ([b"3"], 3),
        ([], 3),
        ([], 3),
    ]


async def test_progress_that_is_told_again_because_its_reply_was_lost_counts_once(harness: Harness) -> None:
    fingerprint = await ask(harness)
    for payload in (b"1", b"1", b"2", b"2", b"1"):
        await harness.other.run(requests.progress(fingerprint, "q1", payload=payload))

    replies = await harness.store.run(requests.replies(fingerprint, "q1", after=0, kept_ms=MINUTE))

    assert replies == Replies(progress=[b"1", b"2", b"1"], place=3, answer=None)


async def test_the_newest_progress_is_kept_when_there_is_too_much(harness: Harness) -> None:
    fingerprint = await ask(harness)
    told = [b"%d" % n for n in range(3 * MOST_PROGRESS)]
    for payload in told:
        await harness.other.run(requests.progress(fingerprint, "q1", payload=payload))

    replies = await harness.store.run(requests.replies(fingerprint, "q1", after=5, kept_ms=MINUTE))

    assert replies == Replies(progress=told[-MOST_PROGRESS:], place=len(told), answer=None)


async def test_a_repeated_registration_keeps_an_answer_that_came_meanwhile(harness: Harness) -> None:
    fingerprint = await ask(harness)
    await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes"))

    assert await harness.store.run(requests.register(fingerprint, "q1", node="a", kept_ms=MINUTE))

    assert await answer_of(harness, fingerprint) == b"yes"


async def test_no_request_outlives_its_session(harness: Harness) -> None:
    ended, expired, unknown = await ask(harness), await ask(harness, kept_ms=2 * HOUR), a_fingerprint()
    await harness.other.run(requests.answer(ended, "q1", payload=b"yes"))
    await harness.store.run(sessions.end(ended, principal=None, reason="deleted"))
    harness.advance(HOUR)

    for fingerprint in (ended, expired, unknown):
        assert not await harness.store.run(requests.register(fingerprint, "q2", node="a", kept_ms=MINUTE))
        assert await harness.other.run(requests.answer(fingerprint, "q1", payload=b"yes")) is None
        assert await harness.store.run(requests.replies(fingerprint, "q1", after=0, kept_ms=MINUTE)) is None
        assert await harness.other.run(requests.progress(fingerprint, "q1", payload=b"1")) is None
        await harness.store.run(requests.withdraw(fingerprint, "q1", kept_ms=MINUTE))


async def test_subscriptions_are_known_to_every_process(harness: Harness) -> None:
    one, two, three = [await harness.open() for _ in range(3)]
    for fingerprint, uri in (
        (one, "book://1"),
        (one, "book://2"),
        (two, "book://1"),
        (three, "book://\ud800"),
    ):
        assert (
            await harness.store.run(subscriptions.subscribe(fingerprint, uri, max_subscriptions=10)) is True
        )

    asked = [one, two, three, a_fingerprint()]
    assert await harness.other.run(subscriptions.subscribed(asked, "book://1")) == {one, two}
    assert await harness.other.run(subscriptions.subscribed(asked, "book://2")) == {one}
    assert await harness.other.run(subscriptions.subscribed(asked, "book://\ud800")) == {three}
    assert await harness.other.run(subscriptions.subscribed(asked, "book://3")) == frozenset()
    assert await harness.other.run(subscriptions.subscribed([], "book://1")) == frozenset()


async def test_an_operator_can_read_to_what_a_session_subscribes(harness: Harness) -> None:
    fingerprint = await harness.open()
    long = "book://" + "x" * 3_000
    for uri in ("book://2", "[1", '"', "book://\ud800", long, "book://2", "book://1"):
        await harness.store.run(subscriptions.subscribe(fingerprint, uri, max_subscriptions=10))
    await harness.store.run(subscriptions.unsubscribe(fingerprint, "book://1"))

    found = await harness.other.run(subscriptions.resources(fingerprint))
    assert found == ['"', "[1", "book://2", long[: subscriptions.URI_CHARS], "book://\ud800"]
    assert await harness.other.run(subscriptions.subscribed([fingerprint], long)) == {fingerprint}
    assert await harness.other.run(subscriptions.subscribed([fingerprint], long + "x")) == frozenset()
    assert await harness.other.run(subscriptions.resources(a_fingerprint())) == []


async def test_a_subscription_can_be_undone(harness: Harness) -> None:
    fingerprint = await harness.open()
    await harness.store.run(subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=10))

    assert await harness.other.run(subscriptions.unsubscribe(fingerprint, "book://1")) is True
    assert await harness.other.run(subscriptions.unsubscribe(fingerprint, "book://1")) is False
    assert await harness.store.run(subscriptions.subscribed([fingerprint], "book://1")) == frozenset()


async def test_a_session_subscribes_to_so_many_resources(harness: Harness) -> None:
    fingerprint = await harness.open()

    done = [
        await harness.store.run(subscriptions.subscribe(fingerprint, f"book://{n}", max_subscriptions=2))
        for n in (1, 2, 2, 3, 1)
    ]

    assert done == [True, True, True, False, True]
    assert await harness.store.run(subscriptions.subscribed([fingerprint], "book://3")) == frozenset()


async def test_subscriptions_live_as_long_as_their_session(harness: Harness) -> None:
    fingerprint, ended = await harness.open(), await harness.open()
    for each in (fingerprint, ended):
        await harness.store.run(subscriptions.subscribe(each, "book://1", max_subscriptions=10))
    await harness.store.run(sessions.end(ended, principal=None, reason="deleted"))
    for _ in range(5):
        harness.advance(HOUR - MINUTE)
        assert await harness.touch(fingerprint)
    assert await harness.store.run(subscriptions.subscribed([fingerprint, ended], "book://1")) == {
        fingerprint
    }

    harness.advance(HOUR)

    assert await harness.store.run(subscriptions.subscribed([fingerprint], "book://1")) == frozenset()
    assert (
        await harness.store.run(subscriptions.subscribe(fingerprint, "book://1", max_subscriptions=10))
        is None
    )
    assert await harness.store.run(subscriptions.unsubscribe(fingerprint, "book://1")) is None
