"""What a client of the modern era listens to, in words and on the wire."""

from typing import Any

import pytest
from mcp.shared.subscriptions import ResourcesListChanged, ResourceUpdated, ToolsListChanged

from mcp_sessions.sdk.listening import Subscription
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
