"""Blocks in the admin: made, listed and lifted there, and with the action that ends records."""

import asyncio
import re
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.authentication import blocking
from mcp_sessions.authentication.blocking import Asker, Blocks
from mcp_sessions.models import Block
from mcp_sessions.texts import storable
from tests.admin.pages import LIST, action, alive, answer, body, confirmed, said, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]

BLOCKS = "/admin/mcp_sessions/block/"
NAME = "force_expire_and_block"


@pytest.fixture
def guard() -> Client:
    return staff("view_mcpsession", "expire_session", "view_block", "add_block", "change_block", name="guard")


def held() -> list[tuple[str, str, str, str]]:
    return [(each.kind, each.value, each.by, each.reason) for each in Block.objects.active()]


def test_the_action_asks_whom_to_block_and_for_how_long(guard: Client) -> None:
    [session] = open_sessions([Opened(client="rude", principal="user:7")])
    page = body(guard.post(LIST, action(session) | {"action": NAME}))
    assert f'name="action" value="{NAME}"' in page
    assert "their principals" in page
    assert '<option value="a week">a week</option>' in page
    assert held() == []
    assert alive(session)


@pytest.mark.parametrize(("kind", "value"), [("principal", "user:7"), ("client", "rude")])
def test_the_action_blocks_and_ends(guard: Client, kind: str, value: str) -> None:
    session, other, nobody = open_sessions(
        [Opened(client="rude", principal="user:7"), Opened(client="kind"), Opened(client="rude")]
    )
    posted = confirmed(session, nobody) | {"action": NAME, "block": kind, "duration": "a day", "reason": "r"}
    response = guard.post(LIST, posted, follow=True)
    assert held() == [(kind, value, "guard", "r")]
    assert Block.objects.get().expires is not None
    assert [alive(each) for each in (session, other)] == [False, True]
    assert "Blocked: 1." in said(response)
    assert ("Clients that are anonymous" in " ".join(said(response))) == (kind == "principal")
    assert AuditEntry.objects.filter(action="block").count() == 1


def test_a_block_is_made_listed_and_lifted(guard: Client) -> None:
    form: dict[str, Any] = {"kind": "address", "value": " 192.0.2.0/24 ", "endpoint": "", "reason": "rude"}
    wrong = guard.post(f"{BLOCKS}add/", form | {"value": "home"})
    assert "home is no IP address" in body(wrong)
    guard.post(f"{BLOCKS}add/", form | {"expires_0": "", "expires_1": ""})
    assert held() == [("address", "192.0.2.0/24", "guard", "rude")]
    page = body(guard.get(BLOCKS))
    assert "192.0.2.0/24" in page
    assert "active" in page
    made = Block.objects.get()
    assert "192.0.2.0/24" in body(guard.get(f"{BLOCKS}{made.pk}/change/"))
    response = guard.post(BLOCKS, {"action": "lift", "_selected_action": [made.pk]}, follow=True)
    assert said(response) == ["Blocks lifted: 1."]
    assert held() == []
    assert "lifted" in body(guard.get(BLOCKS))


@pytest.mark.parametrize("name", ["bad\ud800", "bad\0", "bad\0" + "\udfff" * 99])
@pytest.mark.parametrize("across", ["0", "1"])
def test_a_client_whose_name_no_database_takes_is_blocked(
    guard: Client, monkeypatch: pytest.MonkeyPatch, name: str, across: str
) -> None:
    """Also everything else that the action writes can be stored: the job, the audit, and Django's log."""
    [session] = open_sessions([Opened(client=name)])
    address = f"{LIST}?q=bad" if across == "1" else LIST
    fields = action(session, select_across=across) | {"action": NAME}
    asked = answer(guard.post(address, fields), block="client", reason="rude\0")
    with connection.execute_wrapper(_refuse_what_postgresql_refuses):
        response = guard.post(address, asked, follow=True)
    assert "Blocked: " in said(response)[0]
    assert not alive(session)
    rows = [(each.kind, each.value, inf) for each in Block.objects.active()]
    monkeypatch.setattr(blocking, "_active", lambda _: rows)
    blocks = Blocks("default")
    asyncio.run(blocks.load())
    assert blocks.refuse(Asker(client=name))
    assert not blocks.refuse(Asker(client=name.replace("\ud800", "\ud801").replace("\0", "\1")))
    assert AuditEntry.objects.filter(action="block", client=storable(name)[:100]).exists()
    assert (
        AuditEntry.objects.get(outcome="ended", fingerprint=session.fingerprint).client
        == storable(name)[:100]
    )


@pytest.mark.parametrize(
    "path",
    ["?user=a%00b", "?q=a%00b", "a%00b/change/", "a%00b/history/", "?client=a%00b"],
)
def test_an_address_with_nul_finds_nothing(guard: Client, path: str) -> None:
    with connection.execute_wrapper(_refuse_what_postgresql_refuses):
        assert guard.get(LIST + path, follow=True).status_code in (200, 404)
        assert guard.post(f"{LIST}find/", {"q": "a\0b"}, follow=True).status_code == 200


def _refuse_what_postgresql_refuses(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
) -> Any:
    for text in (each for each in params or () if isinstance(each, str)):
        assert "\0" not in text
        text.encode()
        if text.startswith(("{", "[")):  # JSON has numbers for them
            assert not re.search(r"\\u(0000|d[89a-f])", text), text
    return execute(sql, params, many, context)


def test_who_may_only_end_records_cannot_block(operator: Client) -> None:
    [session] = open_sessions([Opened(principal="user:7")])
    assert NAME not in body(operator.get(LIST))
    operator.post(LIST, confirmed(session) | {"action": NAME, "block": "principal"})
    assert held() == []
    assert alive(session)
    assert operator.get(BLOCKS).status_code == 403
