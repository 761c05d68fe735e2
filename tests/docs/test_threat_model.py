"""Each line of docs/threat-model.md names a test that exists."""

import ast
from functools import cache
from typing import Final

import pytest

from tests.docs import markdown
from tests.support import ROOT

TEXT: Final = markdown.read("threat-model.md")
ROWS: Final = [
    (heading, *row)
    for heading in markdown.headings(TEXT)
    if heading != "Threat model"
    for row in markdown.table(markdown.section(TEXT, heading), "")
]


@cache
def functions(path: str) -> frozenset[str]:
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize(("heading", "verb", "what", "test"), ROWS, ids=lambda text: text[:60])
def test_a_line_has_its_test(heading: str, verb: str, what: str, test: str) -> None:
    assert verb in ("can", "cannot")
    assert what
    path, _, name = test.strip("`").partition("::")
    assert name in functions(path), f"{heading}: {test}"


def test_every_threat_has_lines() -> None:
    assert len({row[0] for row in ROWS}) == len(markdown.headings(TEXT)) - 1
