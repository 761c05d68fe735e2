"""Clients and suites that others wrote, installed on first use into the ignored folder `.cache` and kept there.

`python -m tests.installed` installs all of them beforehand. Each has its versions pinned: npm packages by a
package.json and its lock file, Python packages by a requirements file.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.tools import path_of

TESTS: Final = Path(__file__).resolve().parent
CACHE: Final = TESTS.parent / ".cache"
#: Seconds that one installation may take.
BOUND: Final = 600

#: Requirements files; one virtual environment is made for each.
PIP: Final = ("clients/requirements-2025-03-26.txt", "clients/requirements-2025-06-18.txt")


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


def python_with(requirements: str) -> Path:
    """The Python of a virtual environment with these requirements, a file below tests/, and nothing else.

    Raises: RuntimeError when pip fails.
    """
    file = TESTS / requirements

    def install(home: Path) -> None:
        _run(sys.executable, "-m", "venv", str(home))
        pip = ("-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--requirement", str(file))
        _run(str(home / "bin" / "python"), *pip, cwd=home)

    return _once(requirements.removesuffix(".txt"), [file], install) / "bin" / "python"


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
    """Install what is not there yet; see the functions above for what can go wrong."""
    npm_packages()
    for requirements in PIP:
        python_with(requirements)


if __name__ == "__main__":
    install_everything()
