"""Write constraints.txt: the exact versions that a fresh installation of the `dev` extra gets today.

Run it with the oldest Python that the project supports, so that every version in it supports that one, too.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# The versions that this project is developed and tested with. Written by `make lock`.\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / "bin" / "python"
        _pip(python, "install", "--quiet", "--editable", f"{ROOT}[dev]")
        pinned = sorted(_pip(python, "freeze", "--exclude-editable").splitlines(), key=str.lower)
        (ROOT / "constraints.txt").write_text(HEADER + "\n".join(pinned) + "\n")


def _pip(python: Path, *arguments: str) -> str:
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
