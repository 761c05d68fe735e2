"""What can be imported from the package itself."""

import pytest

import mcp_sessions


def test_every_public_name_is_there() -> None:
    assert all(getattr(mcp_sessions, name) for name in mcp_sessions.__all__)


def test_another_name_is_an_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="module 'mcp_sessions' has no attribute 'sessions'"):
        mcp_sessions.sessions  # noqa: B018 - reading it raises
