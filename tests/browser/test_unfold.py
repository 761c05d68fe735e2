"""The list under django-unfold, which has templates and styles of its own for it, on a phone and on a wide screen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from django.conf import LazySettings
from selenium.webdriver.chrome.webdriver import WebDriver

from tests.browser.conftest import PASSWORD, manage
from tests.browser.pages import NARROW, WIDE, Admin
from tests.support.processes import daphnes
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

#: Pixels that a record may take on a phone: four lines of text, or five where words are long.
CARD: Final = 135
LONG: Final = "librechat-mcp-client-with-a-rather-long-name-that-somebody-chose"


@pytest.fixture(scope="module")
def url(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A process of the demo with unfold, in the namespace of the others, with a superuser `olga`."""
    with daphnes(
        1,
        tmp_path_factory.mktemp("unfold"),
        REDIS_URL=redis.url,
        MCP_NAMESPACE="browser",
        DJANGO_SETTINGS_MODULE="tests.served.unfold_site",
    ) as [process]:
        manage(process, "migrate", "--verbosity=0")
        manage(process, "createsuperuser", "--noinput", "--username=olga", "--email=olga@example.com")
        yield process.url


@pytest.fixture
def unfold(
    chromium: WebDriver, url: str, stored: None, pictures: Path, settings: LazySettings
) -> Iterator[Admin]:
    """The admin, logged in."""
    admin = Admin(driver=chromium, url=url, pictures=pictures)
    admin.log_in("olga", PASSWORD)
    yield admin
    admin.size(WIDE)


def test_a_record_is_a_card_on_a_phone(unfold: Admin) -> None:
    open_sessions(
        [
            Opened(client="claude-code", client_version="2.1.14", calls=("tools/call:search_books",) * 3),
            Opened(client=LONG, client_version="0.8.0-rc.3+build.20261101", principal="user:4711"),
            Opened(kind="handle", label="basket", name="basket-483-920-117", principal="user:1"),
        ]
    )
    for size, name in ((NARROW, "narrow"), (WIDE, "wide")):
        unfold.size(size)
        unfold.open()
        assert len(unfold.rows()) == 3
        assert unfold.overflow("html") <= 0
        unfold.picture(f"unfold-list-{name}")
    unfold.size(NARROW)
    rows = unfold.driver.find_elements("css selector", "#result_list tbody tr")
    assert max(row.size["height"] for row in rows) <= CARD
    assert unfold.complaints() == []
