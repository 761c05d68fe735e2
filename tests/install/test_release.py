"""What would be published: both distributions are whole, and say what they are."""

import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from trove_classifiers import classifiers

from mcp_sessions import __version__
from tests.support import ROOT


def checked(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_distributions_are_named_after_the_version(published: Path) -> None:
    assert {path.name for path in published.iterdir()} == {
        f"mcp_sessions-{__version__}.tar.gz",
        f"mcp_sessions-{__version__}-py3-none-any.whl",
    }


def test_an_index_would_take_them_and_show_the_readme(published: Path) -> None:
    checked("twine", "check", "--strict", *map(str, published.iterdir()))


def test_the_wheel_has_nothing_that_does_not_belong_there(wheel: Path) -> None:
    checked("check_wheel_contents", str(wheel))


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
