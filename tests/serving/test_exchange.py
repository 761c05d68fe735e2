"""One request of a session: what its handler may do, what the session remembers of it, and how it is answered."""

import asyncio
import json
from typing import Any

import pytest
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_PARAMS

from mcp_sessions.cluster.notifications import StreamDisconnected
from mcp_sessions.current import current_exchange, current_request
from mcp_sessions.errors import SessionGone
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.observing import REQUEST_CANCELLED, TELL
from mcp_sessions.store.calls import sessions, streams, subscriptions
from mcp_sessions.store.calls.reading import CALL_LENGTH
from mcp_sessions.store.drivers.absent import NOT_NOW
from mcp_sessions.streams.standalone import StandaloneChannel
from mcp_sessions.transport import jsonrpc
from mcp_sessions.transport.event_ids import STANDALONE
from tests.serving.exchanges import DONE, Requests, fail, miss_the_store, stay

BOUND = 10.0


@pytest.mark.parametrize(
    ("protocol", "is_stored", "may_stream", "given"),
    [
        ("2025-11-25", True, True, [True, True]),
        ("2025-11-25", True, False, [False, True]),
        ("2025-11-25", False, True, [False, False]),
        ("2025-06-18", True, True, [False, False]),
    ],
)
async def test_a_handler_may_close_a_connection_whose_client_can_resume(
    protocol: str, is_stored: bool, may_stream: bool, given: list[bool]
) -> None:
    requests = Requests()
    session = await requests.session(protocol, is_stored=is_stored)
    exchange = await requests.begin(session=session, may_stream=may_stream)
    await exchange.run()
    assert exchange.response == DONE
    may = [requests.given[each] is not None for each in ("disconnect", "disconnect_standalone")]
    assert may == given
    assert requests.given["request"] is exchange.request
    assert requests.given["scope"] is exchange.scope
    assert requests.given["session"] is exchange.session
    assert requests.given["channel"] is exchange
    standalone = StandaloneChannel(requests.process.context, requests.client_requests, session)
    assert requests.given["standalone"] == standalone
    current: list[Any] = [current_exchange.get(), current_request.get()]
    assert current == [exchange, exchange]


async def test_to_close_the_connection_on_which_a_client_listens_its_process_is_told() -> None:
    requests = Requests()
    exchange = await requests.begin()
    await exchange.run()
    claim = await requests.process.harness.store.run(
        streams.claim(exchange.session.fingerprint, STANDALONE, node="b", after=None, ttl_ms=60_000)
    )
    assert claim is not None
    await requests.given["disconnect_standalone"]()
    told = StreamDisconnected(
        fingerprint=exchange.session.fingerprint, stream=STANDALONE, token=claim.claim.token
    )
    requests.process.store.away = True
    await requests.given["disconnect_standalone"]()  # then it stays open
    assert requests.process.node.told == [("b", told)]
    assert exchange.stream is None


async def test_whatever_a_handler_raises_its_request_is_answered() -> None:
    requests = Requests(miss_the_store)
    answer = await requests.answer("tools/call")
    assert (answer["id"], answer["error"]) == (7, {"code": INTERNAL_ERROR, "message": NOT_NOW})
    requests = Requests(fail)
    exchange = await requests.begin()
    with pytest.raises(KeyError):
        await exchange.run()
    assert exchange.response is not None
    assert exchange.response["error"] == {"code": INTERNAL_ERROR, "message": "Internal server error"}
    assert [each.outcome for each in requests.noted] == ["error"]


@pytest.mark.parametrize(
    ("by", "code", "outcome"),
    [("cancel", REQUEST_CANCELLED, "cancelled"), ("abort", CONNECTION_CLOSED, "interrupted")],
)
async def test_a_request_that_is_cancelled_says_by_whom(by: str, code: int, outcome: str) -> None:
    requests = Requests(stay)
    exchange = await requests.begin()
    getattr(exchange, by)()
    assert exchange.cancelled is (by == "cancel")
    exchange.cancelled = False
    exchange.task = task = asyncio.create_task(exchange.run())
    await asyncio.sleep(0)
    getattr(exchange, by)()
    await asyncio.wait([task], timeout=BOUND)
    assert task.cancelled()
    assert exchange.response is not None
    assert exchange.response["error"]["code"] == code
    assert [each.outcome for each in requests.noted] == [outcome]


async def test_a_request_that_is_answered_is_not_cancelled() -> None:
    exchange = await Requests(stay).begin()
    exchange.task = task = asyncio.create_task(exchange.run())
    await asyncio.sleep(0)
    exchange.respond(DONE)
    exchange.cancel()
    assert task.cancelling() == 0
    task.cancel()


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (DONE, "ok"),
        ({**DONE, "result": {"isError": True}}, "tool error"),
        ({"jsonrpc": "2.0", "id": 7, "error": {"code": INVALID_PARAMS, "message": "no"}}, "error"),
    ],
)
async def test_the_first_answer_counts_and_is_noted_and_told(response: Any, outcome: str) -> None:
    told: list[Any] = []
    requests = Requests()
    scope = {"client": ("127.0.0.1", 5), "headers": [], TELL: lambda *about: told.append(about)}
    exchange = await requests.begin(params={"name": "x" * CALL_LENGTH}, scope=scope)
    exchange.respond(response)
    exchange.respond({**DONE, "result": {"second": True}})
    assert exchange.response == response
    [ended] = requests.noted
    assert told == [(ended, "127.0.0.1")]
    assert (ended.outcome, ended.request) == (outcome, exchange.begun)
    begun, session = ended.request, exchange.session
    assert (begun.kind, begun.session, begun.principal) == ("session", session.fingerprint, "user:1")
    assert (begun.client, begun.client_version) == ("inspector", "1")
    assert begun.call == ("tools/call:" + "x" * CALL_LENGTH)[:CALL_LENGTH]
    assert (begun.number, begun.began) == (exchange.number, exchange.began)


async def test_what_a_session_remembers_is_written_once_its_request_has_succeeded() -> None:
    requests = Requests(max_subscriptions=1)
    session, store = await requests.session(), requests.process.harness.store
    for method, params in (
        ("logging/setLevel", {"level": "error"}),
        ("resources/subscribe", {"uri": "book://1"}),
    ):
        assert await requests.answer(method, params, session=session) == DONE
    refused = await requests.answer("resources/subscribe", {"uri": "book://2"}, session=session)
    message = "A session subscribes to 1 resources at most"
    assert refused["error"] == {"code": INVALID_PARAMS, "message": message}
    found = await store.run(sessions.get(session.fingerprint))
    assert found is not None
    assert found.log_level == "error"
    assert await store.run(subscriptions.resources(session.fingerprint)) == ["book://1"]
    assert await requests.answer("resources/unsubscribe", {"uri": "book://1"}, session=session) == DONE
    assert await store.run(subscriptions.resources(session.fingerprint)) == []
    await store.run(sessions.end(session.fingerprint, principal=None, reason="deleted"))
    assert await requests.answer("resources/subscribe", {"uri": "book://3"}, session=session) == DONE


async def test_what_failed_or_is_kept_by_the_server_itself_is_not_remembered() -> None:
    async def refuse(_: Exchange) -> Any:
        return jsonrpc.error_response(7, {"code": INVALID_PARAMS, "message": "no"})

    for requests in (Requests(), Requests(refuse)):
        requests.kernel.keeps_subscriptions = False
        session = await requests.session()
        for method in ("resources/subscribe", "resources/unsubscribe", "tools/call"):
            await requests.answer(method, {"uri": "book://1"}, session=session)
    await requests.answer("logging/setLevel", {"level": "error"}, session=session)
    assert requests.process.store.asked == []


async def test_a_handler_knows_its_request() -> None:
    requests = Requests(state_max_bytes=5, trusted_proxies=("127.0.0.1",))
    scope = {"client": ("127.0.0.1", 5), "headers": [(b"x-forwarded-for", b"10.0.0.9")]}
    exchange = await requests.begin(params={"_meta": {"a": 1}}, scope=scope)
    assert exchange.conf is requests.process.conf
    assert (exchange.principal, exchange.handshake) == ("user:1", exchange.session.handshake)
    assert (exchange.meta, exchange.address, exchange.state_max_bytes) == ({"a": 1}, "10.0.0.9", 5)
    assert (exchange.identity.principal, exchange.opt_in_tools) == ("anonymous", frozenset({"secret"}))
    assert exchange.store is requests.process.context.store
    session = exchange.session
    exchange.session = session._replace(log_level="error")
    assert exchange.log_level == "error"
    for params in (None, {}, {"_meta": 7}):
        assert (await requests.begin(params=params)).meta == {}


async def test_changed_tools_hold_at_once_and_the_client_is_told() -> None:
    requests = Requests()
    exchange, harness = await requests.begin(), requests.process.harness
    fingerprint = exchange.session.fingerprint
    assert await exchange.change_tools(enable=["a", "b"], disable=["b"]) == {"a"}
    assert exchange.session.tools == {"a"}
    sent = await harness.kept(fingerprint, stream=STANDALONE)
    assert [json.loads(payload)["method"] for _, payload in sent] == ["notifications/tools/list_changed"]
    assert exchange.stream is None, "it belongs to no request"
    exchange.session = exchange.session._replace(revived=True)
    await exchange.settle_session()
    assert exchange.session.revived is False
    await harness.store.run(sessions.end(fingerprint, principal=None, reason="deleted"))
    for change in (exchange.change_tools(enable=["c"]), exchange.settle_session()):
        with pytest.raises(SessionGone, match="the session is gone"):
            await change
    assert exchange.session.tools == {"a"}
