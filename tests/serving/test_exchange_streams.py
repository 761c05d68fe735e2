"""The stream of a request of a session: what is sent on it, when there is one, and who waits for it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from mcp_sessions.serving import exchange as serving_exchange
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.store.drivers.absent import WithoutStore
from tests.serving.exchanges import DONE, Requests, stay

BOUND = 10.0


async def test_before_its_answer_a_handler_sends_on_a_stream_and_nothing_behind_it() -> None:
    exchange: Any = await Requests().begin()
    assert exchange.can_send_request
    await exchange.notify("notifications/a", {"n": 1})
    stream = exchange.stream
    assert stream is not None
    assert exchange.open() is stream
    exchange.respond(DONE)
    assert not exchange.can_send_request
    await exchange.notify("notifications/late", None)
    await exchange._put({"jsonrpc": "2.0", "method": "notifications/late"})
    await stream.written()
    sent = b"".join(stream.event_stream._frames)
    assert [sent.count(each) for each in (b"notifications/a", b'"result"', b"late")] == [1, 1, 0]
    assert b'"params":{"n":1}' in sent
    assert not stream.event_stream.open


async def test_where_there_may_be_no_stream_what_is_sent_before_is_dropped() -> None:
    exchange = await Requests().begin(may_stream=False)
    assert not exchange.can_send_request
    await exchange.notify("notifications/a", None)
    assert exchange.stream is None


async def test_a_stream_that_is_opened_after_the_answer_carries_it() -> None:
    exchange = await Requests().begin()
    exchange.respond(DONE)
    stream = exchange.open()
    await stream.written()
    assert b'"result"' in b"".join(stream.event_stream._frames)
    assert not stream.event_stream.open


async def test_a_handler_has_ended_when_all_that_it_sent_is_written() -> None:
    async def report(exchange: Exchange) -> Any:
        exchange.open()
        return DONE

    requests = Requests(report)
    exchange = await requests.begin()
    await exchange.run()
    assert exchange.stream is not None
    assert exchange.stream._task is None
    harness = requests.process.harness
    kept = await harness.kept(exchange.session.fingerprint, stream=exchange.stream.name)
    assert [json.loads(payload) for _, payload in kept] == [DONE]


async def test_who_sends_on_a_stream_that_another_process_has_ended_is_cancelled() -> None:
    exchange = await Requests(stay).begin()
    exchange.task = task = asyncio.create_task(exchange.run())
    await asyncio.sleep(0)
    await exchange.notify("notifications/a", None)
    assert task.cancelling() == 0
    stream = exchange.open()
    await stream.written()
    stream.superseded = True
    await exchange.notify("notifications/b", None)
    assert task.cancelling() == 1
    await asyncio.wait([task])


async def test_who_asks_the_client_waits_for_it_unless_its_session_is_served_without_the_store() -> None:
    requests = Requests()
    exchange = await requests.begin()
    answer: Any = await exchange.send_request("ping")  # type: ignore[arg-type]
    assert answer == "ping"
    assert requests.asked == [(exchange.session.fingerprint, "ping")]
    assert exchange.stream is not None, "the question is sent on it"
    assert exchange.waits_for_client == 0
    with exchange.waiting(), exchange.waiting():
        assert exchange.waits_for_client == 2
    assert exchange.waits_for_client == 0
    without = await requests.begin(session=await requests.session(is_stored=False))
    with pytest.raises(WithoutStore):
        await without.send_request("ping")  # type: ignore[arg-type]
    assert len(requests.asked) == 1


@pytest.mark.parametrize(
    ("rerun", "params", "whole"),
    [
        (True, {"name": "add"}, True),
        (False, {"name": "add"}, False),
        (True, None, False),
        (True, {"name": ""}, True),
        (True, {"name": "x"}, False),
    ],
)
async def test_of_a_request_its_id_is_kept_and_all_of_it_if_it_may_run_again(
    monkeypatch: pytest.MonkeyPatch, rerun: bool, params: Any, whole: bool
) -> None:
    exchange = await Requests(rerun_lost_calls=rerun).begin(params=params)
    kept = {"id": 7, "method": "tools/call", "params": params}
    if params is not None and len(params["name"]) < 2:
        most = len(json.dumps({**kept, "params": {"name": ""}}))
        monkeypatch.setattr(serving_exchange, "MAX_KEPT_REQUEST_BYTES", most)
    assert json.loads(exchange._request_as_json()) == (kept if whole else {"id": 7})
    assert exchange.open()._request == exchange._request_as_json()


async def test_it_is_settled_with_a_response_or_a_stream_or_when_the_time_is_over() -> None:
    requests = Requests()
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]

    async def settles(by: Callable[[Exchange], object], seconds: float | None) -> None:
        exchange = await requests.begin()
        waiting = asyncio.create_task(exchange.settled(seconds))
        await asyncio.sleep(0)
        assert not waiting.done()
        by(exchange)
        await asyncio.wait_for(waiting, BOUND / 2)
        assert not [each for each in timers if "_settle" in repr(each) and not each.cancelled()]
        by(exchange)
        await asyncio.wait_for(exchange.settled(None), BOUND / 2)

    for seconds in (None, 1000.0):
        await settles(lambda exchange: exchange.respond(DONE), seconds)
        await settles(lambda exchange: exchange.open(), seconds)
    exchange = await requests.begin()
    await exchange.settled(0)
    assert (exchange.response, exchange.stream) == (None, None)
