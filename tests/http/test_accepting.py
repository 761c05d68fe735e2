"""What notifications of clients come to."""

from unittest import mock

import pytest

from mcp_sessions.http import accepting
from mcp_sessions.transport import jsonrpc


async def test_what_a_handler_sends_passes_the_store_unless_the_session_is_served_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime, channels = mock.MagicMock(), []
    monkeypatch.setattr(accepting, "StandaloneChannel", lambda context, *_: channels.append(context))
    notification = jsonrpc.Notification(method="notifications/custom", params=None)
    for is_stored in (True, False):
        send = mock.AsyncMock()
        await accepting.accept(runtime, notification, mock.Mock(is_stored=is_stored), {}, send)
        assert send.await_args_list[0].args[0]["status"] == 202
    assert channels == [runtime.context, runtime.outage.context]
