"""Who may do what in the admin."""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client

from tests.admin.pages import LIST, action, alive, body, confirmed, detail, history, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]


def test_records_have_four_permissions_and_no_others() -> None:
    codenames = Permission.objects.filter(
        content_type__app_label="mcp_sessions", content_type__model="mcpsession"
    ).values_list("codename", flat=True)
    assert set(codenames) == {
        "view_mcpsession",
        "expire_session",
        "export_session",
        "view_session_state",
    }


def test_the_model_needs_no_migration() -> None:
    call_command(
        "makemigrations", "mcp_sessions", check=True, dry_run=True, stdout=StringIO(), skip_checks=True
    )


def test_dumpdata_finds_no_rows_in_sessions() -> None:
    open_sessions([Opened()])
    out = StringIO()
    call_command("dumpdata", "mcp_sessions", stdout=out, skip_checks=True)
    call_command("dumpdata", "mcp_sessions", all=True, stdout=out, skip_checks=True)
    assert out.getvalue().replace("\n", "") == "[][]"


def test_a_stranger_is_sent_to_the_login_page() -> None:
    assert Client().get(LIST).url.startswith("/admin/login/")  # type: ignore[attr-defined]  # of a redirect


@pytest.mark.parametrize("codenames", [(), ("expire_session",)])
def test_staff_without_the_permission_to_view_see_nothing(codenames: tuple[str, ...]) -> None:
    [session] = open_sessions([Opened()])
    client = staff(*codenames)
    for url in (LIST, detail(session), history(session)):
        assert client.get(url).status_code == 403
    assert "mcp_sessions" not in body(client.get("/admin/"))


@pytest.mark.parametrize("address", ["", "api/records/", "export/csv/", "export/json/", "now/", "overview/"])
def test_staff_without_permissions_do_not_learn_which_users_there_are(address: str) -> None:
    client = staff("export_session", name="ada")
    known, unknown = (client.get(LIST + address, {"user": user}) for user in ("ada", "nobody"))
    assert known.status_code == unknown.status_code == 403
    assert known.content == unknown.content
    assert not unknown.cookies.get("messages")
    assert "nobody" not in body(client.get("/admin/"))


def test_staff_who_may_only_view_are_not_offered_to_expire(viewer: Client) -> None:
    [session] = open_sessions([Opened()])
    assert "force_expire" not in body(viewer.get(LIST))
    assert "force_expire" not in body(viewer.get(detail(session)))


@pytest.mark.parametrize("post", [action, confirmed])
def test_staff_who_may_only_view_cannot_expire(viewer: Client, post: Any) -> None:
    [session] = open_sessions([Opened()])
    assert viewer.post(LIST, post(session)).status_code == 403
    assert alive(session)


def test_staff_who_may_only_expire_cannot_without_seeing() -> None:
    [session] = open_sessions([Opened()])
    assert staff("expire_session").post(LIST, confirmed(session)).status_code == 403
    assert alive(session)


def test_staff_who_may_only_expire_reach_nothing_else_either() -> None:
    [session] = open_sessions([Opened()])
    client = staff("expire_session", "add_block", "export_session", "view_session_state")
    posts: dict[str, dict[str, Any]] = {
        LIST: confirmed(session, action="force_expire_and_block", block="client"),
        detail(session): {"notify": "1"},
        f"{LIST}end-all/": {"endpoint": "default"},
        f"{LIST}now/": {"cancel": "x"},
        f"{LIST}processes/": {"process": "x"},
        f"{LIST}find/": {"q": session.fingerprint},
    }
    for page, data in posts.items():
        assert client.post(page, data).status_code == 403, page
    for page in (*posts, f"{LIST}overview/", f"{LIST}export/csv/", f"{LIST}api/records/", history(session)):
        assert client.get(page).status_code == 403, page
    assert alive(session)


def test_expiring_needs_djangos_csrf_token(operator: Client) -> None:
    [session] = open_sessions([Opened()])
    operator.handler.enforce_csrf_checks = True
    assert operator.post(LIST, confirmed(session)).status_code == 403
    assert alive(session)


def test_nobody_adds_changes_or_deletes_sessions(admin_client: Client) -> None:
    [session] = open_sessions([Opened()])
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(detail(session), {"client_name": "x"}).status_code == 403
    assert admin_client.post(f"{LIST}{session.fingerprint}/delete/", {"post": "yes"}).status_code == 403
    assert alive(session)
