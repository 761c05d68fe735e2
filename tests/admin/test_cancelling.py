"""What is written down of a cancelled call, from the page and from a shell."""

import json
import time

import pytest
from django.contrib.auth.models import User
from django.test import Client

from mcp_sessions.admin.operating import cancel
from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.inventory.nodes import nodes_of
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import LIST, NOT_KNOWN, said

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


def test_the_audit_of_a_cancelled_call_names_the_user_as_other_entries_do(operator: Client) -> None:
    ada = User.objects.create_user("ada")
    began = round(time.time() * 1000)
    principals = [f"user:{ada.pk}", "anonymous", 'oauth:["https://issuer","bob"]']
    running = [
        [number, "session", f"{number:064x}", "tools/call:\x1bred", principal, "coder", "1", began]
        for number, principal in enumerate(principals)
    ]
    told = json.dumps({"host": "web", "pid": 7, "calls": len(running), "running": running})
    sync_store_for("default").run(nodes.report("0ff1ce5", told=told))
    operator.post(f"{LIST}now/", {"cancel": "0ff1ce5:0"})
    [node] = nodes_of(["default"])
    for call in node.running[1:]:
        cancel(call, by="shell:root")
    entries = AuditEntry.objects.order_by("pk")
    assert [each.principal for each in entries] == principals
    assert [each.principal_name for each in entries] == ["ada", "anonymous", "bob (https://issuer)"]
    assert [each.by for each in entries] == ["operator", "shell:root", "shell:root"]
    assert entries[0].title == f"\N{REPLACEMENT CHARACTER}red of {0:012x}"


def test_a_call_of_a_process_that_has_not_reported_is_not_said_to_have_ended(operator: Client) -> None:
    """Redis has lost what processes reported, and some have registered again."""
    store = sync_store_for("default")
    store.run(nodes.report("0ff1ce5", told=json.dumps({"host": "web", "pid": 7})))
    store.run(nodes.beat("1057", about='{"host": "web", "pid": 8}', forget_after_ms=60_000))
    for call, answer in (("0ff1ce5:1", "That call has ended."), ("1057:1", NOT_KNOWN), ("90ne:1", NOT_KNOWN)):
        assert said(operator.post(f"{LIST}now/", {"cancel": call}, follow=True)) == [answer]


def test_a_call_of_a_node_that_is_silent_is_not_said_to_be_cancelled(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_sessions.inventory.nodes.UNREGISTERED_SILENT_AFTER_SECONDS", -1)
    running = [[1, "session", f"{1:064x}", "tools/call:slow", "anonymous", "coder", "1", 1]]
    told = json.dumps({"host": "web", "pid": 7, "calls": 1, "running": running})
    sync_store_for("default").run(nodes.report("0ff1ce5", told=told))
    answer = operator.post(f"{LIST}now/", {"cancel": "0ff1ce5:1"}, follow=True)
    assert said(answer) == ["The node of slow gives no sign of life. It cancels the call if it goes on."]
    assert AuditEntry.objects.get().action == "cancel-call"
