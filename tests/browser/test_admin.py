"""An operator with a real browser ends sessions that real clients have on other processes."""

import httpx2

from mcp_sessions.ids import fingerprint
from tests.browser.pages import NARROW, WIDE, Admin
from tests.support.mcp_client import RawClient
from tests.support.processes import Process, wait_until
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

HOSTILE = "<script>owned=1</script>\"'<img src=x onerror=owned=1>"


def connected(process: Process, name: str) -> tuple[RawClient, str]:
    """A client with a session on that process, and the session's fingerprint."""
    client = RawClient()
    client.initialize(process.url, clientInfo={"name": name, "version": "3.2"})
    assert client.session_id is not None
    return client, fingerprint(client.session_id)


def ping(client: RawClient, process: Process) -> httpx2.Response:
    return client.post(process.url, client.request("ping"))


def test_an_operator_on_one_process_ends_a_session_of_another(admin: Admin, processes: list[Process]) -> None:
    a, b = processes
    client, ended = connected(b, "desktop-client")
    other, kept = connected(b, "bystander")
    admin.open()
    assert any(ended[:12] in row and "desktop-client 3.2" in row for row in admin.rows())

    admin.tick(ended)
    admin.force_expire_selected()
    assert "force-expire this session?" in admin.text
    assert "desktop-client 3.2" in admin.text
    assert "bystander" not in admin.text
    assert ping(client, b).status_code == 200, "nothing ends before it is confirmed"

    admin.confirm()
    assert [ping(client, process).status_code for process in (a, b, a, b)] == [404] * 4
    assert ping(other, a).status_code == 200
    assert admin.messages == ["Force-expired 1 session. No node serves it any more."]
    assert not any(ended[:12] in row for row in admin.rows())
    assert any(kept[:12] in row for row in admin.rows())

    admin.open(f"{ended}/history/")
    assert "Client: desktop-client. Principal: anonymous." in admin.text
    assert admin.complaints() == []


def test_changing_ones_mind_ends_nothing(admin: Admin, processes: list[Process]) -> None:
    client, session = connected(processes[1], "patient")
    admin.open()
    admin.tick(session)
    admin.force_expire_selected()
    admin.press("a.cancel-link")
    assert any(session[:12] in row for row in admin.rows())
    assert ping(client, processes[0]).status_code == 200


def test_the_page_of_a_session_has_a_button_that_ends_it(admin: Admin, processes: list[Process]) -> None:
    client, session = connected(processes[1], "one-of-many")
    admin.open()
    admin.follow(session[:12])
    assert session in admin.text
    admin.press("button.mcp-force-expire")
    assert "force-expire this session?" in admin.text
    admin.confirm()
    assert ping(client, processes[0]).status_code == 404


def test_all_pages_of_a_filter_end_together(admin: Admin) -> None:
    open_sessions([Opened(client="leaky") for _ in range(70)] + [Opened(client="sound")])
    admin.open("?client=leaky")
    admin.driver.find_element("id", "action-toggle").click()
    admin.driver.find_element("css selector", ".actions .question a").click()
    admin.force_expire_selected()
    assert "force-expire all 70 sessions" in admin.text
    admin.confirm()
    assert admin.messages == ["Force-expired 70 sessions. No node serves them any more."]
    admin.open()
    assert [row.split()[2] for row in admin.rows()] == ["sound"]


def test_the_page_of_a_job_has_no_note_where_nothing_is_wrong(admin: Admin) -> None:
    [session] = open_sessions([Opened()])
    admin.open()
    admin.tick(session.fingerprint)
    admin.force_expire_selected()
    admin.confirm()
    admin.driver.get(f"{admin.url}/admin/mcp_sessions/endingjob/")
    admin.press("#result_list a")
    assert "Done: 1 of 1 ended, 0 already gone." in admin.text
    assert not admin.driver.find_element("id", "mcp-problem").is_displayed()


def test_search_and_filters_work_by_clicking(admin: Admin) -> None:
    one, two = open_sessions([Opened(client="alpha"), Opened(client="beta", protocol="2025-06-18")])
    admin.open()
    admin.follow("2025-06-18")
    assert [row.split()[0] for row in admin.rows()] == [two.fingerprint[:12]]
    admin.open()
    admin.search(one.fingerprint[:10])
    assert one.fingerprint in admin.text
    assert admin.driver.current_url.endswith(f"/{one.fingerprint}/change/")
    admin.open()
    admin.search("alp")
    assert [row.split()[0] for row in admin.rows()] == [one.fingerprint[:12]]
    admin.follow("2025-11-25")
    admin.follow("alpha")
    assert admin.driver.current_url.endswith("?client=alpha&protocol=2025-11-25&q=alp")
    assert [row.split()[0] for row in admin.rows()] == [one.fingerprint[:12]]
    admin.open()
    admin.follow("LAST ACTIVITY")
    assert [row.split()[0] for row in admin.rows()] == [one.fingerprint[:12], two.fingerprint[:12]]


def test_what_a_client_calls_itself_is_only_text(admin: Admin, processes: list[Process]) -> None:
    _, session = connected(processes[1], HOSTILE)
    for path in ("", f"{session}/change/", f"?q={session}"):
        admin.open(path)
        assert "<script>owned=1" in admin.text
        assert admin.driver.execute_script("return typeof owned") == "undefined"


def test_no_page_is_wider_than_a_phone(admin: Admin) -> None:
    [session] = open_sessions([Opened(client="n" * 200, capabilities={"experimental": {"k" * 300: {}}})])
    admin.size(NARROW)
    try:
        for path in (f"{session.fingerprint}/change/", f"{session.fingerprint}/history/"):
            admin.open(path)
            assert admin.overflow("html") <= 0, path
    finally:
        admin.size(WIDE)


def test_the_list_fits_beside_its_filters(admin: Admin) -> None:
    [session] = open_sessions([Opened(client="claude-code-with-a-rather-long-name", client_version="2.1.14")])
    admin.size((1280, 900))
    try:
        admin.open()
        assert session.fingerprint[:12] in admin.text
        assert admin.overflow(".results") <= 0
        assert not admin.overlap(".object-tools", ".mcp-kinds summary")
        assert not admin.overlap(".object-tools", "#changelist")
    finally:
        admin.size(WIDE)


def test_the_history_of_a_session_breaks_no_word_on_a_phone(admin: Admin) -> None:
    [session] = open_sessions([Opened(client="n" * 60)])
    admin.open()
    admin.tick(session.fingerprint)
    admin.force_expire_selected()
    admin.confirm()
    admin.size(NARROW)
    try:
        admin.open(f"{session.fingerprint}/history/")
        assert "Force-expired." in admin.text
        assert admin.lines_of("Force-expired.") == 1
        assert admin.overflow("html") <= 0
    finally:
        admin.size(WIDE)


def test_a_redis_that_is_down_is_explained_and_nothing_is_lost(
    admin: Admin, processes: list[Process], redis: RedisServer
) -> None:
    client, session = connected(processes[1], "survivor")
    redis.stop()
    try:
        admin.open()
        assert "Nothing is lost" in admin.text
        assert ping(client, processes[1]).status_code == 503
    finally:
        redis.start()
    wait_until(lambda: ping(client, processes[1]).status_code == 200, what="the session to answer again")
    admin.wait_for(f"a[href*='{session}']")
    assert any(session[:12] in row for row in admin.rows()), "the page has tried again by itself"
