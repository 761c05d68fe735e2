"""What a page of the site has in it: where it leads to, and where one can lead into it."""

from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path


@dataclass(slots=True)
class Page:
    """The targets and the anchors of one page."""

    links: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.page.links.append(value)
            elif name == "id" and value:
                self.page.ids.add(value)


@cache
def parse(path: Path) -> Page:
    """The page in a file."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.page


def pages(site: Path) -> list[Path]:
    """Every page of the site."""
    return sorted(site.rglob("*.html"))


def leads_somewhere(site: Path, page: Path, link: str) -> bool:
    """Whether a link of a page leads to a file of the site and, in a page, to an anchor that is there."""
    path, _, anchor = link.partition("#")
    path = path.partition("?")[0]
    target = (page.parent / path).resolve() if path else page
    if not target.is_relative_to(site.resolve()) or not target.is_file():
        return False
    return not anchor or target.suffix != ".html" or anchor in parse(target).ids
