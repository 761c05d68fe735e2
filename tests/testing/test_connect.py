"""What `mcp_sessions.testing` promises: both eras, state, streams, requests to the client, and a clean end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from mcp import Client
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult, RequestParams
from pytest_django import Settings

from mcp_sessions import current_session
from mcp_sessions.errors import NoCurrentSession
from mcp_sessions.testing import Era, _outcome, connect, http_client, serving, url_of
from tests.served.tokens import RESOURCE
from tests.support.asgi import endpoint
from tests.support.gates import Gate
from tests.support.mcp_client import RawClient

#: Seconds that anything may take.
BOUND = 20
EVERYTHING = "tests.served.everything.server"

lives: list[str] = []
fingerprints: list[str] = []


@asynccontextmanager
async def lifespan(_: MCPServer[Any]) -> AsyncIterator[None]:
    lives.append("entered")
    yield
    lives.append("left")


small: MCPServer[Any] = MCPServer("small", lifespan=lifespan)
old: Server[Any] = Server("old")


@small.tool()
def add(a: int, b: int) -> int:
    with suppress(NoCurrentSession):
        fingerprints.append(current_session().fingerprint)
    return a + b


@small.tool()
def who() -> list[str]:
    session = current_session()
    return [session.principal, str(session.user)]


async def refuse(_: Any, __: RequestParams) -> Any:
    raise MCPError(code=-32601, message="Method not found")


old.add_request_handler("server/discover", RequestParams, refuse)


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_tool_of_the_demo_is_called_in_either_era(era: Era) -> None:
    with endpoint():
        async with connect(era=era) as client:
            assert client.server_info is not None
            assert client.server_info.name == "library"
            result = await client.call_tool("recall", {})
    if era == "handshake":
        assert (result.is_error, result.structured_content) == (False, {"result": []})
    else:
        assert result.is_error
        assert "There is no session here" in str(result.content)


async def test_each_client_has_a_session_of_its_own_that_lasts_from_call_to_call() -> None:
    with endpoint():
        async with connect() as one, connect() as another:
            await one.call_tool("remember", {"note": "likes tea"})
            assert await recalled(one) == ["likes tea"]
            assert await recalled(another) == []


async def recalled(client: Client) -> Any:
    content = (await client.call_tool("recall", {})).structured_content
    assert content is not None
    return content["result"]


async def test_a_sync_tool_uses_the_state() -> None:
    with endpoint(SERVER=EVERYTHING):
        async with connect() as client:
            counts = [await client.call_tool("count_in_a_thread", {}) for _ in range(2)]
    assert [count.structured_content for count in counts] == [{"result": 1}, {"result": 2}]


async def test_a_tool_asks_a_client_with_a_session() -> None:
    async def answer(_: Any, params: Any) -> ElicitResult:
        assert params.message == "How old is Ann?"
        return ElicitResult(action="accept", content={"age": 33})

    with endpoint(SERVER=EVERYTHING):
        async with connect(elicitation_callback=answer) as client:
            result = await client.call_tool("ask_age", {"name": "Ann"})
    assert result.structured_content == {"result": "Ann is 33"}


async def test_a_tool_asks_a_client_of_the_modern_era() -> None:
    async def answer(_: Any, params: Any) -> ElicitResult:
        assert params.message == "Sure?"
        return ElicitResult(action="accept", content={"ok": True})

    with endpoint(SERVER=EVERYTHING):
        async with connect(era="modern", elicitation_callback=answer) as client:
            result = await client.call_tool("confirm", {})
    assert result.structured_content == {"result": "confirmed"}


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_progress_comes_while_the_tool_runs(gate: Gate, era: Era) -> None:
    said: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        said.append(message)
        if message == "waiting":
            await asyncio.to_thread(gate.reached)
            gate.open()

    with endpoint(SERVER=EVERYTHING):
        async with asyncio.timeout(BOUND), connect(era=era) as client:
            result = await client.call_tool("report", {"gate": gate.path}, progress_callback=hear)
    assert (said, result.structured_content) == (["waiting", "passed"], {"result": "passed"})


async def test_messages_that_belong_to_no_request_come(gate: Gate) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Any) -> None:
        await heard.put(message.method)

    with endpoint(SERVER=EVERYTHING):
        async with asyncio.timeout(BOUND), connect(message_handler=hear) as client:
            await client.call_tool("announce", {})
            assert await heard.get() == "notifications/resources/list_changed"


async def test_the_user_is_the_one_that_the_test_names() -> None:
    with endpoint(SERVER="tests.testing.test_connect.small"):
        async with connect(user=User(pk=7, username="ada")) as client:
            result = await client.call_tool("who", {})
    assert result.structured_content == {"result": ["user:7", "ada"]}


async def test_headers_authenticate_where_tokens_are_verified(settings: Settings) -> None:
    entry = {
        "SERVER": "tests.testing.test_connect.small",
        "TOKEN_VERIFIER": "tests.served.tokens.Verifier",
        "ISSUER_URL": "https://issuer.example.com",
        "RESOURCE_URL": RESOURCE,
    }
    with endpoint(**entry):
        async with connect(headers={"authorization": "Bearer ann-1"}) as client:
            result = await client.call_tool("who", {})
        with pytest.raises(MCPError):
            async with connect():
                """A client without a token."""
        async with connect(user=User(pk=7, username="ada")) as client:
            named = await client.call_tool("who", {})
    assert named.structured_content == {"result": ["user:7", "ada"]}, "who is named needs no token"
    assert result.structured_content is not None
    assert result.structured_content["result"][0] == 'oauth:["https://issuer.example.com","ann"]'


async def test_an_endpoint_is_chosen_by_its_key(settings: Settings) -> None:
    settings.MCP_SESSIONS = {
        "shop": {"SERVER": EVERYTHING, "PATH": "shop"},
        "desk": {"SERVER": "tests.testing.test_connect.small", "PATH": "desk"},
    }
    async with connect(endpoint="desk") as desk, connect(endpoint="shop") as shop:
        assert {tool.name for tool in (await desk.list_tools()).tools} == {"add", "who"}
        assert "ask_age" in {tool.name for tool in (await shop.list_tools()).tools}
    with pytest.raises(ImproperlyConfigured, match="MCP_SESSIONS has no dictionary under 'default'"):
        async with connect():
            """There is no such endpoint."""


@pytest.mark.django_db(transaction=True)
async def test_a_client_whose_session_was_ended_gets_an_error_that_says_so() -> None:
    with endpoint(SERVER="tests.testing.test_connect.small"):
        async with connect() as client:
            await client.call_tool("add", {"a": 1, "b": 2})
            await asyncio.to_thread(
                call_command, "mcp_sessions", "expire", fingerprints[-1], skip_checks=True
            )
            with pytest.raises(MCPError, match="Session not found"):
                await client.call_tool("add", {"a": 1, "b": 2})


async def test_the_lifespan_is_left_with_the_last_client() -> None:
    lives.clear()
    with endpoint(SERVER="tests.testing.test_connect.small"):
        async with connect():
            async with connect(era="modern") as second:
                await second.call_tool("add", {"a": 1, "b": 2})
            assert lives == ["entered"]
    assert lives == ["entered", "left"]


async def test_an_exception_in_the_block_is_raised_unchanged() -> None:
    with endpoint(), pytest.raises(ZeroDivisionError):
        async with connect():
            1 / 0  # noqa: B018 - a test that fails


@pytest.fixture
async def connected() -> AsyncIterator[Client]:
    with endpoint(SERVER="tests.testing.test_connect.small"):
        async with connect() as client:
            yield client


async def test_a_client_may_be_a_fixture(connected: Client) -> None:
    assert (await connected.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}


async def test_a_host_that_is_not_served_is_refused_with_an_error_that_says_so(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["example.com"]
    with endpoint(), pytest.raises(MCPError, match="this Host is not served here"):
        async with connect():
            """Only Django's test environment allows the client's host."""


async def test_a_server_that_does_not_know_the_modern_era_is_not_taken_for_one_that_does() -> None:
    with endpoint(SERVER="tests.testing.test_connect.old"), pytest.raises(RuntimeError, match="2025-11-25"):
        async with connect(era="modern"):
            """The SDK's client falls back to the handshake."""


async def test_raw_requests_are_answered_too() -> None:
    raw = RawClient()
    with endpoint(PATH="tools"):
        async with serving(), http_client() as http:
            answer = await http.post(url_of(), json=raw.initialize_message(), headers=raw.headers())
            refused = await http.get(url_of(), headers={"accept": "image/png"})
    assert answer.json()["result"]["serverInfo"]["name"] == "library"
    assert refused.status_code == 406


async def test_several_errors_at_once_stay_together() -> None:
    async def fail(*errors: Exception) -> None:
        group = ExceptionGroup("the SDK's", errors)
        raise ExceptionGroup("around it", [group])

    with pytest.raises(ExceptionGroup, match="the SDK's") as raised:
        await _outcome(asyncio.create_task(fail(ValueError("one"), KeyError("two"))))
    assert [str(each) for each in raised.value.exceptions] == ["one", "'two'"]
    with pytest.raises(ValueError, match="alone"):
        await _outcome(asyncio.create_task(fail(ValueError("alone"))))


async def test_who_gives_up_connecting_leaves_nothing_behind() -> None:
    lives.clear()
    with endpoint(SERVER="tests.testing.test_connect.small"):

        async def use() -> None:
            async with connect():
                """It never comes so far."""

        using = asyncio.create_task(use())
        async with asyncio.timeout(BOUND):
            while not lives:
                await asyncio.sleep(0)
        using.cancel()
        with pytest.raises(asyncio.CancelledError):
            await using
    assert lives == ["entered", "left"]
