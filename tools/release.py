"""`make wheel`: build both distributions into dist/, check them, list what is below them, and look for vulnerabilities.

Beside the wheel is a software bill of materials in CycloneDX: every package that an installation of the wheel with its
optional parts has, with the versions that this project is tested with. pip-audit asks PyPI about these versions; what
could not be asked is said in one sentence, and is no failure.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What users install with the wheel; the other extras are for the demo and for development.
EXTRAS = "encryption,jwt,memory,metrics,oauth"
TOOLS = ("cyclonedx-bom>=7.5,<8", "pip-audit>=2.10,<3")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", scratch / "dist", ROOT)
        check(scratch / "dist")
        [wheel] = (scratch / "dist").glob("*.whl")
        installed, tools = scratch / "installed", scratch / "tools"
        install(installed, "--constraint", ROOT / "constraints.txt", f"{wheel}[{EXTRAS}]")
        install(tools, *TOOLS)
        bill = scratch / "dist" / f"{wheel.stem}.cdx.json"
        list_packages(tools, installed, bill)
        out.mkdir(parents=True, exist_ok=True)
        for made in sorted((scratch / "dist").iterdir()):
            shutil.move(made, out / made.name)
            print(out / made.name)
        return audit(tools, installed)


def check(folder: Path) -> None:
    """Raises: SystemExit with what an index, or a user, would not like about the distributions in a folder."""
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(folder.iterdir()))
    run(sys.executable, "-m", "check_wheel_contents", *folder.glob("*.whl"))


def install(home: Path, *what: str | Path) -> None:
    """Make a virtual environment that has packages and what they need, and nothing else: no pip."""
    venv.create(home)
    run(sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", *what)


def list_packages(tools: Path, installed: Path, bill: Path) -> None:
    """Write the bill of materials of an environment."""
    command: list[str | Path] = [
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-reproducible",
        "--output-file",
        bill,
    ]
    run(tools / "bin" / "python", *command, installed / "bin" / "python")


def audit(tools: Path, installed: Path) -> int:
    """What `verdict` says of an environment; its sentence is printed."""
    [packages] = installed.glob("lib/python*/site-packages")
    asked: list[str | Path] = [
        "-m",
        "pip_audit",
        "--path",
        packages,
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    done = subprocess.run([tools / "bin" / "python", *asked], capture_output=True, text=True)
    status, sentence = verdict(done.stdout, done.stderr)
    print(sentence)
    return status


def verdict(answer: str, errors: str) -> tuple[int, str]:
    """1 if pip-audit has found a vulnerability, else 0; and what it has found, or why nothing was asked, in words.

    `answer` is its JSON. It ends with 0 and "No known vulnerabilities found" also if PyPI answered nothing.
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except ValueError:
        reason = (errors.strip().splitlines() or ["pip-audit wrote nothing"])[-1]
        return 0, f"Not audited: the vulnerability service could not be asked ({reason})."
    others = [each for each in packages if each["name"] != "mcp-sessions"]  # this version is not published
    audited = [each for each in others if "skip_reason" not in each]
    found = [
        f"{each['name']} {each['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'no version'}"
        for each in audited
        for one in each["vulns"]
    ]
    if found:
        return 1, "\n".join(["Known vulnerabilities:", *found])
    if not audited:
        return (
            0,
            f"Not audited: the vulnerability service gave no answer about any of {len(others)} packages.",
        )
    left = ", and no answer about the others" if len(audited) < len(others) else ""
    return 0, f"Audited {len(audited)} of {len(others)} packages: no known vulnerability{left}."


def run(*command: str | Path) -> None:
    """Raises: SystemExit with what it wrote, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
