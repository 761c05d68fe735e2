"""ON_STORE_DOWN = "serve", request by request: what is answered without the store, and what is not."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

import httpx2
import pytest
from django.conf import settings
from django.test import override_settings

from mcp_sessions import repeats
from mcp_sessions.errors import RecordSealed, StoreUnavailable
from mcp_sessions.ids import mint
from mcp_sessions.serving import outage
from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.signals import session_created, session_ended
from mcp_sessions.store.calls import indexes, sessions
from mcp_sessions.store.drivers.absent import NOT_NOW
from mcp_sessions.testing import connect, http_client, serving, url_of
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import RawClient, answer_of, events, message_of

EVERYTHING: Final = "tests.served.everything.server"
OK: Final = {"result": 3}


@pytest.fixture
async def http(caplog: pytest.LogCaptureFixture) -> AsyncIterator[httpx2.AsyncClient]:
    caplog.set_level(logging.INFO)
    with endpoint(SERVER=EVERYTHING, ON_STORE_DOWN="serve"):
        async with serving(), asyncio.timeout(60), http_client() as http:
            yield http


@contextmanager
def no_store(runtime: Runtime, error: type[StoreUnavailable] = StoreUnavailable) -> Iterator[None]:
    """Every call on the store fails at once, as when it is known to be away."""
    store = runtime.context.store

    async def refuse(_: Any) -> Any:
        raise error("refused")

    with mock.patch.object(store, "run", refuse), mock.patch.object(store, "run_all", refuse):
        yield


async def adds(http: httpx2.AsyncClient, client: RawClient) -> int:
    """The status of a call that needs no state; with 200 its answer is right."""
    call = client.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
    answer = await post(http, client, call)
    if answer.status_code == 200:
        assert answer_of(answer)["result"]["structuredContent"] == OK
    return answer.status_code


async def test_a_record_that_no_key_opens_is_no_outage(http: httpx2.AsyncClient) -> None:
    client, runtime = await initialized(http), await runtime_for("default")
    with no_store(runtime, RecordSealed):
        assert await adds(http, client) == 503
        listening = await http.get(
            url_of(), headers=client.headers(accept="text/event-stream", content_type=None)
        )
        assert listening.status_code == 503
    assert await adds(http, client) == 200


async def initialized(http: httpx2.AsyncClient, **params: Any) -> RawClient:
    client = RawClient()
    answer = await post(http, client, client.initialize_message(**params))
    assert answer.status_code == 200, answer.text
    client.session_id = answer.headers["mcp-session-id"]
    ready = await post(http, client, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert ready.status_code == 202
    return client


async def deleted(http: httpx2.AsyncClient, client: RawClient) -> int:
    answer = await http.delete(url_of(), headers=client.headers(content_type=None))
    return answer.status_code


def text_of(answer: httpx2.Response) -> str:
    message = answer_of(answer)
    if "error" in message:
        return str(message["error"]["message"])
    assert message["result"]["isError"]
    return str(message["result"]["content"][0]["text"])


async def test_by_default_a_request_without_the_store_is_refused() -> None:
    with endpoint(SERVER=EVERYTHING):
        async with serving(), http_client() as http:
            client = await opened(http)
            with no_store(await runtime_for("default")):
                assert await adds(http, client) == 503
                new = await post(http, RawClient(), RawClient().initialize_message())
                assert new.status_code == 503
            assert await adds(http, client) == 200


async def test_tools_run_without_the_store_and_the_session_goes_on_when_it_is_back(
    http: httpx2.AsyncClient,
) -> None:
    client = await opened(http)
    runtime = await runtime_for("default")
    with no_store(runtime):
        assert await adds(http, client) == 200
        who = answer_of(await post(http, client, client.calling("who")))["result"]["structuredContent"]
        assert who["client"] == {"name": "raw-client", "version": "1.0"}
        assert (who["fingerprint"], who["sampling"], who["roots"]) == (client.fingerprint, True, True)
        await runtime.context.spawn(asyncio.sleep(0))
    session = await runtime.context.store.run(sessions.get(client.fingerprint))
    assert session is not None
    assert session.requests == 1, "nothing is counted"
    assert await adds(http, client) == 200


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "recall", "arguments": {"name": "x"}}),
        ("tools/call", {"name": "remember", "arguments": {"name": "x", "value": 1}}),
        ("tools/call", {"name": "count_in_a_thread", "arguments": {}}),
        ("tools/call", {"name": "enable", "arguments": {"name": "secret"}}),
        ("tools/call", {"name": "secret", "arguments": {}}),
        ("tools/call", {"name": "ask_age", "arguments": {"name": "Ada"}}),
        ("tools/call", {"name": "ping_the_client", "arguments": {}}),
        ("logging/setLevel", {"level": "error"}),
        ("resources/subscribe", {"uri": "everything://greeting"}),
    ],
)
async def test_what_needs_the_store_is_refused_at_once_and_in_words(
    http: httpx2.AsyncClient, method: str, params: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = await opened(http)
    with no_store(await runtime_for("default")):
        async with asyncio.timeout(5):
            answer = await post(http, client, client.request(method, params))
    assert text_of(answer).endswith(NOT_NOW)
    assert [record for record in caplog.records if record.exc_info] == []


async def test_messages_of_a_call_come_on_its_own_connection_without_ids() -> None:
    with endpoint(SERVER="tests.served.chaos.server", ON_STORE_DOWN="serve"):
        async with serving(), http_client() as http:
            client = await opened(http)
            with no_store(await runtime_for("default")):
                async with asyncio.timeout(5):
                    answer = await post(http, client, client.calling("count", number=3, label="x", pace=0))
    received = list(events(answer))
    assert {event.id for event in received} == {""}
    *progress, response = [message_of(event) for event in received]
    assert [each["params"]["progress"] for each in progress] == [1, 2, 3]
    assert response["result"]["structuredContent"] == {"result": "x"}


async def test_what_belongs_to_no_call_is_dropped_and_nobody_waits(http: httpx2.AsyncClient) -> None:
    client = await opened(http)
    with no_store(await runtime_for("default")):
        async with asyncio.timeout(5):
            answer = await post(http, client, client.calling("announce"))
    assert answer_of(answer)["result"]["isError"] is False


async def test_a_client_that_listens_is_told_to_come_back_when_the_store_is_back(
    http: httpx2.AsyncClient,
) -> None:
    client, runtime = await opened(http), await runtime_for("default")
    headers = client.headers(accept="text/event-stream", content_type=None)
    with no_store(runtime):
        listening = asyncio.create_task(http.get(url_of(), headers=headers))
        resuming = await http.get(url_of(), headers={**headers, "last-event-id": "x-y-1"})
        assert resuming.status_code == 503
        with pytest.raises(StoreUnavailable):
            await runtime.outage.settle()
        assert not listening.done()
    await runtime.outage.settle()
    answer = await listening
    assert answer.status_code == 200
    assert "retry:" in answer.text
    assert [event.data for event in events(answer) if event.data] == []


async def test_ids_that_are_wrong_foreign_or_over_are_not_found(http: httpx2.AsyncClient) -> None:
    client, runtime = await opened(http), await runtime_for("default")
    assert client.session_id is not None
    session = await runtime.context.store.run(sessions.get(client.fingerprint))
    assert session is not None

    def minted(*, principal: str = "anonymous", namespace: str = "", age: float = 0.0) -> RawClient:
        conf = runtime.context.conf()
        made = mint(
            session.handshake,
            principal=principal,
            namespace=namespace or conf.namespace,
            created_ms=session.created_ms - round(age * 1000),
            max_age_ms=conf.limits.max_age_ms,
        )
        return RawClient(session_id=made.text)

    conf = runtime.context.conf()
    forged = client.session_id[:-1] + ("A" if client.session_id[-1] != "A" else "B")
    with no_store(runtime):
        assert await adds(http, minted()) == 200
        for wrong in (
            RawClient(session_id=forged),
            RawClient(session_id="x"),
            minted(principal="user:1"),
            minted(namespace="another"),
            minted(age=conf.max_age + 1),
        ):
            assert await adds(http, wrong) == 404
            assert await deleted(http, wrong) in (404, 503)


async def test_an_end_that_this_process_heard_of_holds(http: httpx2.AsyncClient) -> None:
    client, other = await opened(http), await opened(http)
    assert await deleted(http, client) == 204
    with no_store(await runtime_for("default")):
        assert await adds(http, client) == 404
        large = {"a": 1, "b": 2, "c": "x" * 70_000}
        for each, status in ((client, 404), (other, 200)):
            call = each.request("tools/call", {"name": "add", "arguments": large})
            assert (await post(http, each, call)).status_code == status


async def test_a_delete_without_the_store_holds_here_at_once_and_everywhere_afterwards(
    http: httpx2.AsyncClient,
) -> None:
    ended = mock.Mock()
    session_ended.connect(ended)
    client, runtime = await opened(http), await runtime_for("default")
    with no_store(runtime):
        assert await deleted(http, client) == 503
        assert await adds(http, client) == 404
        new = await initialized(http)
        assert await deleted(http, new) == 503
        with pytest.raises(StoreUnavailable):
            await runtime.outage.settle()
    await runtime.outage.settle()
    for each in (client, new):
        assert await runtime.context.store.run(sessions.end_reason(each.fingerprint)) == "deleted"
        assert await adds(http, each) == 404
    signalled = [call.kwargs["fingerprint"] for call in ended.call_args_list]
    session_ended.disconnect(ended)
    assert sorted(signalled) == sorted([client.fingerprint, new.fingerprint])


async def test_the_end_of_a_session_without_a_record_holds_in_an_outage(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "MOST_UNWRITTEN", 0)
    runtime = await runtime_for("default")
    with no_store(runtime):
        client = await initialized(http)
    assert await deleted(http, client) == 204
    assert await adds(http, client) == 404
    with no_store(runtime):
        assert await adds(http, client) == 404


@pytest.mark.parametrize("on_miss", ["404", "revive"])
async def test_a_delete_without_the_store_holds_where_a_cap_leaves_no_room_for_its_record(
    on_miss: str,
) -> None:
    with endpoint(SERVER=EVERYTHING, ON_STORE_DOWN="serve", ON_MISS=on_miss, MAX_SESSIONS=1):
        async with serving(), http_client() as http:
            runtime = await runtime_for("default")
            with no_store(runtime):
                other, client = await initialized(http), await initialized(http)
                assert await deleted(http, client) == 503
            await runtime.outage.settle()
            assert await deleted(http, other) == 204
            assert await adds(http, client) == 404


async def test_an_end_holds_where_sessions_are_no_longer_served_without_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tombstone goes before the id is as old as the idle TTL."""
    with endpoint(SERVER=EVERYTHING, ON_STORE_DOWN="serve"):
        async with serving(), http_client() as http:
            runtime = await runtime_for("default")
            with no_store(runtime):
                client = await initialized(http)
            await runtime.outage.settle()
            entry = {**settings.MCP_SESSIONS["default"], "ON_STORE_DOWN": "503"}
            with override_settings(MCP_SESSIONS={"default": entry}):
                monkeypatch.setattr(sessions, "TOMBSTONE_MS", 1)
                assert await deleted(http, client) == 204
                store = runtime.context.store
                async with asyncio.timeout(10):
                    while await store.run(sessions.end_reason(client.fingerprint)) is not None:
                        pass
                assert await adds(http, client) == 404


async def test_a_session_that_was_opened_without_the_store_is_recorded_once(http: httpx2.AsyncClient) -> None:
    created = mock.Mock()
    session_created.connect(created)
    runtime = await runtime_for("default")
    with no_store(runtime):
        used, unused = await initialized(http), RawClient()
        answer = await post(http, unused, unused.initialize_message())
        unused.session_id = answer.headers["mcp-session-id"]
        assert await adds(http, used) == 200
    await asyncio.gather(runtime.outage.settle(), adds(http, used), adds(http, used))
    session_created.disconnect(created)
    assert created.call_count == 2
    store = runtime.context.store
    found = [await store.run(sessions.get(each.fingerprint)) for each in (used, unused)]
    assert [session is not None and session.initialized for session in found] == [True, False]
    assert not any(session is None or session.revived for session in found)
    assert await store.run(indexes.count(limits=runtime.context.conf().limits)) == 2


async def test_any_process_records_a_session_whose_process_could_not(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died, or is still cut off."""
    monkeypatch.setattr(outage, "MOST_UNWRITTEN", 0)
    runtime = await runtime_for("default")
    with no_store(runtime):
        client = await initialized(http)
    assert await adds(http, client) == 200
    assert await runtime.context.store.run(sessions.get(client.fingerprint)) is not None
    assert await deleted(http, client) == 204
    assert await adds(http, client) == 404


async def test_a_session_that_may_have_idled_out_is_not_recorded_by_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "MOST_UNWRITTEN", 0)
    with endpoint(SERVER=EVERYTHING, ON_STORE_DOWN="serve", IDLE_TTL=0.2):
        async with serving(), http_client() as http:
            runtime = await runtime_for("default")
            with no_store(runtime):
                client = await initialized(http)
            await asyncio.sleep(0.25)
            assert await adds(http, client) == 404


async def test_caps_hold_when_the_store_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint(SERVER=EVERYTHING, ON_STORE_DOWN="serve", MAX_SESSIONS=2):
        async with serving(), http_client() as http:
            runtime = await runtime_for("default")
            with no_store(runtime):
                clients = [await initialized(http) for _ in range(3)]
            await runtime.outage.settle()
            statuses = [await adds(http, client) for client in clients]
    assert sorted(statuses) == [200, 200, 503]
    assert "ends with the outage: MAX_SESSIONS is reached" in caplog.text


async def test_a_client_that_says_too_much_of_itself_for_an_id_is_refused_as_before(
    http: httpx2.AsyncClient,
) -> None:
    client = RawClient()
    said = client.initialize_message(capabilities={"experimental": {"x": {"y": "z" * 400}}})
    answer = await post(http, client, said)
    client.session_id = answer.headers["mcp-session-id"]
    with no_store(await runtime_for("default")):
        assert await adds(http, client) == 503
        assert (await post(http, RawClient(), said)).status_code == 503
    assert await adds(http, client) == 200


async def test_what_a_part_of_the_store_refuses_is_left_for_later(http: httpx2.AsyncClient) -> None:
    """On a Cluster one primary may be away for longer than the others."""
    runtime = await runtime_for("default")
    store = runtime.context.store
    with no_store(runtime):
        clients = [await initialized(http) for _ in range(4)]
        for client in clients[:2]:
            assert await deleted(http, client) == 503
    run, away = store.run, {clients[0].fingerprint, clients[2].fingerprint}

    async def refuse(work: Any) -> Any:
        about = inspect.getgeneratorlocals(work) if inspect.isgenerator(work) else {}
        session_id = about.get("session_id")
        if (session_id.fingerprint if session_id else about.get("fingerprint")) in away:
            raise StoreUnavailable("refused")
        return await run(work)

    with mock.patch.object(store, "run", refuse):
        await runtime.outage.settle()
    found = [await store.run(sessions.get(client.fingerprint)) is not None for client in clients]
    assert found == [False, False, False, True]
    await runtime.outage.settle()
    reasons = [await store.run(sessions.end_reason(client.fingerprint)) for client in clients]
    assert reasons == ["deleted", "deleted", None, None]
    assert [await adds(http, client) for client in clients] == [404, 404, 200, 200]


async def test_what_is_remembered_is_bounded(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "MOST_ENDED", 2)
    monkeypatch.setattr(outage, "MOST_UNWRITTEN", 2)
    runtime = await runtime_for("default")
    ended = [await opened(http) for _ in range(3)]
    for client in ended:
        assert await deleted(http, client) == 204
    with no_store(runtime):
        assert [await adds(http, client) for client in ended] == [200, 404, 404]
        clients = [await initialized(http) for _ in range(3)]
    await runtime.outage.settle()
    store = runtime.context.store
    recorded = [await store.run(sessions.get(client.fingerprint)) is not None for client in clients]
    assert recorded == [True, True, False]
    assert [await adds(http, client) for client in clients] == [200] * 3, "with its first request"


async def test_the_modern_era_goes_on_and_handles_say_what_is_wrong() -> None:
    with endpoint(SERVER="tests.served.baskets.server", ON_STORE_DOWN="serve"):
        async with connect(era="modern") as client:
            made = await client.call_tool("create_basket", {})
            basket = made.structured_content
            assert basket is not None
            with no_store(await runtime_for("default")):
                result = await client.call_tool("add", {"basket": basket["result"], "article": "tea"})
                listed = await client.list_tools()
            assert result.is_error
            assert "could not be reached" in str(result.content)
            assert listed.tools
            again = await client.call_tool("add", {"basket": basket["result"], "article": "tea"})
            assert not again.is_error


async def test_an_outage_is_logged_when_it_begins_and_when_it_is_over(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "QUIET_SECONDS", 2.0)
    client, runtime = await opened(http), await runtime_for("default")
    with no_store(runtime):
        for _ in range(20):
            assert await adds(http, client) == 200
        assert runtime.outage.lasts
    assert runtime.outage.served == 20
    await until(lambda: not runtime.outage.lasts)
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(said) == 2, said
    assert said[0].startswith("Endpoint 'default' serves sessions without the store: ")
    assert "served without the store: 20 in" in said[1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
