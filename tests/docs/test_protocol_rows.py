"""docs/protocol.md has every row of the protocol, and a test that names it proves it."""

import ast
import json
from typing import Final

import pytest

from tests.docs import markdown, rows
from tests.support import ROOT

EVERY_ROW: Final = [*(f"H{n}" for n in range(1, 34)), *(f"M{n}" for n in range(1, 9))]


def documented() -> list[list[str]]:
    """The rows of both tables."""
    page = markdown.read("protocol.md")
    eras = (markdown.section(page, heading) for heading in ("Handshake era", "Modern era"))
    return [row for era in eras for row in markdown.table(era, "Row")]


def test_the_document_has_every_row_once_and_in_order() -> None:
    assert [row[0] for row in documented()] == EVERY_ROW


def test_every_row_is_proved_by_a_test_that_names_it() -> None:
    assert sorted(set(EVERY_ROW) - set(rows.proved())) == []


def test_the_document_says_whether_conformance_scenarios_are_expected_to_fail() -> None:
    expected = json.loads((ROOT / "tests" / "conformance" / "expected_failures.json").read_text())
    failing = [name for servers in expected.values() for names in servers.values() for name in names]
    assert ("with its reason; none is." in markdown.read("protocol.md")) == (not failing)


def test_tests_name_no_row_that_does_not_exist() -> None:
    assert set(rows.proved()) <= set(EVERY_ROW)


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.protocol('H1', 'M2')\ndef test_it(): ...",
        "@pytest.mark.slow\n@pytest.mark.protocol('H1')\nasync def test_it():\n    '''Proves M2 as well.'''",
        "pytestmark = [pytest.mark.slow, pytest.mark.protocol('H1')]\ndef test_it():\n    '''M2.'''",
    ],
)
def test_a_row_is_named_by_a_mark_or_a_docstring(source: str) -> None:
    assert set(rows.in_module(ast.parse(source))) == {("H1", "test_it"), ("M2", "test_it")}


def test_a_mark_of_a_class_holds_for_its_tests() -> None:
    source = (
        "@pytest.mark.protocol('H1')\nclass TestIt:\n    def test_that(self): ...\n    def help(self): ..."
    )
    assert list(rows.in_module(ast.parse(source))) == [("H1", "TestIt::test_that")]


@pytest.mark.parametrize("source", ["def helper():\n    '''H1.'''", "def test_it():\n    # H1\n    x = 'H1'"])
def test_nothing_else_names_a_row(source: str) -> None:
    assert list(rows.in_module(ast.parse(source))) == []
