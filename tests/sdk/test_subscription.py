"""What a client of the modern era listens to, in words and on the wire."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourcesListChanged, ResourceUpdated, ToolsListChanged
from mcp_types import EmptyResult, SubscriptionsListenRequestParams

from mcp_sessions.current import current_request
from mcp_sessions.sdk.listening import LISTEN, MAX_URI_CHARS, Subscription
from mcp_sessions.sdk.server import HostedServer
from mcp_sessions.transport import jsonrpc


def listening(**wanted: Any) -> Subscription:
    return Subscription(
        jsonrpc.Request(id="7", method="subscriptions/listen", params={"notifications": wanted})
    )


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({}, "nothing"),
        ({"toolsListChanged": True}, "tools"),
        ({"toolsListChanged": False, "promptsListChanged": True}, "prompts"),
        ({"resourceSubscriptions": ["a://1"]}, "1 resource"),
        (
            {
                "toolsListChanged": True,
                "promptsListChanged": True,
                "resourcesListChanged": True,
                "resourceSubscriptions": ["a://1", "a://2"],
            },
            "tools, prompts, lists of resources, 2 resources",
        ),
    ],
)
def test_an_operator_reads_what_a_client_listens_to_and_the_client_has_it_acknowledged(
    wanted: dict[str, Any], words: str
) -> None:
    subscription = listening(**wanted)
    assert str(subscription) == words
    acknowledged = subscription.acknowledgement()
    assert (acknowledged["jsonrpc"], acknowledged["method"]) == (
        "2.0",
        "notifications/subscriptions/acknowledged",
    )
    assert acknowledged["params"]["notifications"] == {name: value for name, value in wanted.items() if value}
    assert list(acknowledged["params"]["_meta"].values()) == ["7"]


def test_only_what_was_asked_for_is_sent() -> None:
    subscription = listening(toolsListChanged=True, resourceSubscriptions=["a://1"])
    tools = subscription.notification(ToolsListChanged())
    assert tools is not None
    assert tools["method"] == "notifications/tools/list_changed"
    assert list(tools["params"]["_meta"].values()) == ["7"]
    updated = subscription.notification(ResourceUpdated(uri="a://1"))
    assert updated is not None
    assert (updated["method"], updated["params"]["uri"]) == ("notifications/resources/updated", "a://1")
    assert subscription.notification(ResourceUpdated(uri="a://2")) is None
    assert subscription.notification(ResourcesListChanged()) is None


@pytest.fixture
def _at_most_two() -> Iterator[None]:
    """A request of an endpoint whose clients listen to two resources at most."""
    request: Any = SimpleNamespace(conf=SimpleNamespace(max_subscriptions=2))
    token = current_request.set(request)
    yield
    current_request.reset(token)


async def listens_to(*uris: str) -> Any:
    hosted = HostedServer(MCPServer("shop"), json_only=False, max_body=1_000)
    assert hosted.bus is not None
    entry = hosted.kernel.lowlevel.get_request_handler(LISTEN)
    assert entry is not None
    params = SubscriptionsListenRequestParams.model_validate(
        {"notifications": {"resourceSubscriptions": list(uris)} if uris else {}}
    )
    context: Any = SimpleNamespace(request_id="7")
    return await entry.handler(context, params)


LONGEST = "a" * MAX_URI_CHARS


@pytest.mark.usefixtures("_at_most_two")
@pytest.mark.parametrize("uris", [(), ("a://1", LONGEST)], ids=["no resource", "two resources"])
async def test_a_client_that_listens_is_answered_at_once(uris: tuple[str, ...]) -> None:
    answer = (await listens_to(*uris)).model_dump(by_alias=True)
    assert list(answer["_meta"].values()) == ["7"]


@pytest.mark.usefixtures("_at_most_two")
@pytest.mark.parametrize(
    ("uris", "said"),
    [
        (("a://1", "a://2", "a://3"), "A client listens to 2 resources at most"),
        (("a://1", LONGEST + "a"), f"The URI of a resource has {MAX_URI_CHARS} characters at most"),
    ],
    ids=["three resources", "a long one"],
)
async def test_a_client_that_listens_to_too_much_is_refused(uris: tuple[str, ...], said: str) -> None:
    with pytest.raises(MCPError) as raised:
        await listens_to(*uris)
    assert (raised.value.error.code, raised.value.error.message) == (-32602, said)


async def test_apart_from_a_request_there_is_no_bound() -> None:
    assert await listens_to(*(f"a://{number}" for number in range(500)))


def test_a_server_that_answers_its_listeners_itself_goes_on_doing_so() -> None:
    async def listen(*_: Any) -> Any:
        return EmptyResult()

    for server, expected in (
        (Server[Any]("low", on_subscriptions_listen=listen), listen),
        (Server("low"), None),
    ):
        hosted = HostedServer(server, json_only=False, max_body=1_000)
        assert hosted.bus is None
        entry = hosted.kernel.lowlevel.get_request_handler(LISTEN)
        assert (None if entry is None else entry.handler) is expected
