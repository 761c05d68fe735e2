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
    store = mock.Mock()
    store.run.side_effect = StoreUnavailable
    with mock.patch.object(health, "sync_store_for", return_value=store) as asked:
        problems = list(health._silent_stores())

    assert [call.args for call in asked.call_args_list] == [("one",), ("three",)]
    assert [alias in problem for alias, problem in zip(("one", "two", "three"), problems, strict=True)] == [
        True
    ] * 3
