"""What operators ask for, where clocks are put forward or back meanwhile, or that of the machine is wrong."""

import json
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from django.conf import LazySettings, settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from django.utils.formats import date_format

from mcp_sessions import blocks
from mcp_sessions.models import Block, PersonalToken
from tests.admin.pages import LIST, alive, body, listed
from tests.admin.test_overview import OVERVIEW, count
from tests.support.sessions import Opened, open_sessions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_endpoint")]

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(params=[True, False], ids=["USE_TZ", "without USE_TZ"])
def berlin(settings: LazySettings, request: pytest.FixtureRequest) -> None:
    settings.TIME_ZONE, settings.USE_TZ = "Europe/Berlin", request.param


def run(*words: str) -> str:
    out = StringIO()
    call_command("mcp_sessions", *words, stdout=out, stderr=StringIO(), skip_checks=True)
    return out.getvalue()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("day", ["2999-01-31", "2999-07-31"], ids=["winter", "summer"])
def test_a_block_or_a_token_until_a_day_ends_when_that_day_begins(day: str) -> None:
    run("block", "client", "rude", "--for", day)
    User.objects.create_user("ada")
    run("token", "create", "ada", "--expires", day)
    begins = datetime.fromisoformat(day).replace(tzinfo=BERLIN).timestamp()
    for until in (Block.objects.get().expires, PersonalToken.objects.get().expires):
        assert until is not None
        assert abs(until.timestamp() - begins) < 60


@pytest.mark.usefixtures("berlin")
def test_a_block_lasts_as_long_as_was_said_also_if_clocks_are_put_forward_or_back_meanwhile() -> None:
    for days in (60, 120, 180, 240, 300):
        made = blocks.block("client", "rude", duration=timedelta(days=days))
        assert made.expires is not None
        assert abs(made.expires.timestamp() - time.time() - days * 86_400) < 60


def test_what_was_used_lately_is_told_by_the_clock_of_the_store(admin_client: Client) -> None:
    """Here that of this machine is an hour ahead."""
    [session] = open_sessions([Opened()])
    wrong = datetime.now(UTC) + timedelta(hours=1)
    with mock.patch.object(timezone, "now", return_value=wrong):
        assert listed(admin_client.get(LIST, {"activity": "last-600"})) == [session.fingerprint]
        assert listed(admin_client.get(LIST, {"activity": "idle-600"})) == []
        assert run("list", "--active-within", "10m").splitlines()[-1] == "1 session"
        assert "0 ended" in run("expire", "--idle-for", "10m", "--yes")
    assert alive(session)


@pytest.mark.usefixtures("berlin")
def test_the_overview_has_all_times_in_one_time_zone(admin_client: Client) -> None:
    count(tools={"add": [(20, "ok")]})
    page = admin_client.get(OVERVIEW)
    since = page.context["overview"].figures.tools_since.astimezone(BERLIN)
    assert f"Counted since {date_format(since, 'DATETIME_FORMAT')}" in body(page)


@pytest.mark.usefixtures("berlin")
def test_commands_print_moments_with_their_time_zone() -> None:
    block = json.loads(run("block", "client", "rude", "--for", "2999-07-31", "--json"))
    assert datetime.fromisoformat(block["expires"]) == datetime(2999, 7, 31, tzinfo=BERLIN)
    User.objects.create_user("ada")
    run("token", "create", "ada", "--expires", "2999-07-31T12:00:00+02:00")
    zone, hours = ("UTC", (22, 10)) if settings.USE_TZ else ("CEST", (0, 12))
    assert f"2999-07-{30 if settings.USE_TZ else 31} {hours[0]:02}:00 {zone}" in run("blocks")
    assert f"until 2999-07-31 {hours[1]:02}:00 {zone}" in run("token", "list")
    [session] = open_sessions([Opened()])
    job = json.loads(run("expire", session.fingerprint, "--json"))
    assert datetime.fromisoformat(job["created"]).tzinfo is not None


def test_where_there_is_no_endpoint_nothing_was_used_lately(settings: LazySettings) -> None:
    settings.MCP_SESSIONS = {}
    assert run("list", "--active-within", "10m", "--idle-for", "1m").splitlines()[-1] == "0 records"
