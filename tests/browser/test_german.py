"""The admin in a browser whose language is German: words are longer, and a phone is as wide as before."""

import json
from collections.abc import Iterator

import pytest

from mcp_sessions.store.calls import nodes
from mcp_sessions.store.factory import sync_store_for
from tests.browser.pages import NARROW, Admin
from tests.browser.test_live import WIDTH_1280, told
from tests.support.sessions import Opened, open_sessions


@pytest.fixture
def german(admin: Admin) -> Iterator[Admin]:
    """The admin in a browser that asks for German."""
    admin.driver.execute_cdp_cmd("Network.enable", {})
    admin.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Accept-Language": "de"}})
    yield admin
    admin.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})


def test_every_page_fits_on_a_phone_in_german(german: Admin) -> None:
    sessions = [Opened(client=name, state={"facts": [1]}) for name in ("claude-code", "codex-mcp-client")]
    open_sessions(sessions)
    for size, name in ((WIDTH_1280, "1280"), (NARROW, "390")):
        german.size(size)
        for page, path, says in (
            ("list", "", "2 Sitzungen"),
            ("detail", f"{sessions[1].fingerprint}/change/", "Vom Client gewählt"),
            ("now", "now/", "Was gerade läuft"),
            ("nodes", "processes/", "leert sich"),
            ("overview", "overview/", "Was nicht stimmt"),
            ("end-all", "end-all/", "rückgängig"),
        ):
            # Each time: who has not reported for a while is silent.
            for number, session in enumerate(sessions):
                report = json.dumps(told(session, number))
                sync_store_for("default").run(nodes.report(f"{number}0ff1ce5", told=report))
            german.open(path)
            german.picture(f"german-{page}-{name}")
            assert says in german.text, page
            assert german.overflow("html") <= 0, (page, name)
    assert german.complaints() == []
