"""What would be published: both distributions are whole, and say what they are."""

import json
import re
import runpy
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from trove_classifiers import classifiers

from mcp_sessions import __version__
from tests.support import ROOT

#: The functions of `make wheel`.
RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "release.py"))


def test_the_distributions_are_named_after_the_version(published: Path) -> None:
    assert {path.name for path in published.iterdir()} == {
        f"mcp_sessions-{__version__}.tar.gz",
        f"mcp_sessions-{__version__}-py3-none-any.whl",
    }


def test_an_index_would_take_them_and_the_wheel_has_nothing_that_does_not_belong_there(
    published: Path,
) -> None:
    RELEASE["check"](published)


def test_make_wheel_stops_at_what_an_index_would_refuse(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / wheel.name).write_bytes(wheel.read_bytes()[:1000])
    with pytest.raises(SystemExit, match="twine check"):
        RELEASE["check"](tmp_path)


def package(name: str, **more: Any) -> dict[str, Any]:
    """What pip-audit says of one."""
    return {"name": name, "version": "1.0", "vulns": [], **more}


UNKNOWN = {"skip_reason": "Dependency not found on PyPI and could not be audited: django (1.0)"}
FOUND = {"vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}]}


@pytest.mark.parametrize(
    ("packages", "status", "sentence"),
    [
        ([package("django")], 0, "Audited 1 of 1 packages: no known vulnerability."),
        (
            [package("django"), package("redis", **UNKNOWN)],
            0,
            "Audited 1 of 2 packages: no known vulnerability, and no answer about the others.",
        ),
        (
            [package("django", **UNKNOWN), package("mcp-sessions", **UNKNOWN)],
            0,
            "Not audited: the vulnerability service gave no answer about any of 1 packages.",
        ),
        ([package("django", **FOUND)], 1, "Known vulnerabilities:\ndjango 1.0: PYSEC-2026-1, fixed in 1.1"),
    ],
)
def test_what_could_not_be_audited_is_not_called_safe(
    packages: list[dict[str, Any]], status: int, sentence: str
) -> None:
    answer = json.dumps({"dependencies": packages, "fixes": []})
    # What it writes in each of these cases but the last.
    assert RELEASE["verdict"](answer, "No known vulnerabilities found") == (status, sentence)


def test_a_vulnerability_service_that_does_not_answer_is_said_in_one_sentence() -> None:
    errors = "Traceback (most recent call last):\n  ...\nConnectionError: no route to host\n"
    assert RELEASE["verdict"]("", errors) == (
        0,
        "Not audited: the vulnerability service could not be asked (ConnectionError: no route to host).",
    )


def test_the_bill_of_materials_has_every_part_that_users_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # A server for development, and what this repository needs itself.
    ours = {"embedded", "demo", "test", "bench", "docs", "dev"}
    assert set(RELEASE["EXTRAS"].split(",")) == project["optional-dependencies"].keys() - ours


def test_the_source_distribution_has_the_documents_and_the_tests(published: Path) -> None:
    [archive] = published.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "docs/conf.py", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith(("data/", ".venv/", ".cache/"))]


def test_the_classifiers_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["classifiers"]) <= classifiers


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", text, re.MULTILINE)
    assert found[0][0] == __version__
