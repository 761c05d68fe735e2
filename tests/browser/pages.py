"""The admin as a person with a browser sees it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as ec
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

#: Seconds that a page may take.
BOUND: Final = 30
WIDE: Final = (1280, 900)
VERY_WIDE: Final = (1800, 1000)
NARROW: Final = (390, 844)

_OVERLAP: Final = """
const [one, two] = [...arguments].map((css) => document.querySelector(css).getBoundingClientRect());
return one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom;
"""
_LINES: Final = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const start = texts.currentNode.data.indexOf(arguments[0]);
  if (start < 0) continue;
  const range = document.createRange();
  range.setStart(texts.currentNode, start);
  range.setEnd(texts.currentNode, start + arguments[0].length);
  return new Set([...range.getClientRects()].map((line) => line.top)).size;
}
return 0;
"""


@dataclass(kw_only=True)
class Admin:
    """One browser in the admin of one process."""

    driver: WebDriver
    #: Of the process.
    url: str
    #: Where screenshots go.
    pictures: Path

    def log_in(self, name: str, password: str) -> None:
        self.driver.delete_all_cookies()
        self.size(WIDE)
        self.driver.get(f"{self.url}/admin/login/?next=/admin/")
        self.driver.find_element(By.NAME, "username").send_keys(name)
        self.driver.find_element(By.NAME, "password").send_keys(password)
        self._leave(self.driver.find_element(By.CSS_SELECTOR, "#login-form [type=submit]"))
        self.complaints()  # those of others

    def open(self, path: str = "") -> None:
        """A page of the sessions' admin."""
        self.driver.get(f"{self.url}/admin/mcp_sessions/mcpsession/{path}")

    @property
    def text(self) -> str:
        """What the page says."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    @property
    def messages(self) -> list[str]:
        return [item.text for item in self.driver.find_elements(By.CSS_SELECTOR, ".messagelist li")]

    def rows(self) -> list[str]:
        """The list's rows."""
        return [row.text for row in self.driver.find_elements(By.CSS_SELECTOR, "#result_list tbody tr")]

    def follow(self, text: str) -> None:
        """Click a link."""
        self._leave(self.driver.find_element(By.PARTIAL_LINK_TEXT, text))

    def wait_for(self, css: str) -> None:
        """Wait until the page has that, whatever loads it."""
        WebDriverWait(self.driver, BOUND).until(ec.presence_of_element_located((By.CSS_SELECTOR, css)))

    def press(self, css: str, within: WebElement | None = None) -> None:
        """Press a button that leads to another page."""
        self._leave((within or self.driver).find_element(By.CSS_SELECTOR, css))

    def search(self, text: str) -> None:
        self.driver.find_element(By.ID, "searchbar").send_keys(text)
        self.press("#changelist-search input[type=submit]")

    def tick(self, *fingerprints: str) -> None:
        """Select sessions in the list."""
        for fingerprint in fingerprints:
            self.driver.find_element(By.CSS_SELECTOR, f'.action-select[value="{fingerprint}"]').click()

    def force_expire_selected(self) -> None:
        """Run the action, up to the confirmation page."""
        Select(self.driver.find_element(By.NAME, "action")).select_by_value("force_expire")
        self.press("button[name=index]")

    def confirm(self) -> None:
        self.press("input[type=submit][value^=Yes]")

    def size(self, size: tuple[int, int]) -> None:
        self.driver.set_window_size(*size)

    def overflow(self, css: str) -> int:
        """Pixels by which the content of an element is wider than the element."""
        script = "const box = document.querySelector(arguments[0]); return box.scrollWidth - box.clientWidth"
        return int(self.driver.execute_script(script, css))

    def overlap(self, first: str, second: str) -> bool:
        """Whether two elements cover each other, if only in part."""
        return bool(self.driver.execute_script(_OVERLAP, first, second))

    def lines_of(self, word: str) -> int:
        """How many lines the word takes where it first appears on the page."""
        return int(self.driver.execute_script(_LINES, word))

    def theme(self, theme: Literal["light", "dark"]) -> None:
        """Show pages as to a reader whose system prefers this theme."""
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def picture(self, name: str) -> None:
        """A screenshot of the whole page."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        width = self.driver.get_window_size()["width"]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.save_screenshot(str(self.pictures / f"{name}.png"))
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def complaints(self) -> list[dict[str, Any]]:
        """Warnings and errors in the browser's console since the last call, except for the demo's missing icon."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call]  # selenium says nothing about it
        entries = [entry for entry in log if entry["level"] in ("SEVERE", "WARNING")]
        return [entry for entry in entries if "favicon.ico" not in entry["message"]]

    def _leave(self, element: WebElement) -> None:
        """Click, and wait until another page is there."""
        page = self.driver.find_element(By.TAG_NAME, "html")
        element.click()
        wait = WebDriverWait(self.driver, BOUND, poll_frequency=0.05)
        wait.until(ec.staleness_of(page))
        wait.until(lambda driver: driver.execute_script("return document.readyState") == "complete")
