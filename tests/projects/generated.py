"""A project that a reader of docs/existing-projects.md has: the README's, changed as a section says, with the wheel."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from django.core.management import call_command

from tests.docs import markdown, readme
from tests.support.mcp_client import RawClient
from tests.support.processes import HOST, Process, free_port

DOCUMENT: Final = markdown.read("existing-projects.md")
#: Superuser of every project.
NAME: Final = "ada"
PASSWORD: Final = "a-password-of-the-tests"
#: What a project's server has in addition to the README's: where it was installed, and what tells of its end.
MORE: Final = '''

import sys
from contextlib import asynccontextmanager

import django
import mcp_sessions


@server.tool()
def installed() -> list[str]:
    """Where the package is, and what it runs on."""
    return [mcp_sessions.__file__, sys.version, django.get_version()]


@asynccontextmanager
async def lifespan(_):
    yield {}
    print("the lifespan was exited", flush=True)


server._lowlevel_server.lifespan = lifespan
'''
#: The list of sessions in the admin.
LIST: Final = "/admin/mcp_sessions/mcpsession/"
#: The options by which servers are told where to listen.
LISTEN: Final = {
    "daphne": ("-b", HOST, "-p", "{port}"),
    "mcp_sessions.daphne": ("-b", HOST, "-p", "{port}"),
    "uvicorn": ("--port", "{port}"),
    "hypercorn": ("--bind", f"{HOST}:{{port}}"),
    "gunicorn": ("--bind", f"{HOST}:{{port}}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A Python that has the package, from its wheel, and what the package needs."""

    python: str
    #: PYTHONPATH: where the wheel is, and whatever goes before what the Python has.
    path: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project in a folder of its own."""

    directory: Path
    installation: Installation

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, self.installation.path))
        return {
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
        }

    def manage(self, *words: str) -> str:
        """Run a command of manage.py; what it wrote to standard output."""
        done = subprocess.run(
            [self.installation.python, "manage.py", *words],
            cwd=self.directory,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, code: str) -> str:
        """Run Python code after `django.setup()`; what it wrote to standard output."""
        done = subprocess.run(
            [self.installation.python, "-c", f"import django\ndjango.setup()\n{code}"],
            cwd=self.directory,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def server(self, command: str, *, name: str = "") -> Process:
        """A server by a command of the document, on a free port instead of the one that is written there.

        They are forked where that is possible (support/forks.py).
        """
        words = shlex.split(command)
        module, *options = words[2:] if words[:2] == ["python", "-m"] else words
        port = free_port()
        listen = [each.format(port=port) for each in LISTEN[module]]
        application = options.pop()
        return Process(
            name=name or module,
            command=(self.installation.python, "-m", module, *options, *listen, application),
            environment=self.environment,
            directory=self.directory,
            port=port,
            log=self.directory / f"{name or module}-{port}.log",
            probe="/admin/login/",
            # hypercorn starts a process that imports everything once more, which a fork may not.
            start_bound=120,
            forked=self.installation.python == sys.executable and module != "hypercorn",
        )


def generate(
    directory: Path, installation: Installation, redis_url: str, heading: str | None = None
) -> Project:
    """The README's project, changed as the section below a heading says. Its database is not there yet."""
    directory.mkdir()
    call_command("startproject", "mysite", str(directory))
    readme.write_code(directory, redis_url)
    project = Project(directory=directory, installation=installation)
    if heading is not None:
        follow(project, heading, redis_url)
    server = directory / "mysite" / "mcp.py"
    server.write_text(server.read_text() + MORE)
    settings = directory / "mysite" / "settings.py"
    # Projects of one run share a Redis.
    settings.write_text(
        settings.read_text().replace('"NAMESPACE": "mysite"', f'"NAMESPACE": "{directory.name}"')
    )
    return project


def follow(project: Project, heading: str, redis_url: str) -> None:
    """Write the modules and templates of a section, the settings to the end of those that are there."""
    section = markdown.section(DOCUMENT, heading)
    for block in [*markdown.blocks(section, "python"), *markdown.blocks(section, "html")]:
        if block.title:
            path = project.directory / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text() if path.name == "settings.py" else ""
            path.write_text(before + block.code.replace(readme.REDIS_URL, redis_url))


def with_database(project: Project, migrated: Project) -> Project:
    """Give a project the database of another one with the same apps."""
    shutil.copy(migrated.directory / "db.sqlite3", project.directory)
    return project


def commands(heading: str) -> list[str]:
    """The commands of a section, in order."""
    section = markdown.section(DOCUMENT, heading)
    return [line.removeprefix("$ ") for line in re.findall(r"^\$ .+$", section, re.MULTILINE)]


def staff(url: str, login: str = "/admin/login/", name: str = NAME) -> httpx2.Client:
    """A browser in which the superuser is logged in. `url` is the server's."""
    browser = httpx2.Client(base_url=url, timeout=30, follow_redirects=True)
    browser.get(login)
    form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    answer = browser.post(login, data=form, headers={"referer": url + login})
    assert "sessionid" in browser.cookies, answer.text
    return browser


def works(url: str, unpacked: Path, path: str = "/mcp", **client: Any) -> RawClient:
    """The endpoint opens a session, keeps its state, and runs the code of the wheel. The client of that session."""
    opened = RawClient(path=path, **client)
    opened.initialize(url)
    assert opened.value(url, "remember", fact="tea is served at five") == 1
    assert opened.value(url, "remember", fact="the cook likes music") == 2
    [file, *_] = opened.value(url, "installed")
    assert Path(file).is_relative_to(unpacked)
    return opened


def sessions_in_admin(browser: httpx2.Client) -> str:
    """The admin's list of sessions."""
    answer = browser.get(LIST)
    assert answer.status_code == 200, answer.text[:2000]
    return answer.text


def expire(browser: httpx2.Client, client: RawClient) -> None:
    """Force-expire a session in the admin, as an operator does."""
    form = {
        "action": "force_expire",
        "_selected_action": client.fingerprint,
        "csrfmiddlewaretoken": browser.cookies["csrftoken"],
    }
    headers = {"referer": f"{browser.base_url}{LIST.lstrip('/')}"}
    asked = browser.post(LIST, data=form, headers=headers)
    assert "Are you sure" in asked.text
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', asked.text))
    assert browser.post(LIST, data=form | fields, headers=headers).status_code == 200
