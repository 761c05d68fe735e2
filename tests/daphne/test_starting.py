"""A process of our daphne that cannot serve what the settings say: a supervisor must see that it failed."""

from types import SimpleNamespace
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_sessions import lifecycle

from mcp_sessions.daphne import starting  # isort: skip  # it chooses Twisted's reactor


async def test_it_writes_its_log_and_ends_with_1_after_everything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []
    monkeypatch.setattr(lifecycle, "start", mock.AsyncMock(side_effect=ImproperlyConfigured))
    monkeypatch.setattr(starting, "os", SimpleNamespace(_exit=done.append))
    monkeypatch.setattr(starting, "logging", SimpleNamespace(shutdown=lambda: done.append("log written")))
    reactor, stop = mock.Mock(), mock.Mock()
    await starting.begin(reactor, stop)
    stop.assert_called_once_with()
    [(*when, end)] = [call.args for call in reactor.addSystemEventTrigger.call_args_list]
    assert (when, done) == (["after", "shutdown"], [])
    end()
    assert done == ["log written", 1]
