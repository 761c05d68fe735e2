"""docs/clients.md says of the clients that tests drive what those tests see, and of all others where it was read."""

import json
import re
from typing import Final

from mcp_sessions.inventory.clients import DOCUMENTED, OPENS_ANOTHER
from tests.clients.known import INSPECTOR, KNOWN
from tests.docs import markdown
from tests.support import ROOT

PAGE: Final = markdown.read("clients.md")


def rows_of_tests() -> list[list[str]]:
    return markdown.table(markdown.section(PAGE, "What we tested"), "Client")


def test_the_table_says_what_the_tests_see() -> None:
    written = [row[:3] for row in rows_of_tests() if not row[0].startswith("Inspector")]
    assert written == [
        [
            known.name,
            "modern" if known.asks_modern else "handshake",
            "opens a new session" if known.reopens else "every call fails",
        ]
        for known in KNOWN
    ]


def test_the_versions_are_those_that_are_installed() -> None:
    packages = json.loads((ROOT / "tests" / "npm" / "package.json").read_text())["dependencies"]
    pinned = {
        "Inspector": {packages[INSPECTOR]},
        "TypeScript SDK": {packages[f"@modelcontextprotocol/{name}"] for name in ("sdk", "client")},
    }
    requirements = "".join(path.read_text() for path in (ROOT / "tests" / "clients").glob("*.txt"))
    constraints = (ROOT / "constraints.txt").read_text()
    pinned["Python SDK"] = set(re.findall(r"^mcp==(\S+)", requirements + constraints, re.MULTILINE))
    pinned["FastMCP"] = set(re.findall(r"^fastmcp\S*==(\S+)", requirements, re.MULTILINE))
    for row in rows_of_tests():
        name, version = re.findall(r"^(.+?) (\d[\d.]+\d)", row[0])[0]
        assert version in pinned[name], row[0]


def test_what_was_not_tested_names_its_source() -> None:
    rows = markdown.table(markdown.section(PAGE, "What others say"), "Client")
    assert [row[0] for row in rows if "https://github.com/" not in " ".join(row)] == []


def test_a_client_that_knows_both_eras_is_told_how_to_open_a_session() -> None:
    assert [row[0] for row in rows_of_tests() if row[1] == "modern" and "`ERAS`" not in row[3]] == []


def test_the_confirmation_of_an_end_says_of_known_clients_what_this_page_says() -> None:
    read = {row[0]: row[2] for row in markdown.table(markdown.section(PAGE, "What others say"), "Client")}
    tested = {row[0]: row[2] for row in rows_of_tests()}
    assert OPENS_ANOTHER.keys() == DOCUMENTED.keys()
    for name, opens in OPENS_ANOTHER.items():
        [written] = {
            "new session" in after
            for client, after in {**read, **tested}.items()
            if client.startswith(DOCUMENTED[name])
        }
        assert written == opens, name
