"""What runs now, in a real browser: a call of one process is seen and cancelled from the admin of the other."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from selenium.webdriver.common.by import By

from mcp_sessions.store.calls import nodes, recent
from mcp_sessions.store.factory import sync_store_for
from tests.browser.pages import NARROW, Admin
from tests.support.mcp_client import RawClient, connected
from tests.support.processes import Process, wait_until
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

WIDTH_1280 = (1280, 900)


@contextmanager
def taking_inventory(process: Process) -> Iterator[tuple[RawClient, list[httpx2.Response]]]:
    """A call that takes a minute, and its answer once there is one."""
    client, answers = connected(process.url), list[httpx2.Response]()
    call = client.request("tools/call", {"name": "take_inventory", "arguments": {"seconds_per_book": 5}})
    thread = threading.Thread(target=lambda: answers.append(client.post(process.url, call)))
    thread.start()
    try:
        yield client, answers
    finally:
        thread.join(30)


def test_an_operator_on_one_process_cancels_a_call_of_another(admin: Admin, processes: list[Process]) -> None:
    with taking_inventory(processes[1]) as (client, answers):
        row = wait_until(lambda: row_of(admin, client.fingerprint), what="the call")
        assert "take_inventory" in row
        assert "raw-client 1.0" in row
        press_in_row(admin, client.fingerprint, "cancel")
        assert admin.messages == [
            "Asked to cancel take_inventory. If it still runs, its client gets the error of a cancelled request."
        ]
        wait_until(lambda: answers, what="the answer")
    assert "-32800" in answers[0].text
    assert admin.complaints() == []


def test_the_page_of_a_session_shows_its_call_and_what_it_did(admin: Admin, processes: list[Process]) -> None:
    with taking_inventory(processes[1]) as (client, answers):
        client.call(processes[0].url, "search_books", text="sea")
        wait_until(lambda: nodes_that_name(client.fingerprint), what="the report")

        def page() -> str:
            admin.open(f"{client.fingerprint}/change/")
            return admin.text

        text = wait_until(lambda: text if "1 ended" in (text := page()) else "", what="the request")
        assert "take_inventory for" in text
        assert "search_books" in text
        wait_until(lambda: row_of(admin, client.fingerprint), what="the call")
        press_in_row(admin, client.fingerprint, "_selected_action")
        assert "force-expire this session?" in admin.text
        wait_until(lambda: row_of(admin, client.fingerprint), what="the call")
        press_in_row(admin, client.fingerprint, "cancel")
        wait_until(lambda: answers, what="the answer")


def row_of(admin: Admin, fingerprint: str) -> str:
    """What the page of what runs now says of a session; empty if it says nothing."""
    admin.open("now/")
    found = admin.driver.find_elements(By.CSS_SELECTOR, ".mcp-live-table tbody tr")
    return next((each.text for each in found if fingerprint[:12] in each.text), "")


def press_in_row(admin: Admin, fingerprint: str, button: str) -> None:
    """Of this session, on the page that `row_of` has opened: calls of others may not be out of the reports yet."""
    [row] = [
        each
        for each in admin.driver.find_elements(By.CSS_SELECTOR, ".mcp-live-table tbody tr")
        if fingerprint[:12] in each.text
    ]
    admin.press(f'button[name="{button}"]', row)


def nodes_that_name(fingerprint: str) -> bool:
    reports = sync_store_for("default").run(nodes.reports())
    return any(fingerprint in each.about for each in reports)


def test_pages_of_what_runs_fit_wide_and_narrow(admin: Admin, redis: RedisServer) -> None:
    """In both themes, one of the nodes silent; pictures for a person to look at."""
    sessions = open_sessions(
        [Opened(client=name, principal="user:1", state={"facts": [1]}) for name in ("claude-code", "c" * 80)]
    )
    for session in sessions:
        past = [
            recent.Past(
                1_795_731_000_000 + n, 7 * n, outcome, "ab12cd34", f"tools/call:{'look_up_' * (n + 1)}"
            )
            for n, outcome in enumerate(("ok", "tool error", "error", "cancelled"))
        ]
        sync_store_for("default").run(recent.note(session.fingerprint, past, failed=2, most=50))
    for theme in ("light", "dark"):
        admin.theme(theme)
        for size, name in ((WIDTH_1280, "1280"), (NARROW, "390")):
            admin.size(size)
            for page, path in (
                ("now", "now/"),
                ("nodes", "processes/"),
                ("live-detail", f"{sessions[1].fingerprint}/change/"),
            ):
                for number, session in enumerate(sessions):
                    report = json.dumps(told(session, number))
                    sync_store_for("default").run(nodes.report(f"{number}0ff1ce5", told=report))
                with redis.client() as client:
                    [reports] = client.keys("*:reports")
                    client.zincrby(reports, -60_000, "10ff1ce5")
                admin.open(path)
                admin.picture(f"{page}-{name}-{theme}")
                assert admin.overflow("html") <= 0, (page, name)
    admin.theme("light")
    assert admin.complaints() == []


def told(session: Opened, number: int) -> dict[str, object]:
    """A report of a node that does much, or of one of another release."""
    call = [
        number,
        "session",
        session.fingerprint,
        "tools/call:import_" + "catalogue_" * (5 * number),
        "user:1",
        session.client,
        "2.1.14",
        1_795_731_000_000,
    ]
    return {
        "host": "web-7f9c6d5b4-x2x8q",
        "pid": 7 + number,
        "process": f"process {number}",
        "version": "1.2.3" if number else "1.2.2",
        "started": 1_795_700_000_000,
        "lag_ms": 3 + 400 * number,
        "memory": 187 * 1024**2,
        "draining": number == 1,
        "calls": 1 + 40 * number,
        "streams": 12,
        "listeners": 3,
        "running": [call],
        "open": [[session.fingerprint, "standalone"]],
    }
