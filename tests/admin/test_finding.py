"""The search box: what identifies a record leads to it, and credentials never become part of an address."""

import hashlib

import pytest
from django.test import Client

from tests.admin.pages import LIST, body, detail, listed, said, staff
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]

FIND = f"{LIST}find/"
ID = "1" + "0" * 12 + "Az09_-" * 10
OF_ID = hashlib.sha256(ID.encode()).hexdigest()


def test_a_session_id_leads_to_its_record_and_stays_out_of_the_address(viewer: Client) -> None:
    [session] = open_sessions([Opened(fingerprint=OF_ID)])
    for text in (ID, f"  {ID} ", f"Mcp-Session-Id: {ID}"):
        response = viewer.post(FIND, {"q": text}, follow=True)
        assert response.redirect_chain == [(detail(session), 302)]


def test_the_id_of_a_session_that_is_gone_stays_out_of_the_address_too(viewer: Client) -> None:
    response = viewer.post(FIND, {"q": ID, "list": "?client=x"}, follow=True)
    assert not any(ID in address for address, _ in response.redirect_chain)
    assert "no longer exists" in said(response)[0]


def test_a_fingerprint_its_digits_and_a_handle_lead_to_their_record(viewer: Client) -> None:
    session, handle = open_sessions(
        [Opened(), Opened(kind="handle", label="basket", name="basket-483-920-117")]
    )
    for text, record in (
        (session.fingerprint, session),
        (session.fingerprint[:12].upper(), session),
        ("Basket 483 920 117", handle),
    ):
        assert viewer.post(FIND, {"q": text}).headers["Location"] == detail(record)


def test_the_text_of_a_handle_never_becomes_part_of_an_address(viewer: Client) -> None:
    response = viewer.post(FIND, {"q": "basket-483-920-117", "list": "?kind=handle&q=x&after=1-2"})
    assert response.headers["Location"] == f"{LIST}?kind=handle"
    alike = open_sessions(
        [
            Opened(kind="handle", label="basket", name="basket-483-920-117", principal=f"user:{n}")
            for n in (1, 2)
        ]
    )
    response = viewer.post(FIND, {"q": "basket-483-920-117"}, follow=True)
    assert response.redirect_chain == [(LIST, 302)]
    assert all(handle.fingerprint[:12] in said(response)[-1] for handle in alike)


def test_other_texts_are_searched_for_in_the_list_as_it_is(viewer: Client) -> None:
    [one, _] = open_sessions([Opened(client="claude-code"), Opened(client="cursor")])
    response = viewer.post(FIND, {"q": "claude", "list": "?o=5&protocol=2025-11-25&q=old"}, follow=True)
    assert response.redirect_chain == [(f"{LIST}?o=5&protocol=2025-11-25&q=claude", 302)]
    assert listed(response) == [one.fingerprint]
    assert viewer.post(FIND, {"q": " "}).headers["Location"] == LIST


def test_the_list_has_the_form(viewer: Client) -> None:
    page = body(viewer.get(LIST, {"client": "claude"}))
    assert f'method="post" action="{FIND}"' in page
    assert '<input type="hidden" name="list" value="?client=claude">' in page


def test_only_those_who_may_view_may_look_up(viewer: Client) -> None:
    assert staff(name="nobody").post(FIND, {"q": ID}).status_code == 403
    assert viewer.get(FIND, {"q": "x"})["Location"] == LIST
