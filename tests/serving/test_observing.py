"""What observers are told of requests: in both eras, once each, and behind the answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import pytest
from mcp.server import MCPServer

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.serving import past
from mcp_sessions.serving.observing import WRITTEN_TOGETHER, Ended, Observing
from mcp_sessions.serving.runtime import Runtime, runtime_for
from mcp_sessions.store.call import Call
from mcp_sessions.store.calls import nodes, recent
from mcp_sessions.testing import http_client, serving
from tests.serving.contexts import Process
from tests.support.asgi import endpoint, opened, post
from tests.support.mcp_client import META, MODERN, RawClient, cancelling

BOUND = 10
served: MCPServer[Any] = MCPServer("observed")
#: Told when a call stays; of the test's own event loop.
staying: list[asyncio.Event] = []


@served.tool()
async def add(a: int, b: int) -> int:
    return a + b


@served.tool()
async def fail() -> None:
    raise RuntimeError("on purpose")


@served.tool()
async def stay() -> None:
    staying[-1].set()
    await asyncio.Event().wait()


class Heard:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.waiting: list[Call[Any]] = []

    def hear(self, ended: Sequence[Ended]) -> None:
        self.ended += ended

    def writes(self) -> Sequence[Call[Any]]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def outcomes(self) -> list[tuple[str, str]]:
        return [(each.request.call, each.outcome) for each in self.ended]


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    staying.append(asyncio.Event())
    with endpoint(SERVER=f"{__name__}.served"):
        async with serving(), asyncio.timeout(BOUND), http_client() as http:
            yield http


@pytest.fixture
async def runtime(http: httpx2.AsyncClient) -> Runtime:
    return await runtime_for("default")


@pytest.fixture
def heard(runtime: Runtime) -> Heard:
    observer = Heard()
    runtime.observing.observers.append(observer)
    return observer


def calling(client: RawClient, tool: str, **arguments: Any) -> dict[str, Any]:
    return client.request("tools/call", {"name": tool, "arguments": arguments})


async def modern(http: httpx2.AsyncClient, client: RawClient, tool: str, **arguments: Any) -> httpx2.Response:
    """A call of the modern era, from a client that stays until it has the answer."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    headers = client.headers(mcp_protocol_version=MODERN, mcp_method="tools/call", mcp_name=tool)
    return await http.post(
        "http://testserver/mcp", json=client.request("tools/call", params), headers=headers
    )


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_each_request_is_told_once_with_how_it_ended(
    http: httpx2.AsyncClient, runtime: Runtime, heard: Heard, era: str
) -> None:
    client = await opened(http) if era == "handshake" else RawClient()

    async def call(tool: str, **arguments: Any) -> None:
        if era == "handshake":
            await post(http, client, calling(client, tool, **arguments))
        else:
            await modern(http, client, tool, **arguments)

    await call("add", a=1, b=2)
    await call("fail")
    await call("add", a="no number")
    await call("nothing like that")
    await runtime.observing.tell()
    ends = {outcome for name, outcome in heard.outcomes() if name == "tools/call:nothing like that"}
    assert heard.outcomes()[:3] == [
        ("tools/call:add", "ok"),
        ("tools/call:fail", "tool error"),
        ("tools/call:add", "tool error"),
    ]
    assert len(heard.ended) == 4
    assert ends <= {"tool error", "error"}, ends
    first = heard.ended[0]
    assert 0 <= first.ms < 1_000 * BOUND
    assert first.request.tool == "add"
    if era == "handshake":
        assert (first.request.kind, first.request.fingerprint) == ("session", client.fingerprint)
        assert (first.request.client, first.request.client_version) == ("raw-client", "1.0")
    else:
        assert (first.request.kind, first.request.session) == ("caller", "")
        assert (first.request.client, first.request.client_version) == ("modern", "1")


async def test_an_unknown_method_is_an_error(
    http: httpx2.AsyncClient, runtime: Runtime, heard: Heard
) -> None:
    client = await opened(http)
    await post(http, client, client.request("no/such/method"))
    await runtime.observing.tell()
    assert heard.outcomes() == [("no/such/method", "error")]
    assert heard.ended[0].code == -32601


async def test_what_runs_is_known_until_its_client_cancels_it(
    http: httpx2.AsyncClient, runtime: Runtime, heard: Heard
) -> None:
    client = await opened(http)
    call = calling(client, "stay")
    answering = asyncio.create_task(post(http, client, call))
    await staying[-1].wait()
    [running] = runtime.running()
    assert (running.tool, running.fingerprint) == ("stay", client.fingerprint)
    await post(http, client, cancelling(call))
    await answering
    assert list(runtime.running()) == []
    await runtime.observing.tell()
    assert heard.outcomes() == [("tools/call:stay", "cancelled")]
    assert heard.ended[0].request == running


async def test_a_modern_client_that_leaves_has_interrupted_its_request(
    http: httpx2.AsyncClient, runtime: Runtime, heard: Heard
) -> None:
    answering = asyncio.create_task(modern(http, RawClient(), "stay"))
    await staying[-1].wait()
    assert [each.tool for each in runtime.running()] == ["stay"]
    answering.cancel()
    await asyncio.wait([answering])
    while runtime.modern:
        await asyncio.sleep(0)
    await runtime.observing.tell()
    assert heard.outcomes() == [("tools/call:stay", "interrupted")]


async def test_a_process_that_stops_tells_what_it_interrupted() -> None:
    observer = Heard()
    staying.append(asyncio.Event())
    with endpoint(SERVER=f"{__name__}.served"):
        async with asyncio.timeout(BOUND), serving(), http_client() as http:
            runtime = await runtime_for("default")
            runtime.observing.observers.append(observer)
            client = await opened(http)
            answering = asyncio.create_task(post(http, client, calling(client, "stay")))
            await staying[-1].wait()
            await runtime.abort()
            await answering
    assert observer.outcomes() == [("tools/call:stay", "interrupted")]


@pytest.mark.logs_fault("ZeroDivisionError")
async def test_an_observer_that_fails_silences_no_other_and_no_write(
    http: httpx2.AsyncClient, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Heard):
        def hear(self, ended: Sequence[Ended]) -> None:
            raise ZeroDivisionError

    good = Heard()
    runtime.observing.observers[:] = [Failing(), good]
    client = await opened(http)
    await post(http, client, calling(client, "add", a=1, b=2))
    good.waiting.append(nodes.broadcast(b"written"))
    await runtime.observing.tell()
    assert [outcome for _, outcome in good.outcomes()] == ["ok"]
    _, broadcasts = await runtime.context.store.run(nodes.broadcasts(after="", age_ms=60_000))
    assert broadcasts == [b"written"]
    for _ in range(3):
        await runtime.observing.tell()
    [told] = [each for each in caplog.records if each.levelname == "WARNING" and "Failing" in each.message]
    assert told.message == "The observer Failing of requests failed."
    assert told.exc_info, "with the traceback, once"


async def test_what_one_part_of_the_store_does_not_take_keeps_nothing_from_the_others(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    async def run_all(calls: Sequence[Call[Any]]) -> list[Any]:
        written.append(len(list(calls)))
        if len(written) == 1:
            raise StoreUnavailable("one primary is away")
        return []

    monkeypatch.setattr(runtime.context.store, "run_all", run_all)
    observer = Heard()
    observer.waiting += [nodes.list_nodes()] * (WRITTEN_TOGETHER + 1)
    runtime.observing.observers[:] = [observer]
    await runtime.observing.tell()
    assert written == [WRITTEN_TOGETHER, 1]


async def test_all_observers_of_an_endpoint_write_in_one_round_trip_and_none_fails_without_the_store(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    async def run_all(calls: Sequence[Call[Any]]) -> list[Any]:
        written.append(len(list(calls)))
        raise StoreUnavailable("away")

    monkeypatch.setattr(runtime.context.store, "run_all", run_all)
    observers = [Heard(), Heard()]
    for observer in observers:
        observer.waiting.append(nodes.list_nodes())
    runtime.observing.observers[:] = observers
    await runtime.observing.tell()
    await runtime.observing.tell()
    assert written == [2]


@pytest.mark.parametrize(("most", "ended", "kept"), [(2, 3, 2), (50, 3, 3), (0, 0, 0)])
async def test_the_setting_says_how_many_requests_are_kept_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch, most: int, ended: int, kept: int
) -> None:
    monkeypatch.setattr(past, "WRITE_SECONDS", -1.0)
    with endpoint(SERVER=f"{__name__}.served", RECENT_REQUESTS=most):
        async with asyncio.timeout(BOUND), serving(), http_client() as http:
            runtime, client = await runtime_for("default"), await opened(http)
            for a in (1, 2, "no number"):
                await post(http, client, calling(client, "add", a=a, b=2))
            await runtime.observing.tell()
            found = await runtime.context.store.run(
                recent.read(client.fingerprint, wanted=9, most=most or 50)
            )
    assert (found.ended, len(found.requests)) == (ended, kept)
    assert found.failed == (1 if most else 0)
    assert [each.outcome for each in found.requests] == ["tool error", "ok", "ok"][:kept]


async def test_observers_are_told_once_a_second_and_the_longest_delay_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observing, late, now, told = Observing(Process().context), [0.5, 0.25, 0.0], [1_000.0], []

    async def sleep(seconds: float) -> None:
        now[0] += seconds + late.pop(0)

    async def tell() -> None:
        told.append(now[0])
        if not late:
            raise asyncio.CancelledError

    monkeypatch.setattr(observing, "tell", tell)
    loop = asyncio.get_running_loop()
    with monkeypatch.context() as playing:
        playing.setattr(asyncio, "sleep", sleep)
        playing.setattr(loop, "time", lambda: now[0])
        with pytest.raises(asyncio.CancelledError):
            await observing.run()
    assert told == [1_001.5, 1_002.75, 1_003.75]
    assert [observing.take_lag(), observing.take_lag()] == [0.5, 0.0]
