"""Every page in a real Chromium: it loads whole, axe finds nothing serious, and the search finds what is there."""

import json
from typing import Any, Final

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By

from tests.docs.markdown import DOCS
from tests.support import programs
from tests.support.processes import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.needs("chromium", "chromedriver"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

NAMES: Final = sorted(path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md"))
#: What only a person who cannot see or use a mouse would notice, and cannot work around.
GRAVE: Final = ("serious", "critical")
_RUN: Final = "axe.run(arguments[0], {resultTypes: ['violations']}).then(arguments[1]);"


@pytest.fixture(scope="module")
def axe() -> str:
    """The program that judges a page, as JavaScript."""
    return (programs.npm_packages() / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def complaints(chromium: WebDriver) -> list[dict[str, Any]]:
    """What the browser's console says since the last call."""
    log = chromium.get_log("browser")  # type: ignore[no-untyped-call]  # selenium says nothing about it
    return [entry for entry in log if "favicon.ico" not in entry["message"]]


def findings(chromium: WebDriver, axe: str, part: str) -> list[str]:
    """The grave ones in a part of the page, a CSS selector."""
    chromium.execute_script(axe)
    chromium.set_script_timeout(120)
    found = chromium.execute_async_script(_RUN, part)["violations"]
    return [
        f"{each['id']}: {json.dumps([node['html'][:200] for node in each['nodes'][:3]])}"
        for each in found
        if each["impact"] in GRAVE
    ]


@pytest.mark.needs("npm")
@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_and_everybody_can_use_it(
    chromium: WebDriver, address: str, axe: str, name: str
) -> None:
    complaints(chromium)  # those of other pages
    chromium.get(f"{address}{name}")
    assert chromium.find_elements(By.CSS_SELECTOR, "article h1")
    assert complaints(chromium) == []
    # What is around the article is the same on every page.
    assert findings(chromium, axe, "html" if name == "index.html" else "article") == []


def test_the_search_finds_a_word_of_a_page(chromium: WebDriver, address: str) -> None:
    chromium.get(f"{address}search.html?q=tombstone")
    found = wait_until(
        lambda: chromium.find_elements(By.CSS_SELECTOR, "#search-results li a"), what="results of the search"
    )
    assert any(str(link.get_attribute("href")).startswith(f"{address}keys.html") for link in found)


def test_every_page_can_be_reached_from_the_navigation(chromium: WebDriver, address: str) -> None:
    chromium.get(f"{address}index.html")
    links = chromium.find_elements(By.CSS_SELECTOR, ".sidebar-brand, .sidebar-tree a")
    reached = {str(link.get_attribute("href")).partition("#")[0] for link in links}
    assert {f"{address}{name}" for name in NAMES} <= reached
