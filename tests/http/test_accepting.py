"""What notifications of clients come to."""

from typing import Any
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


def runtime_with(*, hears: bool = True, may_run: bool = True, cancels: bool = True) -> Any:
    runtime = mock.MagicMock()
    runtime.inbox.cancel = mock.AsyncMock(return_value=cancels)
    runtime.client_requests.progress = mock.AsyncMock()
    runtime.server.kernel.hears.return_value = hears
    runtime.admission.may_run.return_value = may_run
    return runtime


async def accepted(runtime: Any, method: str, params: Any = None) -> int:
    """The status of the answer."""
    send = mock.AsyncMock()
    session: Any = mock.Mock(fingerprint="f")
    notification = jsonrpc.Notification(method=method, params=params)
    await accepting.accept(runtime, notification, session, {}, send)
    return int(send.await_args_list[0].args[0]["status"])


@pytest.mark.parametrize(
    ("cancels", "hears", "status"), [(True, True, 202), (True, False, 202), (False, True, 503)]
)
async def test_a_cancellation_is_passed_on_before_the_server_hears_of_it(
    cancels: bool, hears: bool, status: int
) -> None:
    runtime = runtime_with(cancels=cancels, hears=hears)
    assert await accepted(runtime, "notifications/cancelled", {"requestId": 7}) == status
    runtime.inbox.cancel.assert_awaited_once_with("f", {"requestId": 7})
    assert runtime.admission.run_notification.called is (cancels and hears)
    assert not runtime.client_requests.progress.called
    await accepted(runtime, "notifications/cancelled")
    runtime.inbox.cancel.assert_awaited_with("f", {})


async def test_progress_is_passed_on_to_who_waits_for_the_client() -> None:
    runtime = runtime_with(hears=False)
    assert await accepted(runtime, "notifications/progress", {"progress": 1}) == 202
    runtime.client_requests.progress.assert_awaited_once_with("f", {"progress": 1})
    for other in ("notifications/a", "notifications/x"):
        assert await accepted(runtime, other) == 202
    runtime.client_requests.progress.assert_awaited_once()
    assert not runtime.inbox.cancel.called
    assert not runtime.admission.may_run.called


async def test_what_the_server_hears_of_is_handled_unless_too_much_runs() -> None:
    runtime = runtime_with()
    assert await accepted(runtime, "notifications/x") == 202
    runtime.admission.may_run.assert_called_once_with("f")
    handling = runtime.server.kernel.notify.return_value
    runtime.admission.run_notification.assert_called_once_with("f", handling)
    full = runtime_with(may_run=False)
    assert await accepted(full, "notifications/x") == 503
    assert not full.admission.run_notification.called
