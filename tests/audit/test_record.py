"""What is written down of an operator's act, whatever texts it comes with."""

from datetime import timedelta

import pytest
from django.utils import timezone

from mcp_sessions import audit
from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.records import ANONYMOUS, Handshake, Session

pytestmark = pytest.mark.django_db


def session(client: str = "coder") -> Session:
    shaken = Handshake(protocol_version="2025-11-25", client_info={"name": client}, capabilities={})
    return Session(
        fingerprint="ab" * 32,
        handshake=shaken,
        principal=ANONYMOUS,
        created_ms=0,
        deadline_ms=1,
        last_activity_ms=0,
        expires_ms=1,
        active=True,
        initialized=True,
        requests=0,
        last_call="",
        log_level=None,
        tools=frozenset(),
    )


def test_an_act_is_written_down_with_its_record() -> None:
    audit.record(
        session(), action="cancel-call", by="ada", reason="stuck", endpoint="shop", title="slow_tool"
    )
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by, entry.reason, entry.endpoint) == ("cancel-call", "ada", "stuck", "shop")
    assert (entry.fingerprint, entry.kind, entry.client) == ("ab" * 32, "session", "coder")
    assert str(entry) == "slow_tool: cancelled a call"


def test_an_act_may_be_about_no_record() -> None:
    audit.record(action="drain", by="shell:root", title="node 1")
    assert AuditEntry.objects.get().done == "drained"


def test_texts_that_no_database_takes_are_made_to_fit() -> None:
    audit.record(session("\ud800nul\0" + "x" * 300), action="block", by="a" * 400, reason="r" * 1000)
    entry = AuditEntry.objects.get()
    assert entry.client.startswith("\N{REPLACEMENT CHARACTER}D800nul\N{REPLACEMENT CHARACTER}0000xxx")
    assert [len(entry.client), len(entry.by), len(entry.reason)] == [100, 150, 500]


def test_pruning_deletes_what_is_old_of_one_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "TOGETHER", 2)
    now = timezone.now()
    for days in (1, 2, 10, 11, 12):
        audit.record(action="drain", by="ada", endpoint="shop", when=now - timedelta(days=days))
    audit.record(action="drain", by="ada", endpoint="stock", when=now - timedelta(days=10))
    assert audit.prune(now - timedelta(days=5), endpoint="shop") == 3
    assert sorted(AuditEntry.objects.values_list("endpoint", flat=True)) == ["shop", "shop", "stock"]
