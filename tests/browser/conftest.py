"""A real Chromium, and two daphne processes of the demo on one Redis."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from django.conf import LazySettings
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

from tests.browser.pages import Admin
from tests.support import ROOT, programs
from tests.support.processes import Process, daphnes
from tests.support.redis import RedisServer, run_server

PASSWORD: Final = "only-for-this-test"
#: Works without a screen or a graphics card, and sends no requests to the internet.
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here drives a browser, and shares servers that are slow to start."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.needs("chromium", "chromedriver"))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """One browser for the run, with a profile of its own."""
    options = Options()
    options.binary_location = programs.path_of("chromium")
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs.path_of("chromedriver")))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis that these tests may stop."""
    with run_server(keep=True) as server:
        yield server


@pytest.fixture(scope="session")
def processes(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Processes A and B of the demo, with a superuser `olga`."""
    directory: Path = tmp_path_factory.mktemp("browser")
    with daphnes(2, directory, REDIS_URL=redis.url, MCP_NAMESPACE="browser", MCP_FIRST_TTL="3600") as running:
        manage(running[0], "migrate", "--verbosity=0")
        manage(running[0], "createsuperuser", "--noinput", "--username=olga", "--email=olga@example.com")
        yield running


def manage(process: Process, *command: str) -> None:
    """Run a command of manage.py with the environment of a process."""
    environment = os.environ | process.environment | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    subprocess.run(
        [sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True, timeout=120
    )


@pytest.fixture
def stored(settings: LazySettings, redis: RedisServer, processes: list[Process]) -> None:
    """`tests.support.sessions` opens sessions where the processes look for them."""
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}}
    settings.MCP_SESSIONS = {
        "default": {
            "SERVER": "project.mcp.server",
            "NAMESPACE": "browser",
            "MAX_SESSIONS_PER_PRINCIPAL": None,
        }
    }
    with redis.client() as client:
        client.flushdb()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go. MCP_SESSIONS_SCREENSHOTS names a folder that keeps them."""
    return Path(os.environ.get("MCP_SESSIONS_SCREENSHOTS") or tmp_path)


@pytest.fixture
def admin(chromium: WebDriver, processes: list[Process], stored: None, pictures: Path) -> Admin:
    """The admin on process A, logged in."""
    admin = Admin(driver=chromium, url=processes[0].url, pictures=pictures)
    admin.log_in("olga", PASSWORD)
    return admin
