"""What the documents have in them: tables, headings, blocks of code, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support import ROOT

DOCS: Final = ROOT / "docs"

_PARSER: Final = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of code."""

    language: str
    #: What follows the language on the fence.
    title: str
    code: str
    #: Line of the document that the code starts at, counted from 1.
    line: int


@cache
def read(name: str) -> str:
    """A document: "README.md", or a name below docs/."""
    path = ROOT / name if name == "README.md" else DOCS / name
    return path.read_text(encoding="utf-8")


def documents() -> list[str]:
    """All documents, as `read` takes them."""
    return ["README.md", *sorted(path.name for path in DOCS.glob("*.md"))]


def section(text: str, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above. Raises: LookupError."""
    found = [(token.tag, token.map[0], title) for token, title in _headings(text) if token.map]
    for n, (level, start, title) in enumerate(found):
        if title == heading:
            end = next((line for tag, line, _ in found[n + 1 :] if tag <= level), None)
            return "\n".join(text.splitlines()[start + 1 : end])
    raise LookupError(f"There is no heading {heading!r}.")


def blocks(text: str, language: str | None = None) -> list[Block]:
    """The blocks of code, in order."""
    fences = [token for token in _PARSER.parse(text) if token.type == "fence"]
    found = [_block(fence) for fence in fences]
    return [block for block in found if language in (None, block.language)]


def _block(fence: Token) -> Block:
    language, _, title = fence.info.partition(" ")
    assert fence.map is not None
    return Block(language=language, title=title.strip(), code=fence.content, line=fence.map[0] + 2)


def headings(text: str) -> list[str]:
    """The headings, without their marks."""
    return [title for _, title in _headings(text)]


def _headings(text: str) -> list[tuple[Token, str]]:
    tokens = _PARSER.parse(text)
    following = pairwise(tokens)
    return [(token, inline.content) for token, inline in following if token.type == "heading_open"]


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(text: str) -> list[str]:
    """Where links lead to, and where pictures are."""
    inlines = [child for token in _PARSER.parse(text) for child in token.children or ()]
    targets = [child.attrGet("href") or child.attrGet("src") for child in inlines]
    return [str(target) for target in targets if target is not None]


def table(text: str, first_column: str) -> list[list[str]]:
    """The rows below the header of the one table whose first column has that name. Raises: LookupError."""
    for header, *rows in _tables(text):
        if header[0] == first_column:
            return rows
    raise LookupError(f"There is no table with the first column {first_column!r}.")


def _tables(text: str) -> Iterator[list[list[str]]]:
    """The cells of each table, row by row, as they are written."""
    rows: list[list[str]] = []
    for token in _PARSER.parse(text):
        match token.type:
            case "table_open":
                rows = []
            case "tr_open":
                rows.append([])
            case "inline" if rows:
                rows[-1].append(token.content)
            case "table_close":
                yield rows
                rows = []
