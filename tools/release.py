"""`make wheel`: build the wheel into dist/, write what is in it and below it, and look for known vulnerabilities.

Beside the wheel is a software bill of materials in CycloneDX: every package that an installation of the wheel with its
optional parts has, with the versions that this project is tested with. pip-audit asks PyPI about these versions; where
PyPI's answers cannot be had, that is said, and nothing is audited.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What users install with the wheel; the other extras are for the demo and for development.
EXTRAS = "jwt,memory,oauth"
TOOLS = ("cyclonedx-bom>=7.5,<8", "pip-audit>=2.10,<3")
#: With what pip-audit ends if it has found something.
VULNERABLE = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as directory:
        wheel = build(Path(directory), out)
        installed, tools = (environment(Path(directory) / name) for name in ("installed", "tools"))
        run(installed, "-m", "pip", "install", "--constraint", ROOT / "constraints.txt", f"{wheel}[{EXTRAS}]")
        run(tools, "-m", "pip", "install", *TOOLS)
        bill = out / f"{wheel.name.removesuffix('.whl')}.cdx.json"
        run(
            tools,
            "-m",
            "cyclonedx_py",
            "environment",
            "--output-reproducible",
            "--output-file",
            bill,
            installed,
        )
        print(f"{wheel.name}\n{bill.name}")
        return audit(tools, installed)


def build(scratch: Path, out: Path) -> Path:
    """The wheel, in `out`."""
    run(Path(sys.executable), "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch, ROOT)
    [wheel] = scratch.glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(wheel, out / wheel.name))


def environment(home: Path) -> Path:
    """The Python of a new virtual environment."""
    venv.create(home, with_pip=True)
    return home / "bin" / "python"


def audit(tools: Path, installed: Path) -> int:
    """1 if PyPI knows of a vulnerability in what is installed; 0 also if it cannot be asked, which is printed."""
    [packages] = installed.parent.parent.glob("lib/python*/site-packages")
    command = [tools, "-m", "pip_audit", "--path", packages, "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode in (0, VULNERABLE) and "Traceback" not in done.stderr:
        print(done.stdout + done.stderr, end="")
        return done.returncode
    print(f"Not audited: {(done.stderr.strip().splitlines() or ['pip-audit failed'])[-1]}")
    return 0


def run(*command: str | Path) -> None:
    """Raises: SystemExit with what it wrote, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
