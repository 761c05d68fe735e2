"""Rows of the admin's list and links of a user's page, without a store."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.urls import NoReverseMatch
from django.utils import translation

from mcp_sessions.errors import MCPSessionsError
from mcp_sessions.models import MCPSession
from mcp_sessions.records import Handshake, Kind
from mcp_sessions.templatetags import mcp_sessions_user

FINGERPRINT = "0123456789abcdef" * 4
SHORT = "0123456789ab"


def a_row(kind: Kind, *, label: str = "", name: str = "", client: str = "host") -> MCPSession:
    handshake = Handshake(
        protocol_version="2025-11-25",
        client_info={"name": client, "version": "1.2"},
        capabilities={},
        kind=kind,
        label=label,
        name=name,
    )
    row = MCPSession(fingerprint=FINGERPRINT, client_name=client)
    row.record = SimpleNamespace(handshake=handshake, kind=kind, label=label, name=name)  # type: ignore[assignment]
    row.principal_name = "ada"
    return row


@pytest.mark.parametrize(
    ("row", "title", "kind"),
    [
        (a_row("session"), f"{SHORT} (host 1.2)", "session"),
        (a_row("session", client=""), SHORT, "session"),
        (a_row("session", name="laptop"), f"{SHORT} (host 1.2)", "session"),
        (a_row("handle", label="basket", name="basket-1"), "basket basket-1", "handle (basket)"),
        (a_row("handle", label="basket"), f"basket {SHORT}", "handle (basket)"),
        (a_row("handle", label="b", name="x" * 60), f"b {'x' * 60}", "handle (b)"),
        (a_row("handle", label="b", name="x" * 61), f"b {'x' * 59}…", "handle (b)"),
        (a_row("handle"), f"handle {SHORT} (host 1.2)", "handle"),
        (a_row("user"), f"user state {SHORT} (ada)", "user state"),
        (
            a_row("conversation", label="threadId", name="t-1"),
            f"conversation threadId {SHORT}",
            "conversation (threadId)",
        ),
        (a_row("conversation"), f"conversation {SHORT} (host 1.2)", "conversation"),
        (
            a_row("conversation", label="k" * 41),
            f"conversation {'k' * 39}… {SHORT}",
            f"conversation ({'k' * 39}…)",
        ),
        (a_row("caller"), f"caller {SHORT} (host 1.2)", "caller"),
    ],
)
def test_a_record_is_called_by_what_it_is(row: MCPSession, title: str, kind: str) -> None:
    with translation.override("en"):
        assert (str(row), row.kind_with_label) == (title, kind)
        assert row.kind_word == kind.partition(" (")[0]
        assert row.client == (f"{row.client_name} 1.2" if row.client_name else "(no name) 1.2")


def test_a_record_that_is_gone_keeps_its_title_and_none_is_written() -> None:
    gone = MCPSession.gone(FINGERPRINT, "what it was")
    assert (str(gone), gone.short_fingerprint) == ("what it was", SHORT)
    for write in (gone.save, gone.delete):
        with pytest.raises(MCPSessionsError):
            write()


def links(*permissions: str, user: Any = None, request: bool = True) -> str:
    """The items of the list on the page of a user."""
    staff = SimpleNamespace(has_perm=lambda name: name.removeprefix("mcp_sessions.") in permissions)
    context = SimpleNamespace(request=SimpleNamespace(user=staff) if request else None)
    with translation.override("en"):
        return str(mcp_sessions_user.mcp_sessions_of(context, user or User(pk=7, username="ada l")))


def test_a_users_page_links_to_the_records_and_to_their_end_for_who_may() -> None:
    records = (
        '<li class="mcp-tool px-3"><a href="/admin/mcp_sessions/mcpsession/?user=ada+l">MCP sessions</a></li>'
    )
    end = "/admin/mcp_sessions/mcpsession/of-user/7/force-expire/"
    assert links("view_mcpsession") == records
    assert links("view_mcpsession", "expire_session") == (
        f'{records}<li class="mcp-tool px-3"><a href="{end}">End MCP sessions</a></li>'
    )
    assert links("expire_session") == ""
    assert links("view_mcpsession", user="not a user") == ""
    assert links("view_mcpsession", request=False) == ""


def test_where_the_admin_has_no_pages_of_ours_a_users_page_has_no_links() -> None:
    with mock.patch.object(mcp_sessions_user, "reverse", side_effect=NoReverseMatch):
        assert links("view_mcpsession", "expire_session") == ""
