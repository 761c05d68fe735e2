"""The workflow for GitHub runs `.ci/run` on every Python and Django that pyproject.toml names."""

import re
import tomllib
from typing import Any, Final

import pytest
import yaml

from tests.support import ROOT, programs

WORKFLOW: Final = ROOT / ".github" / "workflows" / "ci.yml"
#: Release of Django -> the oldest Python that it runs on.
OLDEST_PYTHON: Final = {"5.2": (3, 10), "6.0": (3, 12), "6.1": (3, 12)}


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return dict(yaml.safe_load(WORKFLOW.read_text(encoding="utf-8")))


def classified(prefix: str) -> list[str]:
    """The versions in the classifiers that start like this."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(rf"{prefix} :: (\d+\.\d+)", classifier) for classifier in project["classifiers"]]
    return [match[1] for match in found if match]


def test_the_matrix_is_that_of_the_classifiers(workflow: dict[Any, Any]) -> None:
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == classified("Programming Language :: Python")
    assert matrix["django"] == classified("Framework :: Django")


def test_only_combinations_that_do_not_exist_are_left_out(workflow: dict[Any, Any]) -> None:
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["exclude"] == [
        {"python": python, "django": django}
        for python in matrix["python"]
        for django in matrix["django"]
        if tuple(int(part) for part in python.split(".")) < OLDEST_PYTHON[django]
    ]


def test_a_job_runs_what_is_run_before_a_change_lands(workflow: dict[Any, Any]) -> None:
    checkout, python, run = workflow["jobs"]["test"]["steps"]
    *others, default = python["with"]["python-version"].split("\n")[:-1]
    assert default == "${{ matrix.python }}"
    assert [f"python{version}" for version in others] == list(programs.PYTHONS)
    assert (run["run"], run["env"]) == (".ci/run", {"DJANGO": "${{ matrix.django }}"})
    assert (ROOT / run["run"]).stat().st_mode & 0o100
    for step in (checkout, python):
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


def test_a_job_may_only_read_the_repository(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
