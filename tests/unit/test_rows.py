"""Rows of the admin's list and links of a user's page, without a store."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.urls import NoReverseMatch
from django.utils import translation

from mcp_sessions import models
from mcp_sessions.errors import MCPSessionsError
from mcp_sessions.inventory import display
from mcp_sessions.inventory.principals import Named
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


def test_rows_are_records_as_they_were_read_with_the_names_of_their_principals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[tuple[str, str]]] = []
    named = {("shop", "user:1"): Named(name="ada", user=1), ("desk", "oauth:x"): Named(name="x")}

    def names_of(pairs: Any) -> Any:
        asked.append(list(pairs))
        return named

    def located(alias: str, principal: str) -> Any:
        moment = datetime(2026, 11, 27, tzinfo=UTC)
        handshake = SimpleNamespace(client_name="host", protocol_version="2025-11-25")
        record = SimpleNamespace(
            fingerprint=FINGERPRINT, principal=principal, last_activity=moment, handshake=handshake
        )
        return SimpleNamespace(alias=alias, session=record, recent=f"of {alias}")

    monkeypatch.setattr(models, "names_of", names_of)

    def details_of(alias: str, fingerprint: str) -> object:
        asked.append([(alias, fingerprint)])
        return object()

    monkeypatch.setattr(models, "details_of", details_of)
    rows = [located(*each) for each in named]
    ada, x = MCPSession.from_rows(iter(rows))
    assert asked == [list(named)]
    assert [(each.principal_name, each.principal_user, each.endpoint) for each in (ada, x)] == [
        ("ada", 1, "shop"),
        ("x", None, "desk"),
    ]
    assert (ada.pk, ada.client_name, ada.protocol_version) == (FINGERPRINT, "host", "2025-11-25")
    as_read: Any = (ada.record, ada.recent, ada.doing, ada._state.adding)
    assert as_read == (rows[0].session, "of shop", None, False)
    monkeypatch.setattr(display, "ago", lambda moment: f"since {moment:%Y}")
    assert ada.last_active == "since 2026"
    assert ada.details is ada.details, "it is read once"
    assert asked[1:] == [[("shop", FINGERPRINT)]]


def test_records_have_no_table_and_permissions_of_their_own() -> None:
    meta = MCPSession._meta
    assert (meta.managed, meta.default_permissions, list(meta.ordering or ())) == (
        False,
        ("view",),
        ["-last_activity"],
    )
    assert [name for name, _ in meta.permissions] == [
        "expire_session",
        "view_session_state",
        "export_session",
    ]
    lengths = {field.name: field.max_length for field in meta.fields}
    assert lengths == {
        "fingerprint": 64,
        "endpoint": 255,
        "client_name": 255,
        "protocol_version": 32,
        "principal": 255,
        "last_activity": None,
    }
    assert meta.pk is not None
    assert (meta.pk.name, MCPSession._default_manager.model) == ("fingerprint", MCPSession)


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
