"""Reading the documents: tables, headings, blocks of code, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from tests.support import ROOT

DOCS: Final = ROOT / "docs"

_FENCE: Final = re.compile(r"^```(\w*)(.*?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CELL: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of code."""

    language: str
    #: What stands behind the language on the fence.
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


def blocks(name: str, language: str | None = None) -> list[Block]:
    """The blocks of code of a document, in order."""
    text = read(name)
    found = [
        Block(
            language=match[1],
            title=match[2].strip(),
            code=match[3],
            line=text.count("\n", 0, match.start()) + 2,
        )
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]


def headings(name: str) -> list[str]:
    """The headings of a document, without their marks."""
    return re.findall(r"^#+ (.+)$", _FENCE.sub("", read(name)), re.MULTILINE)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def table(text: str, first_column: str) -> list[list[str]]:
    """The rows below the header of the one table whose first column has that name."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("|") and _cells(line)[0] == first_column:
            next(lines)
            return list(_rows(lines))
    raise LookupError(f"There is no table with the first column {first_column!r}.")


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield _cells(line)


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip().strip("|"))]
