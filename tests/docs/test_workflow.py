"""The workflow for GitHub runs `.ci/run` on every Python and Django that pyproject.toml names; another one releases."""

import re
import tomllib
from typing import Any, Final

import pytest
import yaml

from tests.support import ROOT, programs

WORKFLOWS: Final = ROOT / ".github" / "workflows"
#: Release of Django -> the oldest Python that it runs on.
OLDEST_PYTHON: Final = {"5.2": (3, 10), "6.0": (3, 12), "6.1": (3, 12)}


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return read("ci.yml")


@pytest.fixture(scope="module")
def release() -> dict[Any, Any]:
    return read("release.yml")


def read(name: str) -> dict[Any, Any]:
    return dict(yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8")))


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


def test_a_release_is_tested_built_and_only_then_published(release: dict[Any, Any]) -> None:
    jobs = release["jobs"]
    assert jobs["test"] == {"uses": "./.github/workflows/ci.yml"}
    assert [jobs[name]["needs"] for name in ("build", "publish")] == ["test", "build"]
    built = " ".join(step.get("run", "") for step in jobs["build"]["steps"])
    for command in ("python -m build", "twine check --strict", "check-wheel-contents"):
        assert command in built


def test_only_the_job_that_publishes_gets_a_token_and_none_is_stored(release: dict[Any, Any]) -> None:
    assert release["permissions"] == {"contents": "read"}
    assert [name for name, job in release["jobs"].items() if "permissions" in job] == ["publish"]
    publish = release["jobs"]["publish"]
    assert (publish["permissions"], publish["environment"]) == ({"id-token": "write"}, "pypi")
    assert publish["steps"][-1] == {"uses": "pypa/gh-action-pypi-publish@release/v1"}
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text(encoding="utf-8")


def test_the_site_is_built_there_as_it_is_built_here() -> None:
    config = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text(encoding="utf-8"))
    assert config["sphinx"] == {"configuration": "docs/conf.py", "fail_on_warning": True}
    assert config["python"]["install"] == [{"method": "pip", "path": ".", "extra_requirements": ["docs"]}]
    assert config["build"]["tools"]["python"] in classified("Programming Language :: Python")
