"""Every page of ours under django-unfold, which has templates of its own for the admin's pages."""

import json
import os
import subprocess
import sys
from typing import Final

import pytest

from tests.support import ROOT
from tests.support.processes import ENVIRONMENT

#: What each page says.
SAYS: Final = {
    "empty list": "There are no records.",
    "list": "2 sessions",
    "filtered list": "1 session of 2 sessions",
    "detail": "Force-expire this session",
    "now": "take_inventory",
    "processes": "web-1",
    "overview": "What is wrong",
    "end-all": "Sessions that clients open afterwards are not affected",
    "confirmation": "Are you sure you want to force-expire this session?",
    "confirmation with a block": "all clients that call themselves the same",
    "after": "Force-expired 1 session. No node serves it any more.",
    "history": "Force-expired. Kind: session.",
    "user": "End MCP sessions",
    "of user": "Are you sure you want to force-expire all 1 session",
    "jobs": "job 1",
    "job": "What was created after the job began is not touched",
    "audit": "ada 1.0",
    "audit entry": "ada 1.0",
    "blocks": "mallory",
    "new block": "Reason",
    "block": "Floods",
    "new token": "Scopes",
    "made token": "it is not shown again",
    "tokens": "laptop",
    "token": "laptop",
    "without the store": "Nothing is lost",
}


@pytest.fixture(scope="module")
def pages() -> dict[str, tuple[int, str]]:
    """The status and the HTML of each page."""
    environment = (
        os.environ
        | ENVIRONMENT
        | {
            "DJANGO_SETTINGS_MODULE": "tests.served.unfold_site",
            "DATABASE_URL": "sqlite://:memory:",
        }
    )
    command = [sys.executable, "-m", "tests.admin.visiting"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", SAYS)
def test_a_page_is_whole(pages: dict[str, tuple[int, str]], name: str) -> None:
    status, html = pages[name]
    assert status == (503 if name == "without the store" else 200)
    assert SAYS[name] in html
    assert "unfold/css/styles.css" in html, "it is unfold's page"


def test_no_page_is_untested(pages: dict[str, tuple[int, str]]) -> None:
    assert pages.keys() == SAYS.keys()
