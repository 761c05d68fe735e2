"""The README's project on other Pythons and Djangos than this one: what docs/existing-projects.md says was run."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import django
import pytest

from tests.docs import markdown
from tests.projects.generated import (
    DOCUMENT,
    NAME,
    Installation,
    Project,
    expire,
    generate,
    sessions_in_admin,
    staff,
    with_database,
    works,
)
from tests.support import ROOT, programs
from tests.support.processes import started
from tests.support.redis import RedisServer

# The first test of a Python installs its environment, if `make tools` has not.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Python -> the releases of Django that projects of these tests run on, besides this Python and its Django.
OTHERS: Final = {"3.12": ("6.0", "6.1"), "3.13": ("6.0", "6.1")}
#: The oldest of all, which the lock has.
LOCKED: Final = {"3.11": ("5.2",)}
SET_UP: Final = f"""
from django.core.management import call_command

call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING")
call_command("createsuperuser", interactive=False, username={NAME!r}, email="ada@example.com")
"""


@pytest.mark.parametrize(
    ("python", "release"),
    [
        pytest.param(python, release, marks=pytest.mark.needs(f"python{python}"))
        for python, releases in OTHERS.items()
        for release in releases
    ],
)
def test_the_project_runs_on_another_python_and_django(
    python: str, release: str, unpacked: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    installation = Installation(
        python=str(programs.python_with(programs.APP, f"python{python}")),
        path=(unpacked, programs.folder_with(f"projects/requirements-django-{release}.txt")),
    )
    project = generate(tmp_path / f"{tmp_path.name}-project", installation, redis_server.url)
    project.run(SET_UP)
    is_served(project, unpacked, python, release)


def test_the_project_runs_on_this_python_and_django(
    here: Installation, migrated: Project, unpacked: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    project = generate(tmp_path / f"{tmp_path.name}-project", here, redis_server.url)
    project = with_database(project, migrated)
    is_served(project, unpacked, version(sys.version_info), version(django.VERSION))


def version(of: Sequence[object]) -> str:
    """The first two numbers."""
    return ".".join(map(str, of[:2]))


def is_served(project: Project, unpacked: Path, python: str, release: str) -> None:
    """A client uses the endpoint, and an operator ends its session in the admin."""
    server = project.server("daphne mysite.asgi:application")
    with started([server]):
        client = works(server.url, unpacked)
        _, of_python, of_django = client.value(server.url, "installed")
        assert of_python.startswith(f"{python}.")
        assert f"{of_django}.".startswith(f"{release}.")
        with closing(staff(server.url)) as browser:
            assert client.fingerprint in sessions_in_admin(browser)
            expire(browser, client)
        assert client.post(server.url, client.request("ping")).status_code == 404


def test_the_document_says_what_was_run() -> None:
    written = {row[0]: tuple(row[1].split(", ")) for row in markdown.table(DOCUMENT, "Python")}
    assert written == {**LOCKED, **OTHERS}
    locked = (ROOT / "constraints.txt").read_text()
    [[release]] = LOCKED.values()
    assert f"\ndjango=={release}." in locked.lower()
