"""Whom the action of the list blocks, for how long, and what it does where it has been posted before."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone

from mcp_sessions.models import Block
from tests.admin.pages import LIST, action, alive, answer, confirmed, endpoint, said
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

BLOCK = {"action": "force_expire_and_block"}
LEFT_OUT = "Clients that are anonymous, or have no name, were not blocked."


@pytest.fixture(autouse=True)
def in_memory(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MCP_SESSIONS = {"default": endpoint()}


def block(client: Client, *opened: Opened, **more: str) -> list[str]:
    """What is said when these are ended and blocked."""
    return said(client.post(LIST, confirmed(*opened, **BLOCK, **more), follow=True))


@pytest.mark.parametrize(
    ("duration", "lasts"),
    [
        ("an hour", timedelta(hours=1)),
        ("a day", timedelta(days=1)),
        ("a week", timedelta(days=7)),
        ("30 days", timedelta(days=30)),
        ("until it is lifted", None),
    ],
)
def test_a_block_lasts_as_long_as_is_chosen(
    admin_client: Client, duration: str, lasts: timedelta | None
) -> None:
    [session] = open_sessions([Opened(client="Rude")])
    assert block(admin_client, session, block="client", duration=duration)[0] == "Blocked: 1."
    made = Block.objects.get()
    assert (made.value, made.endpoint, made.by) == ("Rude", "default", "admin")
    found = None if made.expires is None else made.expires - made.created
    assert found == lasts or abs(found - lasts) < timedelta(minutes=1)  # type: ignore[operator]  # both are there


def test_without_a_duration_it_is_the_first_one(admin_client: Client) -> None:
    [session] = open_sessions([Opened(client="rude")])
    block(admin_client, session, block="client")
    made = Block.objects.get()
    assert made.expires is not None
    assert made.expires - made.created < timedelta(hours=1, minutes=1)


@pytest.mark.parametrize(
    ("kind", "values", "is_said"),
    [("client", ["Anon", "anonymous"], True), ("principal", ["user:1"], True), ("client", ["Anon"], False)],
)
def test_nobody_is_blocked_who_has_no_name(
    admin_client: Client, kind: str, values: list[str], is_said: bool
) -> None:
    """A client may call itself as those are called who are nobody."""
    named = [Opened(client="Anon"), Opened(client="anonymous", principal="user:1"), Opened(client="")]
    opened = open_sessions(named if is_said else named[:1])
    told = block(admin_client, *opened, block=kind)
    assert sorted(Block.objects.values_list("value", flat=True)) == values
    assert told[0] == f"Blocked: {len(values)}."
    assert (LEFT_OUT in told) is is_said
    assert not any(map(alive, opened))


def test_a_block_from_before_the_question_does_not_stand_for_the_one_that_is_made(
    admin_client: Client,
) -> None:
    """It ends earlier, although it was made for as long."""
    [session] = open_sessions([Opened(client="rude")])
    began = timezone.now() - timedelta(minutes=30)
    facts: dict[str, Any] = {"kind": "client", "value": "rude", "endpoint": "default", "by": "admin"}
    Block.objects.create(**facts, created=began, expires=began + timedelta(hours=1))
    asked = admin_client.post(LIST, action(session) | BLOCK)
    posted = answer(asked, block="client", duration="an hour")
    admin_client.post(LIST, posted)
    assert Block.objects.count() == 2
    admin_client.post(LIST, posted)
    assert Block.objects.count() == 2, "and is made once"


def test_what_somebody_else_has_blocked_is_blocked_all_the_same(admin_client: Client) -> None:
    [session] = open_sessions([Opened(client="rude")])
    asked = admin_client.post(LIST, action(session) | BLOCK)
    until = timezone.now() + timedelta(days=1)
    for other in ({"by": "ada"}, {"kind": "principal"}, {"endpoint": ""}, {"value": "other"}):
        facts = {"kind": "client", "value": "rude", "endpoint": "default", "by": "admin", "expires": until}
        Block.objects.create(**(facts | other))
    admin_client.post(LIST, answer(asked, block="client", duration="an hour"))
    assert Block.objects.filter(kind="client", value="rude", endpoint="default", by="admin").count() == 1
