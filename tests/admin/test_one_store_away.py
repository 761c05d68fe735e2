"""Two endpoints on two Redis servers, one of which is away: the other can be looked at and operated."""

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory

from mcp_sessions import metrics
from mcp_sessions.audit.models import EndingJob
from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for
from mcp_sessions.tokens import create_token, revoke_token
from tests.admin.pages import (
    LIST,
    action,
    alive,
    body,
    confirmed,
    detail,
    endpoint,
    history,
    listed,
    on_redis,
    said,
    staff,
)
from tests.support.redis import RedisServer, run_server
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db

AWAY = "The store of stock cannot be reached"
NODE = {"host": "web-1", "pid": 7, "process": "p", "version": "1", "calls": 1, "running": []}


@pytest.fixture(scope="module")
def gone() -> Iterator[str]:
    """The address of a server that is away."""
    with run_server() as server:
        server.stop()
        yield server.url


@pytest.fixture(autouse=True)
def shop(settings: LazySettings, redis_server: RedisServer, gone: str) -> tuple[Opened, Opened]:
    """Two sessions at the endpoint whose store is there. It is the second: what is away is read first."""
    settings.CACHES = {**on_redis(redis_server.url), "other": on_redis(gone)["default"]}
    settings.MCP_SESSIONS = {"stock": endpoint(PATH="stock", CACHE="other"), "shop": endpoint()}
    one, two = open_sessions([Opened(client="one"), Opened(client="two", principal="user:77")], "shop")
    return one, two


def run(*arguments: Any) -> str:
    out = StringIO()
    call_command("mcp_sessions", *arguments, stdout=out, skip_checks=True)
    return out.getvalue()


def test_the_list_shows_what_there_is_and_names_the_endpoint_that_is_away(
    viewer: Client, shop: tuple[Opened, Opened]
) -> None:
    page = viewer.get(LIST)
    assert set(listed(page)) == {each.fingerprint for each in shop}
    assert AWAY in body(page)
    assert listed(viewer.get(LIST, {"q": "one"})) == [shop[0].fingerprint]
    chosen = viewer.get(LIST, {"endpoint": "shop"})
    assert len(listed(chosen)) == 2
    assert AWAY not in body(chosen)
    assert viewer.get(LIST, {"endpoint": "stock"}).status_code == 503


def test_records_of_the_other_can_be_looked_at_found_and_ended(
    operator: Client, shop: tuple[Opened, Opened]
) -> None:
    one, two = shop
    assert "one" in body(operator.get(detail(one)))
    assert operator.get(history(one)).status_code == 200
    found = operator.post(f"{LIST}find/", {"q": one.fingerprint[:12]})
    assert found["Location"] == detail(one)
    asked = operator.post(LIST, action(one))
    assert "Are you sure" in body(asked)
    assert AWAY in body(asked)
    assert operator.post(LIST, confirmed(one)).status_code == 302
    assert operator.post(f"{LIST}?client=two", confirmed(two, select_across="1")).status_code == 302
    assert [alive(each, "shop") for each in shop] == [False, False]


def test_a_record_that_may_be_where_the_store_is_away_is_not_said_to_be_gone(operator: Client) -> None:
    unknown = Opened()
    for address in (detail(unknown), history(unknown)):
        response = operator.get(address)
        assert response.status_code == 503
        assert "no longer exists" not in body(response)


def test_a_page_that_refreshes_itself_goes_on_when_the_store_is_back(viewer: Client) -> None:
    asked = body(viewer.get(LIST, {"endpoint": "stock"}))
    assert 'data-mcp-refresh="10"' in asked
    assert asked.count("mcp_sessions/refresh.js") == 1
    posted = viewer.post(f"{LIST}find/?endpoint=stock", {"q": "abababab"})
    assert posted.status_code == 503
    assert "data-mcp-refresh" not in body(posted), "nothing is posted twice"


def test_what_a_user_has_at_the_other_can_be_ended(operator: Client, shop: tuple[Opened, Opened]) -> None:
    user = User.objects.create_user("ada", pk=77)
    page = f"{LIST}of-user/{user.pk}/force-expire/"
    asked = body(operator.get(page))
    assert AWAY in asked
    assert operator.post(page, {"post": "yes"}).status_code == 302
    assert [alive(each, "shop") for each in shop] == [True, False]


def test_all_sessions_of_the_other_can_be_ended(operator: Client, shop: tuple[Opened, Opened]) -> None:
    page = f"{LIST}end-all/"
    asked = body(operator.get(page))
    assert "shop: 2 sessions" in asked
    assert "stock: cannot be reached now" in asked
    ended = operator.post(page, {"endpoint": ["stock", "shop"]}, follow=True)
    assert "The store of “stock” cannot be reached." in said(ended)
    assert [alive(each, "shop") for each in shop] == [False, False]
    assert operator.post(page, {"endpoint": ["stock"]}).status_code == 503


def test_what_runs_there_is_shown_and_can_be_cancelled_and_drained(operator: Client) -> None:
    running = [[1, "session", "ab" * 32, "tools/call:slow", "anonymous", "one", "1", 1_700_000_000_000]]
    sync_store_for("shop").run(nodes.report("0ff1ce5", told=json.dumps({**NODE, "running": running})))
    for page, words in (("now/", "slow"), ("processes/", "web-1"), ("overview/", "does not answer")):
        shown = body(operator.get(LIST + page))
        assert words in shown
        assert page == "overview/" or AWAY in shown
    assert AWAY not in body(operator.get(f"{LIST}now/?endpoint=shop"))
    assert (
        "Asked to cancel slow." in said(operator.post(f"{LIST}now/", {"cancel": "0ff1ce5:1"}, follow=True))[0]
    )
    ended = said(operator.post(f"{LIST}now/", {"cancel": "0ff1ce5:2"}, follow=True))
    assert ended == ["That call has ended, unless it runs at stock, which cannot be reached."]
    assert operator.post(f"{LIST}processes/", {"process": "p", "drains": "1"}).status_code == 302


def test_programs_are_told_and_exports_are_whole_or_not_at_all(shop: tuple[Opened, Opened]) -> None:
    exporter = staff("view_mcpsession", "export_session", name="exporter")
    answer = exporter.get(f"{LIST}api/records/").json()
    assert (answer["total"], answer["total_is_exact"], answer["unreachable"]) == (2, False, ["stock"])
    answer = exporter.get(f"{LIST}api/records/", {"endpoint": "shop"}).json()
    assert (answer["total"], answer["total_is_exact"], answer["unreachable"]) == (2, True, [])
    partial = exporter.get(f"{LIST}export/json/")
    assert partial.status_code == 503
    assert AWAY in body(partial)
    whole = exporter.get(f"{LIST}export/json/", {"endpoint": "shop"})
    assert len(json.loads(b"".join(whole.streaming_content))) == 2  # type: ignore[attr-defined]  # it streams


@pytest.mark.parametrize("command", ["list", "nodes", "now", "tools"])
def test_a_command_shows_what_there_is_and_exits_with_1(
    command: str, shop: tuple[Opened, Opened], capsys: pytest.CaptureFixture[str]
) -> None:
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("mcp_sessions", command, stdout=out, skip_checks=True)
    assert "stock: the session store does not answer" in capsys.readouterr().err
    assert out.getvalue().strip()
    assert (shop[0].fingerprint[:12] in out.getvalue()) is (command == "list")
    assert run(command, "--endpoint", "shop")
    assert capsys.readouterr().err == ""


def test_commands_end_what_they_can_reach(shop: tuple[Opened, Opened]) -> None:
    one, _ = shop
    with pytest.raises(SystemExit, match="1"):
        run("expire", "--principal", "user:77", "--yes")
    assert [alive(each, "shop") for each in shop] == [True, False]
    assert "ended" in run("expire", one.fingerprint, "--endpoint", "shop")
    assert not alive(one, "shop")
    with pytest.raises(SystemExit, match="1"):
        run("expire-all")
    with pytest.raises(CommandError, match="cannot be reached"):
        run("expire-all", "--endpoint", "stock")
    assert EndingJob.objects.exclude(state="done").count() == 0


def test_a_record_that_may_be_there_is_not_said_to_be_gone_in_a_shell(
    shop: tuple[Opened, Opened], capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = "f" * 64
    for more, words in (
        ([], f"{unknown}: not found where the stores answer"),
        (["--json"], "not found where"),
    ):
        with pytest.raises(SystemExit, match="1"):
            call_command("mcp_sessions", "expire", unknown, *more, skip_checks=True)
        out = capsys.readouterr().out
        assert words in out
        assert "already gone" not in out
    assert run("expire", unknown, "--endpoint", "shop") == f"{unknown}: already gone\n"


def test_commands_that_look_for_problems_name_it() -> None:
    words, out = "The Redis of the cache 'other' does not answer", StringIO()
    assert words in run("stats")
    with pytest.raises(SystemExit, match="1"):
        call_command("mcp_sessions", "doctor", stdout=out, skip_checks=True)
    assert words in out.getvalue()


def test_a_revoked_token_ends_its_sessions_where_it_can(settings: LazySettings) -> None:
    for entry in settings.MCP_SESSIONS.values():
        entry["REVOKE_ENDS_SESSIONS"] = True
    settings.MCP_SESSIONS = dict(settings.MCP_SESSIONS)
    token, _ = create_token(User.objects.create_user("ada"))
    [opened] = open_sessions([Opened(principal=f"user:{token.user_id}", name=token.credential)], "shop")
    with pytest.raises(StoreUnavailable):
        revoke_token(token)
    assert not alive(opened, "shop")


def test_trying_a_search_again_leads_to_the_list(viewer: Client, settings: LazySettings, gone: str) -> None:
    settings.CACHES = on_redis(gone)
    settings.MCP_SESSIONS = {"default": endpoint()}
    page = viewer.post(f"{LIST}find/", {"q": "abababab"})
    assert page.status_code == 503
    again = (
        page.content.decode().partition('class="button mcp-button">Try again')[0].rpartition('href="')[2][:-2]
    )
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    answer = viewer.get(again, follow=True)
    assert answer.status_code == 200
    assert answer.request["PATH_INFO"] == LIST


def test_a_scrape_says_which_store_is_away_and_has_the_others() -> None:
    response = metrics.cluster(token=None)(RequestFactory().get("/metrics"))
    assert response.status_code == 200
    lines = response.content.decode().splitlines()
    assert 'mcp_store_up{endpoint="stock"} 0.0' in lines
    assert 'mcp_store_up{endpoint="shop"} 1.0' in lines
    assert 'mcp_records{endpoint="shop",kind="session"} 2.0' in lines
    assert not any('endpoint="stock"' in line for line in lines if not line.startswith("mcp_store_up"))
