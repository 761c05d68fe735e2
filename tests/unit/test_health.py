"""What readiness asks of the session stores."""

from unittest import mock

from pytest_django import Settings

from mcp_sessions import health
from mcp_sessions.errors import StoreUnavailable


def test_a_redis_that_is_silent_is_asked_once_for_all_endpoints_that_share_it(settings: Settings) -> None:
    """Each question may take the whole timeout."""
    server = {"SERVER": "shop.mcp.server", "CACHE": "default"}
    settings.MCP_SESSIONS = {
        "one": {**server, "NAMESPACE": "one"},
        "two": {**server, "NAMESPACE": "two"},
        "three": {**server, "NAMESPACE": "three", "CACHE": "other"},
    }
    with mock.patch.object(health, "nodes_of", side_effect=StoreUnavailable) as asked:
        problems, notes = health._stores()

    assert [call.args for call in asked.call_args_list] == [(["one"],), (["three"],)]
    assert notes == []
    assert [alias in problem for alias, problem in zip(("one", "two", "three"), problems, strict=True)] == [
        True
    ] * 3
