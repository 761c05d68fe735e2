"""Every page of ours in the admin, judged by axe: nothing that keeps somebody from using it who cannot see it well."""

import json
from collections.abc import Callable
from typing import Final

import pytest
from selenium.webdriver.common.by import By

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for
from tests.browser.pages import NARROW, WIDE, Admin
from tests.browser.test_live import told
from tests.support import programs
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.needs("npm")

#: What the findings may not be.
GRAVE: Final = ("serious", "critical")
_RUN: Final = "axe.run({resultTypes: ['violations']}).then(arguments[0]);"
LIST: Final = "/admin/mcp_sessions/mcpsession/"


@pytest.fixture
def findings(admin: Admin) -> Callable[[], list[str]]:
    """What axe finds grave on the page that is open."""
    axe = (programs.npm_packages() / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    admin.driver.set_script_timeout(120)

    def judged() -> list[str]:
        admin.driver.execute_script(axe)
        found = admin.driver.execute_async_script(_RUN)["violations"]
        return [
            f"{each['id']}: {json.dumps([node['html'][:200] for node in each['nodes'][:3]])}"
            for each in found
            if each["impact"] in GRAVE
        ]

    return judged


def pages(first: str) -> dict[str, str]:
    """Names of pages and their paths; `first` is a session that somebody may have ended."""
    ours = "/admin/mcp_sessions/"
    named = ("now", "processes", "overview", "end-all", "of-user/1/force-expire")
    return {
        "list": LIST,
        "nothing found": f"{LIST}?q=nobody",
        "detail": f"{LIST}{first}/change/",
        **{name: f"{LIST}{name}/" for name in named},
        "jobs": f"{ours}endingjob/",
        "audit": f"{ours}auditentry/",
        "blocks": f"{ours}block/",
        "new block": f"{ours}block/add/",
        "tokens": f"{ours}personaltoken/",
        "new token": f"{ours}personaltoken/add/",
    }


def test_everybody_can_use_every_page(admin: Admin, findings: Callable[[], list[str]]) -> None:
    """Light and wide; the list and what runs now also dark, and on a phone."""
    sessions = open_sessions(
        [Opened(client=name, principal="user:1", state={"facts": [1]}) for name in ("a", "b")]
    )
    for number, session in enumerate(sessions):
        report = json.dumps(told(session, number))
        sync_store_for("default").run(nodes.report(f"{number}0ff1ce5", told=report))
    first = sessions[0].fingerprint
    found: dict[str, list[str]] = {}
    for name, path in pages(first).items():
        admin.driver.get(f"{admin.url}{path}")
        found[name] = findings()
    for theme, size in (("dark", WIDE), ("light", NARROW)):
        admin.theme("dark" if theme == "dark" else "light")
        admin.size(size)
        for path in ("", "now/", "overview/", f"{first}/change/"):
            admin.open(path)
            found[f"{path or 'list'} {theme} {size}"] = findings()
    admin.theme("light")
    admin.size(WIDE)
    admin.open()
    admin.tick(first)
    admin.force_expire_selected()
    found["confirmation"] = findings()
    admin.confirm()
    found["after"] = findings()
    for name, path in (("history", f"{first}/history/"), ("job", "../endingjob/1/change/")):
        admin.open(path)
        found[name] = findings()
    assert {name: each for name, each in found.items() if each} == {}


def test_a_new_token_and_a_store_that_is_away(
    admin: Admin, findings: Callable[[], list[str]], redis: RedisServer
) -> None:
    admin.driver.get(f"{admin.url}/admin/mcp_sessions/personaltoken/add/")
    admin.driver.find_element(By.NAME, "name").send_keys("laptop")
    admin.press('input[name="_save"]')
    assert "it is not shown again" in admin.text
    assert findings() == []
    admin.driver.get(f"{admin.url}/admin/mcp_sessions/personaltoken/")
    assert findings() == []
    redis.stop()
    try:
        admin.open()
        assert "Nothing is lost" in admin.text
        assert findings() == []
    finally:
        redis.start()
    admin.complaints()
