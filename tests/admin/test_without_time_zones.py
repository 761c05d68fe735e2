"""A project with USE_TZ = False: its database has moments without a time zone, and the stores have them with one."""

import re
from io import StringIO

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from mcp_sessions.models import AuditEntry, Block, EndingJob, PersonalToken
from tests.admin.pages import LIST, action, alive, body, confirmed, detail, history
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


@pytest.fixture(autouse=True)
def without_time_zones(settings: LazySettings) -> None:
    settings.USE_TZ = False


def run(*words: str) -> str:
    out = StringIO()
    call_command("mcp_sessions", *words, stdout=out, stderr=StringIO(), skip_checks=True)
    return out.getvalue()


def test_the_pages_of_records_work(admin_client: Client) -> None:
    [session] = open_sessions([Opened(client="ada")])
    assert re.search(r"\d+ s ago", body(admin_client.get(LIST)))
    assert "in 59 min, if idle" in body(admin_client.get(detail(session)))
    assert admin_client.get(LIST, {"activity": "last-60"}).context["cl"].result_count == 1
    assert admin_client.post(LIST, action(session)).status_code == 200
    admin_client.post(LIST, confirmed(session))
    assert not alive(session)
    ours = "/admin/mcp_sessions"
    for page in (
        history(session),
        f"{ours}/auditentry/{AuditEntry.objects.get().pk}/change/",
        f"{ours}/endingjob/{EndingJob.objects.get().pk}/change/",
    ):
        assert "ada" in body(admin_client.get(page)), page


def test_commands_take_and_print_times() -> None:
    User.objects.create_user("ada")
    [session] = open_sessions([Opened()])
    assert re.search(r"\d+ s ago", run("list", "--active-within", "1h"))
    run("block", "client", "rude", "--for", "2999-01-31")
    assert f"{Block.objects.get().expires:%Y-%m-%d}" == "2999-01-31"
    for moment in ("2999-01-31", "2999-01-31T12:00:00+02:00", "12h"):
        run("token", "create", "ada", "--expires", moment)
    assert run("token", "list").count("until 2999-01-31") == 2
    assert PersonalToken.objects.count() == 3
    with pytest.raises(CommandError, match="not over"):
        run("token", "create", "ada", "--expires", "2001-01-31")
    assert "ended" in run("expire", session.fingerprint)
