"""The pages on an AdminSite besides Django's default one: they work, and lead to no page of another site."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client

from mcp_sessions import blocks
from mcp_sessions.audit.models import AuditEntry, EndingJob
from mcp_sessions.models import Block
from tests.admin import sites
from tests.admin.pages import action, alive, body, confirmed, said
from tests.support.sessions import Opened, open_sessions

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("one_endpoint"),
    pytest.mark.urls("tests.admin.sites"),
]

SITE = "/operators/"
OF_OURS = f"{SITE}mcp_sessions/"
LIST = f"{OF_OURS}mcpsession/"


def pages(browser: Client) -> Iterator[Any]:
    """Every page, with what it links to: a session that has a sibling and a user, a job, an entry, a block."""
    ada = User.objects.create_user("ada")
    mine, _sibling = open_sessions([Opened(principal=f"user:{ada.pk}") for _ in range(2)])
    yield browser.get(f"{SITE}")
    yield browser.get(LIST)
    yield browser.get(f"{LIST}{mine.fingerprint}/change/")
    for name in ("now", "processes", "overview", "end-all"):
        yield browser.get(f"{LIST}{name}/")
    yield browser.get(f"{SITE}auth/user/{ada.pk}/change/")
    yield browser.get(f"{LIST}of-user/{ada.pk}/force-expire/")
    yield browser.post(LIST, action(mine))
    yield browser.post(LIST, confirmed(mine), follow=True)
    yield browser.get(f"{LIST}{mine.fingerprint}/history/")
    yield browser.get(f"{OF_OURS}endingjob/")
    yield browser.get(f"{OF_OURS}endingjob/{EndingJob.objects.get().pk}/change/")
    yield browser.get(f"{OF_OURS}auditentry/")
    yield browser.get(f"{OF_OURS}auditentry/{AuditEntry.objects.get().pk}/change/")
    blocks.block("client", "mallory", duration=timedelta(hours=1), by="olga")
    yield browser.get(f"{OF_OURS}block/")
    yield browser.get(f"{OF_OURS}block/{Block.objects.get().pk}/change/")
    yield browser.get(f"{OF_OURS}personaltoken/add/")


def test_every_page_works_and_leads_to_pages_of_the_same_site(admin_client: Client) -> None:
    for page in pages(admin_client):
        assert page.status_code == 200, page.request["PATH_INFO"]
        found = re.findall(r'(?:href|action)="(/[^"]*)"', body(page))
        elsewhere = [each for each in found if not each.startswith((SITE, "/static/")) and each != "/"]
        assert elsewhere == [], page.request["PATH_INFO"]


def test_the_user_of_a_session_is_linked_on_the_same_site(admin_client: Client) -> None:
    ada = User.objects.create_user("ada")
    mine, sibling = open_sessions([Opened(principal=f"user:{ada.pk}") for _ in range(2)])
    page = body(admin_client.get(f"{LIST}{mine.fingerprint}/change/"))
    assert f'href="{SITE}auth/user/{ada.pk}/change/"' in page
    assert f'href="{LIST}{sibling.fingerprint}/change/"' in page


def test_links_are_in_the_language_of_the_address(admin_client: Client, settings: LazySettings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    ada = User.objects.create_user("ada")
    [session] = open_sessions([Opened(principal=f"user:{ada.pk}")])
    for language in ("en", "de", "en"):
        site = f"/{language}/translated/"
        page = body(admin_client.get(f"{site}mcp_sessions/mcpsession/"))
        assert f'href="{site}auth/user/{ada.pk}/change/"' in page
        assert f'href="{site}mcp_sessions/mcpsession/{session.fingerprint}/change/' in page


def test_a_site_gets_every_model_of_the_app() -> None:
    registered = {model for model in sites.operators._registry if model._meta.app_label == "mcp_sessions"}
    assert registered == set(apps.get_app_config("mcp_sessions").get_models())
    assert all(
        type(sites.operators._registry[each]) is type(admin.site._registry[each]) for each in registered
    )


def test_a_site_without_pages_of_jobs_ends_sessions_all_the_same(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = "/sessions/mcp_sessions/mcpsession/"
    one, two = open_sessions([Opened(), Opened()])
    response = admin_client.post(listed, confirmed(one), follow=True)
    assert said(response) == ["Force-expired 1 session. No node serves it any more."]
    assert not alive(one)
    monkeypatch.setattr("mcp_sessions.admin.actions.AT_ONCE", -1)
    response = admin_client.post(listed, confirmed(two), follow=True)
    [text] = said(response)
    assert f"manage.py mcp_sessions jobs resume {EndingJob.objects.latest('pk').pk}" in text


def test_the_page_of_a_job_has_no_link_to_an_audit_that_its_site_does_not_have(admin_client: Client) -> None:
    [session] = open_sessions([Opened()])
    admin_client.post("/jobs/mcp_sessions/mcpsession/", confirmed(session))
    page = admin_client.get(f"/jobs/mcp_sessions/endingjob/{EndingJob.objects.get().pk}/change/")
    assert page.status_code == 200
    assert "auditentry" not in body(page)
