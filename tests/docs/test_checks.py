"""docs/checks.md has every check, and says of each what the code says."""

import re
from typing import Any

from django.core.checks import Error
from django.core.checks.registry import registry

from mcp_sessions import checks
from mcp_sessions.checks.common import message
from mcp_sessions.documentation import page
from tests.docs import markdown
from tests.support import ROOT


def registered() -> dict[str, Any]:
    """The functions that the app registered, by the id that their docstrings start with."""
    functions = registry.get_checks(include_deployment_checks=True)
    ours = [function for function in functions if function.__module__.startswith(checks.__name__)]
    return {str(function.__doc__).split(":")[0]: function for function in ours}


def test_the_table_says_of_every_check_what_its_function_says() -> None:
    rows = markdown.table(markdown.read("checks.md"), "Id")
    written = {row[0]: (row[1], row[2]) for row in rows}
    deployed = registry.deployment_checks
    assert written == {
        f"[`mcp_sessions.{number}`](#{number.lower()})": (
            _capitalized(str(function.__doc__).split(": ", 1)[1]),
            "yes" if function in deployed else "",
        )
        for number, function in registered().items()
    }


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def test_every_id_has_its_section_and_every_section_its_id() -> None:
    folder = ROOT / "mcp_sessions" / "checks"
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    used = re.findall(r'"([EWI]\d{3})"', source)
    sections = [
        heading
        for heading in markdown.headings(markdown.read("checks.md"))
        if re.fullmatch(r"[EWI]\d{3}", heading)
    ]
    assert sorted(set(used)) == sorted(sections)


def test_every_check_has_an_id_of_its_own() -> None:
    assert len(registered()) == len(
        [
            f
            for f in registry.get_checks(include_deployment_checks=True)
            if f.__module__.startswith(checks.__name__)
        ]
    )


def test_the_checks_link_to_their_section() -> None:
    found = message(Error, "E004", "What is wrong.", "What to do.")
    assert found.hint == f"What to do. {page('checks', 'e004')}"
    assert {tag for function in registered().values() for tag in function.tags} == {checks.TAG}


def test_every_id_in_a_document_is_that_of_a_check() -> None:
    known = {*registered(), "I001"}
    for document in markdown.documents():
        assert set(re.findall(r"mcp_sessions\.([EWI]\d{3})", markdown.read(document))) <= known
