"""What the pages of the admin do not let anybody do, learn, or see at once."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django.utils.functional import Promise

from mcp_sessions import audit, blocks
from mcp_sessions.admin.columns import SECTIONS
from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.models import Block, MCPSession, PersonalToken
from mcp_sessions.tokens import create_token
from tests.admin.pages import LIST, body, confirmed, detail, endpoint, history, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

OURS = "/admin/mcp_sessions/"
BLOCKS = f"{OURS}block/"
JOBS = f"{OURS}endingjob/"
TOKENS = f"{OURS}personaltoken/"


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def job(**more: Any) -> EndingJob:
    selection = {
        "sources": [{"alias": "default", "query": {"kind": "session"}}],
        "cut_off_ms": {"default": 1},
    }
    return EndingJob.objects.create(action="force-expire", by="ada", selection=selection, **more)


def test_nobody_is_offered_to_add_change_or_delete_what_is_only_shown(admin_client: Client) -> None:
    [session] = open_sessions([Opened()])
    entry, block = (
        audit.record(action="drain", by="ada"),
        blocks.block("client", "x", duration=None, by="ada"),
    )
    assert admin_client.get(f"{JOBS}add/").status_code == 403
    for page in (f"{JOBS}{job().pk}/delete/", f"{BLOCKS}{block.pk}/delete/"):
        assert admin_client.post(page, {"post": "yes"}).status_code == 403, page
    for page in (LIST, JOBS, f"{OURS}auditentry/", detail(session), f"{OURS}auditentry/{entry.pk}/change/"):
        shown, model = body(admin_client.get(page)), page.split("/")[3]
        offers = (f'{model}/add/"', '/delete/"', 'name="_save"', "delete_selected")
        assert [each for each in offers if each in shown] == [], page


def test_a_block_that_was_made_is_shown_and_stays_as_it_is(admin_client: Client) -> None:
    block = blocks.block("client", "rude", duration=timedelta(hours=1), by="ada", reason="floods")
    page = body(admin_client.get(f"{BLOCKS}{block.pk}/change/"))
    assert all(f"field-{name}" in page for name in ("shown_value", "state", "by", "created", "lifted"))
    assert '<input type="text"' not in page
    posted = {"kind": "address", "value": "192.0.2.1", "reason": "changed", "endpoint": ""}
    admin_client.post(f"{BLOCKS}{block.pk}/change/", posted)
    block.refresh_from_db()
    assert (block.kind, block.value, block.reason, block.by) == ("client", "rude", "floods", "ada")


def test_a_form_for_a_block_has_what_its_address_says_and_lasts_a_day(admin_client: Client) -> None:
    page = admin_client.get(f"{BLOCKS}add/", {"kind": "client", "value": "rude"})
    initial = page.context["adminform"].form.initial
    assert (initial["kind"], initial["value"]) == ("client", "rude")
    assert abs(initial["expires"] - timezone.now() - timedelta(days=1)) < timedelta(minutes=1)
    assert 'size="60"' in body(page)


@pytest.mark.parametrize(("may_change", "state"), [(False, "active"), (True, "lifted")])
def test_who_may_change_blocks_lifts_those_that_hold(may_change: bool, state: str) -> None:
    first, second = (blocks.block("client", name, duration=None, by="ada") for name in ("x", "y"))
    blocks.unblock([second], by="ada")
    client = staff("view_block", *(["change_block"] if may_change else []))
    client.post(BLOCKS, {"action": "lift", "_selected_action": [first.pk, second.pk]})
    first.refresh_from_db()
    assert first.state == state
    logged = LogEntry.objects.values_list("object_id", "change_message")
    assert list(logged) == ([(str(first.pk), "Lifted.")] if may_change else []), "the other was lifted before"


@pytest.mark.parametrize(
    "address",
    [
        "auditentry/?job__reason__startswith=a",
        "endingjob/?entries__reason__startswith=a",
        "personaltoken/?user__password__startswith=a",
        "personaltoken/?user__email=a",
    ],
)
def test_no_address_asks_what_is_stored_elsewhere(admin_client: Client, address: str) -> None:
    """From whether a row is listed, one could guess a password, character by character."""
    assert admin_client.get(OURS + address).status_code == 400


def test_who_may_end_records_finds_the_jobs_and_who_may_not_does_not() -> None:
    for permissions, finds in (
        (["view_mcpsession", "expire_session"], True),
        (["view_endingjob"], True),
        (["view_mcpsession"], False),
        (["expire_session"], False),
    ):
        client = staff(*permissions, name=" ".join(permissions))
        assert (JOBS in body(client.get("/admin/"))) is finds, permissions
        assert (client.get(JOBS).status_code == 200) is finds, permissions


def test_staff_who_may_not_view_do_not_learn_which_records_there_were(admin_client: Client) -> None:
    there, ended = open_sessions([Opened(), Opened()])
    admin_client.post(LIST, confirmed(ended))
    client = staff("expire_session")
    for page in (detail(there), detail(ended), detail(Opened()), history(ended)):
        assert client.get(page).status_code == 403


@pytest.fixture
def many() -> None:
    AuditEntry.objects.bulk_create([AuditEntry(action="drain", by="ada") for _ in range(201)])


@pytest.mark.usefixtures("many")
def test_a_page_of_entries_has_fifty_and_at_most_two_hundred_if_all_are_asked_for(
    admin_client: Client,
) -> None:
    page = admin_client.get(f"{OURS}auditentry/").context["cl"]
    assert (len(page.result_list), page.can_show_all) == (50, False)
    AuditEntry.objects.latest("pk").delete()
    page = admin_client.get(f"{OURS}auditentry/", {"all": ""}).context["cl"]
    assert (len(page.result_list), page.can_show_all) == (200, True)


def test_the_history_of_a_record_has_a_hundred_entries_a_page(admin_client: Client) -> None:
    fingerprint = "ab" * 32
    entries = [
        AuditEntry(
            action="force-expire", outcome="ended", by="ada", fingerprint=fingerprint, reason=f"reason {n}"
        )
        for n in range(101)
    ]
    AuditEntry.objects.bulk_create(entries)
    pages = [
        body(admin_client.get(f"{LIST}{fingerprint}/history/{query}"))
        for query in ("", "?p=1", "?p=2", "?p=x")
    ]
    assert [page.count("Reason: reason ") for page in pages] == [100, 100, 1, 100]
    assert ["Reason: reason 100." in page for page in pages] == [True, True, False, True]
    assert "Reason: reason 0." in pages[2]


@pytest.mark.parametrize("model", [MCPSession, AuditEntry, EndingJob, Block, PersonalToken])
def test_each_column_and_field_has_words_of_its_own(model: Any) -> None:
    """They are translated; what Django makes of the name of a method is not."""
    pages = admin.site._registry[model]
    names = {*pages.list_display, *(pages.get_fields(None, model()) if model is not MCPSession else ())}  # type: ignore[arg-type]
    if model is MCPSession:
        names |= {field for sections in SECTIONS.values() for _, fields in sections for field in fields}
        names |= {"state_sizes"}
    methods = {name: getattr(pages, name) for name in names - {"__str__"} if hasattr(pages, name)}
    assert [name for name, each in methods.items() if not isinstance(each.short_description, Promise)] == []


def test_columns_say_by_what_they_are_sorted() -> None:
    records, jobs = admin.site._registry[MCPSession], admin.site._registry[EndingJob]
    assert records.activity.admin_order_field == "last_activity"  # type: ignore[attr-defined]
    assert records.errors.empty_value_display == ""  # type: ignore[attr-defined]
    assert jobs.shown_ended.admin_order_field == "ended"  # type: ignore[attr-defined]
    assert jobs.shown_expected.admin_order_field == "expected"  # type: ignore[attr-defined]


def test_what_cannot_be_stored_of_long_texts_is_left_out(admin_client: Client) -> None:
    [session] = open_sessions([Opened(client="c" * 300, principal="user:1")])
    posted = confirmed(session, action="force_expire_and_block", block="principal", reason="r" * 600)
    admin_client.post(LIST, posted)
    assert Block.objects.get().reason == "r" * 200
    assert EndingJob.objects.get().reason == "r" * 500
    assert len(LogEntry.objects.get().object_repr) <= 200


def test_tokens_of_others_are_listed_with_their_users(admin_client: Client) -> None:
    made, _ = create_token(User.objects.create_user("ann"), name="laptop")
    assert [each.pk for each in admin_client.get(TOKENS, {"q": "ann"}).context["cl"].result_list] == [made.pk]
    assert [
        each.pk for each in admin_client.get(TOKENS, {"user": str(made.user_id)}).context["cl"].result_list
    ] == [made.pk]
