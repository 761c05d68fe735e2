"""What is written down of an operator's act, whatever texts it comes with."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from mcp_sessions import audit
from mcp_sessions.audit.models import AuditEntry, EndingJob
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


def test_pruning_of_all_endpoints_deletes_what_is_about_none_too() -> None:
    moment = timezone.now()
    for endpoint in ("shop", ""):
        for seconds in (0, 1):
            audit.record(
                action="drain", by="ada", endpoint=endpoint, when=moment - timedelta(seconds=seconds)
            )
    assert audit.prune(moment) == 2
    assert AuditEntry.objects.count() == 2
    assert audit.prune(moment, endpoint="stock") == 0


@pytest.mark.parametrize(
    ("action", "outcome", "words"),
    [
        ("force-expire", "ended", "force-expired"),
        ("logout", "ended", "ended at logout"),
        ("force-expire", "intended", "about to end"),
        ("force-expire", "gone", "was already gone"),
        ("force-expire", "unknown", "gone, and it is not known by whom"),
        ("drain", "done", "drained"),
        ("drain", "unconfirmed", "drained (asked, and not confirmed by Redis)"),
        ("of another release", "done", "of another release"),
        ("block", "of another release", "of another release"),
    ],
)
def test_an_entry_says_what_it_is_about_and_what_became_of_it(action: str, outcome: str, words: str) -> None:
    facts = {"action": action, "outcome": outcome}
    assert str(AuditEntry(title="a\u202eb", fingerprint="ab" * 32, **facts)) == f"a\ufffdb: {words}"
    assert str(AuditEntry(fingerprint="ab" * 32, endpoint="shop", **facts)) == f"{'ab' * 6}: {words}"
    assert str(AuditEntry(endpoint="shop", **facts)) == f"shop: {words}"


def test_a_job_says_its_number_and_its_state() -> None:
    job = EndingJob(pk=12_345)
    assert (str(job), job.state_word) == ("job 12345", "running")
    assert EndingJob(state="of another release").state_word == "of another release"
    assert (job.expected, job.ended, job.gone, job.unknown, job.position, job.batch) == (0, 0, 0, 0, {}, "")


def test_no_entry_is_written_over_another() -> None:
    entry = audit.record(action="drain", by="ada")
    with pytest.raises(IntegrityError), transaction.atomic():
        audit.record(action="block", by="bob", pk=entry.pk)
    assert AuditEntry.objects.get().by == "ada"
