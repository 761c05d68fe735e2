"""Programs that some tests need: where they are, how they get there, and what is said about those that are missing.

A test names what must be on the machine: `@pytest.mark.needs("nginx")`. Without one of them the test is not run and the
summary says so; with MCP_SESSIONS_CI=1 it fails instead, and so does a run in which anything at all was skipped.

Clients and suites that others wrote are installed on first use into the ignored folder `.cache` and kept there;
`python -m tests.support.programs` installs all of them beforehand. Their versions are pinned: npm packages by a
package.json and its lock file, Python packages by a requirements file.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.support import ROOT

TESTS: Final = ROOT / "tests"
CACHE: Final = ROOT / ".cache"
#: Seconds that one installation may take.
BOUND: Final = 600
#: Requirements files; one virtual environment is made for each.
PIP: Final = (
    "clients/requirements-2025-03-26.txt",
    "clients/requirements-2025-06-18.txt",
    "clients/requirements-2025-11-25.txt",
    "clients/requirements-fastmcp-2.txt",
    "clients/requirements-fastmcp-4.txt",
    "clients/requirements-fastmcp-server.txt",
)
#: What this app needs, for a Python other than this one.
APP: Final = "projects/requirements-app.txt"
PYTHONS: Final = ("python3.12", "python3.13")
#: Requirements files of which only the packages themselves are installed, for PYTHONPATH.
FOLDERS: Final = (
    "projects/requirements-servers.txt",
    "projects/requirements-django-6.0.txt",
    "projects/requirements-django-6.1.txt",
)

CI: Final = os.environ.get("MCP_SESSIONS_CI") == "1"
NOT_RUN: Final = "not run, because this machine has no "


@cache
def find(name: str) -> Path | None:
    """The program, or None. Names: the keys of FINDERS.

    Raises: KeyError for another name.
    """
    return FINDERS[name]()


def path_of(name: str) -> str:
    """The program's path, for a test that is marked as needing it. Raises: LookupError."""
    found = find(name)
    if found is None:
        raise LookupError(f"There is no {name} here; mark the test with needs({name!r}).")
    return str(found)


def require(item: pytest.Item) -> None:
    """Skip, or in CI fail, a test that needs a program which is not here."""
    names = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    missing = sorted({name for name in names if find(name) is None})
    if not missing:
        return
    reason = f"{NOT_RUN}{' and no '.join(missing)}"
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def what_was_not_run(skipped: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each reason, with the number of tests that it kept from running."""
    reasons = Counter(_reason(report) for report in skipped)
    return [f"{number} tests {reason}" for reason, number in sorted(reasons.items())]


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _on_path(*names: str) -> Callable[[], Path | None]:
    def look() -> Path | None:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
        found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
        return Path(found) if found else None

    return look


def _first_of(pattern: str) -> Callable[[], Path | None]:
    """A file below /usr, which is not on the PATH."""
    return lambda: next(iter(sorted(Path("/usr").glob(pattern))), None)


def _git_with_history() -> Path | None:
    """git, if this is a clone with all commits."""
    git = _on_path("git")()
    if git is None:
        return None
    asked = [str(git), "-C", str(ROOT), "rev-parse", "--is-shallow-repository"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    return git if said.stdout.strip() == "false" else None


def _python(version: str) -> Callable[[], Path | None]:
    """An interpreter of that version that works: pyenv has programs on the PATH that refuse to."""

    def look() -> Path | None:
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        found = [*sorted(pyenv.glob(f"versions/{version}.*/bin/python")), _on_path(f"python{version}")()]
        return next((path for path in found if path and _works(path)), None)

    return look


def _works(python: Path) -> bool:
    asked = [str(python), "-c", "import ssl, sqlite3, venv"]
    return subprocess.run(asked, capture_output=True, timeout=60).returncode == 0


FINDERS: Final[dict[str, Callable[[], Path | None]]] = {
    "chromedriver": _on_path("chromedriver"),
    "chromium": _on_path("chromium", "chromium-browser", "google-chrome"),
    "curl": _on_path("curl"),
    "docker-compose": _on_path("docker-compose"),
    "history": _git_with_history,
    "libfaketime": _first_of("lib/**/faketime/libfaketimeMT.so.1"),
    "kubectl": _on_path("kubectl"),
    "msgfmt": _on_path("msgfmt"),
    "nginx": _on_path("nginx"),
    "npm": _on_path("npm"),
    "python3.12": _python("3.12"),
    "python3.13": _python("3.13"),
    "systemd-analyze": _on_path("systemd-analyze"),
}


def npm_packages() -> Path:
    """The `node_modules` that tests/npm/package-lock.json describes, with a Node of its own; see `node`.

    Raises: RuntimeError when npm fails, LookupError without npm.
    """
    files = [TESTS / "npm" / name for name in ("package.json", "package-lock.json")]

    def install(home: Path) -> None:
        for file in files:
            shutil.copy(file, home)
        quiet = ("--no-audit", "--no-fund", "--loglevel", "error")
        _run(path_of("npm"), "ci", *quiet, cwd=home)

    return _once("npm", files, install) / "node_modules"


def node() -> str:
    """The Node among those packages. Raises: as `npm_packages`."""
    return str(npm_packages() / "node" / "bin" / "node")


def python_with(requirements: str, python: str | None = None) -> Path:
    """The Python of a virtual environment with these requirements, a file below tests/, and nothing else.

    `python` is one of FINDERS, and this one by default. Raises: RuntimeError when pip fails; LookupError without it.
    """
    file = TESTS / requirements

    def install(home: Path) -> None:
        if python:
            # This Python's pip may be too old for a newer one.
            _run(path_of(python), "-m", "venv", str(home))
            pip = [str(home / "bin" / "python"), "-m", "pip"]
        else:
            # This Python's pip does it: to install one in each environment takes longer than most clients.
            _run(sys.executable, "-m", "venv", "--without-pip", str(home))
            pip = [sys.executable, "-m", "pip", "--python", str(home)]
        quiet = ("--disable-pip-version-check", "--quiet")
        # Python compiles what is imported; most of what is installed never is.
        _run(*pip, *quiet, "install", "--no-compile", "--requirement", str(file), cwd=home)

    name = requirements.removesuffix(".txt") + (f"-{python}" if python else "")
    return _once(name, [file], install) / "bin" / "python"


def folder_with(requirements: str) -> Path:
    """A folder for PYTHONPATH with these requirements, a file below tests/, without what they need themselves.

    Raises: RuntimeError when pip fails.
    """
    file = TESTS / requirements

    def install(home: Path) -> None:
        # Another Python may be meant: they are pure Python.
        quiet = (
            "--disable-pip-version-check",
            "--quiet",
            "--no-deps",
            "--no-compile",
            "--ignore-requires-python",
        )
        into = ("--target", str(home / "packages"))
        _run(sys.executable, "-m", "pip", "install", *quiet, *into, "--requirement", str(file))

    return _once(requirements.removesuffix(".txt"), [file], install) / "packages"


def _once(name: str, files: list[Path], install: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache, installed anew when one of the files changed; one process at a time."""
    home = CACHE / name
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = home / "installed"
    with _locked(home.with_name(f"{home.name}.lock")):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            install(home)
            stamp.write_text(wanted)
    return home


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str, cwd: Path = TESTS) -> None:
    """Its output is in the error that is raised when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=BOUND)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"[:4000]
        )


def install_everything() -> None:
    """Install what is not there yet, two at a time; see the functions above for what can go wrong."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        installing = [pool.submit(npm_packages), *(pool.submit(python_with, each) for each in PIP)]
        installing += [pool.submit(python_with, APP, each) for each in PYTHONS if find(each)]
        installing += [pool.submit(folder_with, each) for each in FOLDERS]
    for each in installing:
        each.result()


if __name__ == "__main__":
    install_everything()
