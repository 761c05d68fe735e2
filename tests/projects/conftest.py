"""The wheel, installed for the projects of this suite, and a project whose database is migrated."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects.generated import NAME, Installation, Project, generate
from tests.support import programs
from tests.support.redis import RedisServer


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with what the wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    quiet = ("--disable-pip-version-check", "--quiet", "--no-deps", "--no-index")
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def here(unpacked: Path) -> Installation:
    """This Python with its Django, and other servers."""
    servers = programs.folder_with("projects/requirements-servers.txt")
    return Installation(python=sys.executable, path=(unpacked, servers))


@pytest.fixture(scope="session")
def migrated(
    here: Installation, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The README's project, with its tables and a superuser."""
    project = generate(tmp_path_factory.mktemp("project") / "plain", here, redis_server.url)
    project.manage("migrate")
    project.manage("createsuperuser", "--noinput", "--username", NAME, "--email", "ada@example.com")
    return project
