"""Exchanges of nodes that died: they are run again, or their streams are ended. What every driver promises."""

from mcp_sessions.store.calls import streams
from mcp_sessions.store.calls.streams import Claim, Closed, Rerun
from tests.store.harness import (
    EXCHANGE,
    MINUTE,
    Harness,
    events,
    gather,
    payloads,
)


async def rerun(harness: Harness, fingerprint: str, node: str, *, dead: str, most: int = 2) -> Rerun | None:
    return await harness.other.run(streams.rerun(fingerprint, EXCHANGE, dead=dead, node=node, most=most))


async def test_a_lost_exchange_is_run_again_by_one_node(harness: Harness) -> None:
    fingerprint = await harness.exchange()

    outcomes = await gather(*[rerun(harness, fingerprint, node, dead="a") for node in "bcdefghi"])

    [origin] = {outcome.origin for outcome in outcomes}
    assert origin in "bcdefghi"
    assert outcomes == [Rerun(origin=origin, count=1)] * 8
    assert await rerun(harness, fingerprint, origin, dead="a") == Rerun(origin=origin, count=1)
    assert (await harness.claim(fingerprint)).origin == origin


async def test_an_exchange_runs_once_more_for_each_loss_up_to_a_limit(harness: Harness) -> None:
    fingerprint = await harness.exchange()

    runs = [await rerun(harness, fingerprint, node, dead=dead) for dead, node in ("ab", "bc", "cd")]

    assert runs == [Rerun(origin="b", count=1), Rerun(origin="c", count=2), Rerun(origin="c", count=2)]


async def test_only_the_node_that_runs_an_exchange_again_answers(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await rerun(harness, fingerprint, "b", dead="a")
    await rerun(harness, fingerprint, "c", dead="b")

    late = await harness.append(fingerprint, b"of a", last=True)
    assert await harness.close_orphan(fingerprint, origin="a") == Closed(
        claim=Claim(node="a", token=1), origin="c"
    )
    assert await harness.close_orphan(fingerprint, origin="b", payload=b"of b") == Closed(
        claim=Claim(node="a", token=1), origin="c"
    )
    await harness.close_orphan(fingerprint, origin="c", payload=b"of c")

    assert late is not None
    assert not late.accepted
    assert await harness.kept(fingerprint) == [(1, b"of c")]
    assert await rerun(harness, fingerprint, "d", dead="c") == Rerun(origin="", count=2)


async def test_the_node_that_runs_an_exchange_again_keeps_its_stream(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await rerun(harness, fingerprint, "b", dead="a")
    for _ in range(3):
        harness.advance(4 * MINUTE)
        assert await rerun(harness, fingerprint, "b", dead="b") == Rerun(origin="b", count=1)
    await rerun(harness, fingerprint, "c", dead="b")
    assert await rerun(harness, fingerprint, "b", dead="b") == Rerun(origin="c", count=2)
    harness.advance(5 * MINUTE + 1)
    assert await rerun(harness, fingerprint, "c", dead="c") is None


async def test_a_dead_nodes_exchange_is_closed_once(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"progress")
    taken = await harness.claim(fingerprint)

    for _ in range(2):
        closed = await harness.close_orphan(fingerprint)
        assert closed == Closed(claim=taken.claim, origin="")

    batch = await harness.read(fingerprint, taken)
    assert (payloads(batch), batch.ended) == ([b"progress", b"lost"], True)


async def test_a_node_that_was_taken_for_dead_cannot_answer_any_more(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.close_orphan(fingerprint)

    for last in (True, False):
        refused = await harness.append(fingerprint, b"response", last=last)
        assert refused is not None
        assert (refused.accepted, refused.claim) == (False, Claim(node="a", token=1))
    assert await harness.kept(fingerprint) == [(1, b"lost")]


async def test_an_answered_exchange_is_not_an_orphan(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"response", last=True)

    closed = await harness.close_orphan(fingerprint)

    assert closed == Closed(claim=Claim(node="a", token=1), origin="")
    assert await harness.kept(fingerprint) == [(1, b"response")]
    assert await harness.close_orphan(fingerprint, stream="unknown") is None


async def test_an_orphans_end_follows_what_was_sent_before_it_was_logged(harness: Harness) -> None:
    fingerprint = await harness.exchange()
    await harness.append(fingerprint, b"one")
    taken = await harness.claim(fingerprint, after=3)

    await harness.close_orphan(fingerprint, after=3)

    batch = await harness.read(fingerprint, taken)
    assert (events(batch), batch.ended) == ([(4, b"lost")], True)
