"""Blocks from code: what is written, whom it is told, and what is logged."""

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone
from pytest_django import Settings

from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.blocks import Block, active, block, unblock
from mcp_sessions.cluster.notifications import BlocksChanged
from mcp_sessions.errors import StoreUnavailable

pytestmark = pytest.mark.django_db


@pytest.fixture
def told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """What every process hears when the transaction is committed, which here is at once."""
    entry = {"SERVER": "shop.mcp.server"}
    settings.MCP_SESSIONS = {"shop": entry, "desk": entry}
    broadcast = mock.Mock()
    monkeypatch.setattr("mcp_sessions.blocks.outside.broadcast", broadcast)
    monkeypatch.setattr("mcp_sessions.blocks.transaction.on_commit", lambda work, using: work())
    return broadcast


def heard(told: mock.Mock) -> list[str]:
    """The endpoints that were told since the last time."""
    endpoints = [call.args[0] for call in told.call_args_list]
    assert all(call.args[1] == BlocksChanged() for call in told.call_args_list)
    told.reset_mock()
    return endpoints


def entries() -> list[dict[str, Any]]:
    fields = ("action", "by", "reason", "endpoint", "title", "kind", "principal", "client")
    return list(AuditEntry.objects.order_by("pk").values(*fields))


def test_a_block_is_told_to_the_endpoints_that_it_is_for(told: mock.Mock) -> None:
    made = block("client", "rude", duration=None)
    assert (made.endpoint, made.reason, made.by, made.expires) == ("", "", "code", None)
    assert heard(told) == ["shop", "desk"]
    block("client", "rude", duration=None, endpoint="desk")
    assert heard(told) == ["desk"]
    with pytest.raises(ValueError, match="nowhere is no endpoint of MCP_SESSIONS"):
        block("client", "rude", duration=None, endpoint="nowhere")
    assert heard(told) == []
    assert len(active()) == 2


def test_a_block_of_an_endpoint_that_is_gone_can_be_lifted(told: mock.Mock) -> None:
    gone = Block.objects.create(kind="client", value="rude", endpoint="gone", by="ann")
    here = [block("client", "rude", duration=None, endpoint="shop") for _ in range(2)]
    heard(told)
    assert unblock([gone, *here]) == 3
    assert heard(told) == ["shop"]
    assert active() == []


def test_only_what_holds_is_lifted_and_counted(told: mock.Mock, caplog: pytest.LogCaptureFixture) -> None:
    holds = block("principal", "user:1", duration=timedelta(hours=1), by="ann")
    over = Block.objects.create(
        kind="client", value="rude", by="ann", expires=timezone.now() - timedelta(seconds=1)
    )
    heard(told)
    caplog.clear()
    assert unblock([over]) == 0
    assert (heard(told), caplog.messages) == ([], [])
    assert unblock([over, holds], by="bob") == 1
    assert caplog.messages == ["Lifted the block of principal 'user:1', by 'bob'."]
    assert unblock([holds]) == 0
    over.refresh_from_db()
    assert over.lifted is None


def test_of_two_who_lift_a_block_at_the_same_moment_one_does(told: mock.Mock) -> None:
    made = block("client", "rude", duration=None)
    one, other = (Block.objects.get(pk=made.pk) for _ in range(2))
    assert (unblock([one], by="ann"), unblock([other], by="bob")) == (1, 0)
    assert Block.objects.get(pk=made.pk).lifted == one.lifted
    assert [(each["action"], each["by"]) for each in entries()] == [("block", "code"), ("unblock", "ann")]


def test_a_block_lasts_as_long_as_it_is_said(told: mock.Mock, caplog: pytest.LogCaptureFixture) -> None:
    before = timezone.now()
    made = block("client", "rude", duration=timedelta(hours=1), reason="x" * 201, by="y" * 256)
    assert made.expires is not None
    assert before + timedelta(hours=1) <= made.expires <= timezone.now() + timedelta(hours=1)
    assert (made.reason, made.by) == ("x" * 200, "y" * 255)
    assert f"Blocked client 'rude' until {made.expires.isoformat()}, by " in caplog.text
    block("client", "rude", duration=None)
    assert "Blocked client 'rude' until it is lifted, by 'code': " in caplog.text


def test_acts_are_written_down_with_what_clients_wrote(told: mock.Mock) -> None:
    by_name = block("client", "ru\0de", duration=None, endpoint="shop", reason="a\ud800b", by="ann")
    block("principal", "user:1", duration=None)
    block("address", "192.0.2.1", duration=None)
    unblock([by_name], by="bob")
    first, second, third, last = entries()
    assert (first["action"], first["by"], first["endpoint"]) == ("block", "ann", "shop")
    assert (first["kind"], first["principal"]) == ("block", "")
    assert first["client"].startswith("ru")
    assert "client ru" in first["title"]
    assert (second["principal"], second["client"], second["title"]) == ("user:1", "", "principal user:1")
    assert (third["principal"], third["client"]) == ("", "")
    assert (last["action"], last["by"], last["reason"]) == ("unblock", "bob", "")


def test_while_the_store_is_away_the_log_says_when_a_block_holds(
    told: mock.Mock, caplog: pytest.LogCaptureFixture
) -> None:
    told.side_effect = StoreUnavailable("away")
    block("client", "rude", duration=None, endpoint="shop")
    assert "The nodes of endpoint 'shop' notice the change within half a minute: away" in caplog.text
    assert len(active()) == 1
