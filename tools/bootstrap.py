"""Create .venv and install into it: `python3 tools/bootstrap.py run` or `... dev`. Needs nothing but Python.

Does nothing if .venv already holds what pyproject.toml and constraints.txt ask for. The environment variable DJANGO
chooses another release of Django than constraints.txt has: DJANGO=6.1 installs the newest 6.1. Written so that an old
Python can still read it and say that it is too old.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
OLDEST = (3, 11)
NEWER = ["python3.14", "python3.13", "python3.12", "python3.11"]
#: Purpose -> extras to install; `dev` includes all of `run`.
EXTRAS = {"run": "demo,embedded,memory", "dev": "dev"}
#: Modules that must be there if an environment is to count as installed: somebody may have deleted a part of it.
MODULES = {
    "run": "channels daphne dj_database_url django django_redis hiredis lupa mcp mcp_sessions redis whitenoise",
    "dev": "django lupa mcp mcp_sessions mypy pytest redis",
}


def main(purpose):
    """Install what the purpose needs, or exit with a sentence that says what prevents it."""
    if sys.version_info < OLDEST:
        _start_again_with_a_newer_python()
    is_whole = _is_whole(purpose)
    if _stamp(purpose) in _stamps() and is_whole:
        return
    if not os.path.exists(_python()) or (_stamps() and not is_whole):
        _make_venv()
    print("Installing into .venv (%s) ..." % EXTRAS[purpose], flush=True)
    _pip("install", "--quiet", "--constraint", _constraints(), "--editable", ".[%s]" % EXTRAS[purpose])
    with open(os.path.join(VENV, "installed"), "w") as stamps:
        stamps.write("\n".join([_stamp(purpose)] + ([_stamp("run")] if purpose == "dev" else [])))


def _start_again_with_a_newer_python():
    for name in NEWER:
        found = shutil.which(name)
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(found, [found, *sys.argv])  # noqa: S606 - a path that `which` found
    sys.exit(
        "This project needs Python %d.%d or newer; %s is Python %d.%d. Install one, or name it: "
        "make PYTHON=/path/to/python." % (*OLDEST, sys.executable, *sys.version_info[:2])
    )


def _make_venv():
    print("Creating .venv with %s ..." % sys.executable, flush=True)
    try:
        import ensurepip
        import venv
    except ImportError:
        sys.exit(
            "%s cannot create virtual environments. On Debian and Ubuntu: apt install python3-venv."
            % sys.executable
        )
    del ensurepip
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True, symlinks=True)


def _is_whole(purpose):
    """Whether the environment has a Python that works, and the modules. pip believes its list, not the folders."""
    look = (
        "import sys; from importlib.util import find_spec; found = map(find_spec, sys.argv[1:]); "
        "sys.exit(not all(spec and spec.origin for spec in found))"  # a folder that was emptied has no origin
    )
    try:
        command = [_python(), "-c", look, *MODULES[purpose].split()]
        return subprocess.call(command, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _constraints():
    """The path of constraints.txt, or of a copy in .venv that has the release of Django that DJANGO names."""
    release = os.environ.get("DJANGO")
    if not release:
        return "constraints.txt"
    with open(os.path.join(ROOT, "constraints.txt")) as file:
        others = [line for line in file if not line.lower().startswith("django==")]
    path = os.path.join(VENV, "constraints.txt")
    with open(path, "w") as file:
        file.writelines([*others, "Django==%s.*\n" % release])
    return path


def _pip(*arguments):
    command = [_python(), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.call(command, cwd=ROOT, stdin=subprocess.DEVNULL) != 0:
        sys.exit("The installation failed; see the reason above.")


def _python():
    return os.path.join(VENV, "bin", "python")


def _stamp(purpose):
    """Changes whenever what should be installed changes."""
    digest = hashlib.sha256((purpose + os.environ.get("DJANGO", "")).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def _stamps():
    try:
        with open(os.path.join(VENV, "installed")) as stamps:
            return stamps.read().split()
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    main(sys.argv[1])
