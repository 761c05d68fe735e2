"""The overview in a real browser, under a strict Content-Security-Policy: light and dark, wide and on a phone."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

import pytest
from django.conf import LazySettings
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from mcp_sessions.counting import Counts
from mcp_sessions.store.calls import counts
from mcp_sessions.store.calls.counts import SPANS
from mcp_sessions.store.factory import sync_store_for
from tests.browser.conftest import PASSWORD, manage
from tests.browser.pages import NARROW, Admin
from tests.support.processes import Process, daphne, started
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

DESK: Final = (1280, 900)
TOOLS: Final = (
    "search_books",
    "remember",
    "<script>alert(1)</script>",
    "a_tool_with_a_name_that_is_" + "long_" * 12,
)


@pytest.fixture(scope="module")
def strict(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process whose pages have a Content-Security-Policy, with a superuser `olga`."""
    directory: Path = tmp_path_factory.mktemp("strict")
    process = daphne(
        "S",
        directory,
        DJANGO_SETTINGS_MODULE="tests.served.strict",
        REDIS_URL=redis.url,
        MCP_NAMESPACE="browser",
    )
    with started([process]):
        manage(process, "migrate", "--verbosity=0")
        manage(process, "createsuperuser", "--noinput", "--username=olga", "--email=olga@example.com")
        yield process


def fill(
    tools: Sequence[str] = TOOLS, *, limited: Mapping[str, int] | None = None, small: bool = False
) -> None:
    """A day as it may have been, into the steps of all spans: of a service with hundreds of sessions, or a small one.

    `limited`: what each limit has refused just now.
    """
    store, random = sync_store_for("default"), Random(7)  # noqa: S311 - the same day every time
    now = time.time() * 1000
    for span in SPANS:
        steps = span.milliseconds // span.step_ms
        calls = []
        for step in range(steps):
            level = 3 + 2 * ((step * 7 // steps) % 3) + random.random()
            numbers = {
                "sessions_opened": int(level * 2),
                "sessions_ended:idle": int(level),
                "sessions_ended:deleted": int(level / 2),
                "requests:ok": int(100 * level),
                "requests:tool error": int(4 * level),
                "refusals:404": step % 3,
                "streams": int(span.step_ms / 60_000 * 7 * level),
                "sessions": int(level if small else 300 * level),
                "memory": int((3.4e5 if small else 2e7) * (5 + step / steps)),
                "latency_us": int(180 * level),
            }
            at = int(now - (steps - step) * span.step_ms)
            calls.append(counts.set_numbers(numbers, now_ms=at, spans=[span]))
        store.run_all(calls)
    counted = Counts({f"limited:{name}": number for name, number in (limited or {}).items()})
    for number, tool in enumerate(tools):
        for call in range(200 >> number):
            failed = number == 1 and call % 3 == 0
            counted.add_call(tool, random.expovariate(1 / 60), "tool error" if failed else "ok")
    store.run(counts.add(counted, by="test", batch="1", now_ms=0))


@pytest.fixture
def overview(
    chromium: WebDriver, strict: Process, settings: LazySettings, redis: RedisServer, tmp_path: Path
) -> Admin:
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}}
    settings.MCP_SESSIONS = {"default": {"SERVER": "project.mcp.server", "NAMESPACE": "browser"}}
    with redis.client() as client:
        client.flushdb()
    open_sessions([Opened() for _ in range(3)])
    fill(limited={"requests per principal": 34, f"tool {TOOLS[-1]} per address": 5})
    pictures = Path(os.environ.get("MCP_SESSIONS_SCREENSHOTS") or tmp_path)
    admin = Admin(driver=chromium, url=strict.url, pictures=pictures)
    admin.log_in("olga", PASSWORD)
    return admin


def complaints(overview: Admin) -> list[str]:
    """All that the browser complains of, but for the demo's own icon, which is a `data:` address."""
    return [each["message"] for each in overview.complaints() if "data:," not in each["message"]]


def test_the_overview_is_readable_in_every_mode_and_breaks_no_policy(overview: Admin) -> None:
    for size, name in ((DESK, "wide"), (NARROW, "phone")):
        overview.size(size)
        for theme in ("light", "dark"):
            overview.theme(theme)
            overview.open("overview/")
            overview.picture(f"overview-{name}-{theme}")
            assert overview.overflow("html") <= 0, "nothing is cut off at the side"
            colours = {
                path.value_of_css_property("stroke")
                for path in overview.driver.find_elements(By.CSS_SELECTOR, ".mcp-line")
            }
            assert len(colours) == 2, "the style sheet was applied"
            assert complaints(overview) == [], "the browser reports what a policy forbids"
    overview.theme("light")
    overview.size(DESK)
    assert "The tool remember fails" in overview.text
    overview.follow("Last week")
    assert overview.driver.find_element(By.CSS_SELECTOR, ".mcp-choices [aria-current]").text == "Last week"
    overview.picture("overview-week")
    for chart in overview.driver.find_elements(By.CSS_SELECTOR, "svg.mcp-chart"):
        assert chart.accessible_name
        assert chart.aria_role in ("image", "img")
    overview.open()
    overview.press(".object-tools a[href*=overview]")
    assert "What is wrong" in overview.text
    assert complaints(overview) == []
