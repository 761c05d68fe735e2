"""The addresses of the site in checks, errors and the log name a document and a heading that it has."""

import json
import re

import pytest

from mcp_sessions.documentation import SITE, page
from mcp_sessions.transport import rejections
from tests.docs import markdown
from tests.docs.addresses import REJECTIONS, addresses


@pytest.mark.parametrize("address", addresses(), ids=lambda address: address.removeprefix(SITE))
def test_an_address_names_a_heading_of_a_document(address: str) -> None:
    name, _, anchor = address.removeprefix(SITE).partition("#")
    text = markdown.read(name.replace(".html", ".md"))
    assert not anchor or anchor in map(markdown.anchor, markdown.headings(text))


def test_what_somebody_can_do_something_about_says_where_to_read_on() -> None:
    explained = [each for each in REJECTIONS if each.status in (403, 404, 421, 503)]
    assert len(explained) >= 9
    for each in explained:
        error = json.loads(each.body)["error"]
        assert error["data"] == {"see": page("troubleshooting", str(each.status))}
    assert "data" not in json.loads(rejections.NO_SESSION_ID.body)["error"]


def test_the_page_about_troubles_has_the_texts_of_the_errors() -> None:
    text = " ".join(markdown.read("troubleshooting.md").split())
    explained = [each for each in REJECTIONS if each.status in (403, 404, 421, 503)]
    assert [each.message for each in explained if f"`{each.message}`" not in text] == []


def test_every_document_is_in_the_navigation() -> None:
    named: set[str] = set()
    for path in markdown.DOCS.rglob("*.md"):
        found = re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        folder = path.parent.relative_to(markdown.DOCS)
        lines = [line for each in found for line in each.splitlines() if line and line[0] != ":"]
        named |= {(folder / f"{line}.md").as_posix() for line in lines}
    assert named == {path.relative_to(markdown.DOCS).as_posix() for path in markdown.DOCS.rglob("*.md")} - {
        "index.md"
    }
