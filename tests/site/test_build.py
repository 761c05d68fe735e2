"""The site builds without a warning; its links, its anchors and its list for programs lead to pages that are there."""

import re
from pathlib import Path
from typing import Final

import pytest

from mcp_sessions.documentation import SITE
from tests.docs.addresses import addresses
from tests.docs.markdown import DOCS
from tests.site import html

pytestmark = pytest.mark.timeout(900)

ELSEWHERE: Final = ("http:", "https:", "mailto:", "data:", "javascript:")


def test_every_document_is_a_page(site: Path) -> None:
    written = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert written <= {page.relative_to(site) for page in html.pages(site)}


def test_no_link_is_broken(site: Path) -> None:
    broken = [
        (page.name, link)
        for page in html.pages(site)
        for link in html.parse(page).links
        if not link.startswith(ELSEWHERE) and not html.leads_somewhere(site, page, link)
    ]
    assert broken == []


def test_every_address_in_a_message_is_one_of_the_site(site: Path) -> None:
    links = [address.removeprefix(SITE) for address in addresses()]
    assert len(links) > 30
    assert [link for link in links if not html.leads_somewhere(site, site / "index.html", link)] == []


def test_a_heading_has_the_anchor_that_it_has_in_the_repository(site: Path) -> None:
    anchors = html.parse(site / "existing-projects.html").ids
    assert {"asgipy", "djangos-middleware-does-not-see-the-endpoint"} <= anchors


def test_the_list_for_programs_has_every_page_with_its_text(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# mcp_sessions\n\n> \w", text)
    listed = re.findall(r"^- \[.+\]\((\S+)\): \S", text, re.MULTILINE)
    texts = [site / link.removeprefix(SITE) for link in listed]
    assert len(texts) == len(list(DOCS.rglob("*.md"))) - 1  # index.md is the list itself
    assert all(text.is_file() for text in texts)
    assert "There is no session here." in (site / "llms-full.txt").read_text(encoding="utf-8")


def test_the_reference_has_the_docstrings_and_the_parsers(site: Path) -> None:
    assert "mcp_sessions.current_session" in html.parse(site / "api.html").ids
    assert {"list", "expire-all", "token-create"} <= html.parse(site / "commands.html").ids
