"""The pages of the admin in other languages: whatever they say comes from a catalog, and German is complete."""

import json
import os
import re
import subprocess
import sys
from typing import Final

import pytest

from tests.admin.marking import unmarked
from tests.support import ROOT
from tests.support.processes import ENVIRONMENT

#: What pages say that is no text: what things are called in the tests, and what Django does not translate.
DATA: Final = frozenset(
    {
        # How the site and the clients, users and tools of the tests are called, and what they store.
        *("Library", "MCP", "over", "olga", "ada", "bob", "mallory", "nobody", "laptop", "Floods"),
        *("default", "ping", "facts", "odd", "web", "user", "name", "version"),
        # What is stored is in English: the titles of entries of the audit, and the entries of Django's own log.
        *("take", "inventory", "of", "Lifted"),
        # Other apps, in the sidebar.
        *(
            "Django",
            "OAuth",
            "Toolkit",
            "Access",
            "Applications",
            "Grants",
            "Id",
            "Refresh",
            "tokens",
            "Books",
        ),
    }
)
#: Django's label of the box for searches is a picture whose name is not translated.
DJANGOS: Final = {"Search"}
#: The names of permissions are in the database, in English.
PERMISSIONS: Final = re.compile(r'<select name="user_permissions".*?</select>', re.DOTALL)
FINGERPRINT: Final = re.compile(r"\b[0-9a-f]{12,64}\b|\bmcps_\w+")


def pages_in(language: str) -> dict[str, tuple[int, str]]:
    """The status and the HTML of each page, by the name of the page."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": "sqlite://:memory:"}
    command = [sys.executable, "-m", "tests.admin.visiting", language]
    environment = os.environ | ENVIRONMENT | settings
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


def test_no_text_of_a_page_is_outside_of_the_catalog() -> None:
    pages = pages_in("--marked")
    left = {
        name: [text for text in unmarked(readable(html), DATA) if text not in DJANGOS]
        for name, (_, html) in pages.items()
    }
    assert {name: texts for name, texts in left.items() if texts} == {}
    assert len(pages) > 30


def readable(html: str) -> str:
    return FINGERPRINT.sub("", PERMISSIONS.sub("", html))


#: What pages say in German, numbers and times included.
GERMAN: Final = {
    "list": ("2 Sitzungen", "vor 0 s", "Datensätze", "letzte Aktivität"),
    "filtered list": ("1 Sitzung von 2 Sitzungen.",),
    "detail": ("Sofort beenden (Sitzung)", "Vom Client gewählt", "Testbenachrichtigung senden"),
    "now": ("Was gerade läuft", "1 Aufruf, 0 offene Streams, 0 Listener."),
    "processes": ("Ein Knoten ist ein Serverprozess.", "Leeren"),
    "overview": ("Was nicht stimmt", "Anfragen pro Minute"),
    "end-all": ("Das kann nicht rückgängig gemacht werden.",),
    "confirmation": ("Möchten Sie diesen Datensatz (Sitzung) wirklich sofort beenden?", "Ja, ich bin sicher"),
    "confirmation with a block": ('<option value="a day">einen Tag</option>',),
    "after": ("1 Sitzung sofort beendet. Kein Knoten bedient sie mehr.",),
    "history": ("Sofort beendet. Art: Sitzung.",),
    "user": ("MCP-Sitzungen beenden",),
    "job": ("Erledigt:", "Auftrag 1"),
    "audit": ("sofort beendet", "Auftrag 1"),
    "block": ("Client mallory",),
    "made token": ("es wird nicht noch einmal angezeigt",),
    "tokens": ("Aktiv",),
    "revoked": ("Widerrufene Token: 1.",),
    "lifted": ("Aufgehobene Sperren: 1.",),
    "wrong filters": ("Es gibt keinen Benutzer „nobody“",),
    "no such record": ("Diesen Datensatz gibt es nicht mehr",),
    "without the store": ("Nichts ist verloren",),
}


@pytest.fixture(scope="module")
def german() -> dict[str, tuple[int, str]]:
    return pages_in("de")


@pytest.mark.parametrize("name", GERMAN)
def test_a_page_is_in_german(german: dict[str, tuple[int, str]], name: str) -> None:
    status, html = german[name]
    assert status == (503 if name == "without the store" else 200)
    assert '<html lang="de"' in html
    for text in GERMAN[name]:
        assert text in html
