"""RequestId: one id for a request, in its answer, in the log and for tools."""

import logging
import re
from collections.abc import Iterator

import httpx2
import pytest
from mcp.server import MCPServer

from mcp_sessions.middleware import RequestId, RequestIdFilter, request_id
from mcp_sessions.routing import with_mcp
from mcp_sessions.testing import serving
from mcp_sessions.transport.asgi import Message, Receive, Scope, Send
from tests.routing.test_routing import django, post
from tests.support.asgi import endpoint
from tests.support.mcp_client import META, MODERN, RawClient

HERE = "tests.middleware.test_request_id"
server = MCPServer("shop")


@server.tool()
async def in_the_loop() -> str:
    """What an async tool sees."""
    logging.getLogger("shop").warning("in the loop")
    return request_id()


@server.tool()
def in_a_thread() -> str:
    """What a sync tool sees."""
    return request_id()


@pytest.fixture(autouse=True)
def with_request_ids() -> Iterator[None]:
    with endpoint(SERVER=f"{HERE}.server", MIDDLEWARE=["mcp_sessions.middleware.RequestId"]):
        yield


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", 'quo"te', "line%0Abreak"])
async def test_without_a_good_id_from_a_proxy_a_request_gets_a_new_one(given: str) -> None:
    headers = {"x_request_id": given} if given else {}
    site = with_mcp(django)
    ids = {(await post(site, "http://testserver/mcp", **headers)).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize("given", ["9f1c-42", "Root=1-67891233-abcdef012345678912345678"])
async def test_the_id_that_a_proxy_gives_is_kept(given: str) -> None:
    answer = await post(with_mcp(django), "http://testserver/mcp", x_request_id=given)
    assert answer.headers["x-request-id"] == given


async def test_a_refused_request_has_an_id_too() -> None:
    answer = await post(with_mcp(django), "http://evil.example/mcp", x_request_id="r-1")
    assert (answer.status_code, answer.headers["x-request-id"]) == (421, "r-1")


@pytest.mark.parametrize("tool", ["in_the_loop", "in_a_thread"])
@pytest.mark.parametrize("modern", [False, True])
async def test_tools_of_both_eras_know_the_id_and_so_does_their_log(
    tool: str, modern: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(RequestIdFilter())
    client, transport = RawClient(), httpx2.ASGITransport(with_mcp(django))
    async with serving(), httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
        more = (
            {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool} if modern else {}
        )
        if not modern:
            opened = await http.post("/mcp", json=client.initialize_message(), headers=client.headers())
            client.session_id = opened.headers["mcp-session-id"]
        params = {"name": tool, "arguments": {}, **({"_meta": META} if modern else {})}
        for number in ("r-1", "r-2"):
            call = client.request("tools/call", params)
            headers = client.headers(x_request_id=number, **more)
            answer = (await http.post("/mcp", json=call, headers=headers)).json()
            assert answer["result"]["structuredContent"] == {"result": number}
    logged = [record.request_id for record in caplog.records if record.name == "shop"]  # type: ignore[attr-defined]
    assert logged == (["r-1", "r-2"] if tool == "in_the_loop" else [])
    assert request_id() == ""


def test_outside_of_requests_a_record_has_a_dash() -> None:
    record = logging.makeLogRecord({"msg": "starting"})
    assert RequestIdFilter().filter(record)
    assert record.request_id == "-"  # type: ignore[attr-defined]


async def test_only_the_start_of_an_answer_has_the_id() -> None:
    kinds = ("http.response.start", "http.response.body", "http.response.trailers")
    sent: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["request_id"] == request_id() == "r-1"
        for kind in kinds:
            await send({"type": kind, "headers": [(b"x", b"y")]})

    async def send(message: Message) -> None:
        sent.append(message)

    await RequestId(application)({"headers": [(b"x-request-id", b"r-1")]}, None, send)  # type: ignore[arg-type]
    assert [dict(message["headers"]).get(b"x-request-id") for message in sent] == [b"r-1", None, None]
    assert request_id() == ""
