"""Links between the documents lead to a file that is there, and to a heading that it has."""

from pathlib import Path
from typing import Final

import pytest

from tests.docs import markdown
from tests.support import ROOT

#: Every document, those beside docs/ as well.
PAGES: Final = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "tests/**/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = markdown.links(page.read_text(encoding="utf-8"))
    ours = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in ours if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, fragment = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not fragment:
        return target.exists()
    headings = markdown.headings(target.read_text(encoding="utf-8"))
    return fragment in {markdown.anchor(heading) for heading in headings}
