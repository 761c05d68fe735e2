"""What deploy/ says, read for the tests: compose file, Dockerfile, nginx.conf and the built Kubernetes objects."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from project.endpoint import READERS
from tests.support import ROOT
from tests.support.programs import path_of

DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"

Object = dict[str, Any]


def compose(values: Mapping[str, str]) -> Object:
    """The compose file with its variables filled in as compose does it: from `values`, else their defaults.

    Raises: KeyError for a variable that has no default and is not among the values.
    """

    def value(match: re.Match[str]) -> str:
        name, sign, default = match.groups()
        return values[name] if sign == "?" else values.get(name, default)

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(child) for key, child in node.items()}
        if isinstance(node, list):
            return [filled(child) for child in node]
        return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, node) if isinstance(node, str) else node

    loaded: Object = filled(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))
    return loaded


def dockerfile_instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined, comments left out."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def image_command() -> list[str]:
    """What a container of the image executes."""
    command: list[str] = json.loads(dict(dockerfile_instructions())["CMD"])
    return command


def built_objects(folder: Path) -> list[Object]:
    """What `kubectl kustomize` makes of a folder."""
    command = [path_of("kubectl"), "kustomize", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return list(yaml.safe_load_all(built))


def kubernetes_objects(folder: str) -> dict[str, Object]:
    """What `kubectl kustomize` makes of a folder below deploy/kubernetes, by kind; there is one object of each kind."""
    objects = built_objects(KUBERNETES / folder)
    by_kind: dict[str, Object] = {obj["kind"]: obj for obj in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def nginx_conf(directory: Path, *, listen: int, processes: Mapping[str, int]) -> str:
    """nginx.conf for this machine: free ports of 127.0.0.1, files below `directory`. All else as it is deployed."""
    text = _replaced((DEPLOY / "nginx.conf").read_text(), " /tmp/", f" {directory}/")
    for host, port in processes.items():
        text = _replaced(text, f"server {host}:8000", f"server 127.0.0.1:{port}")
    text = _replaced(text, "listen 8080", f"listen 127.0.0.1:{listen}")
    return _replaced(text, "/dev/stdout", f"{directory}/access.log")


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def variables_read() -> set[str]:
    """Every environment variable that the demo and its server read."""
    settings = (ROOT / "project" / "settings.py").read_text()
    server = (ROOT / "mcp_sessions" / "daphne" / "__init__.py").read_text()
    named = re.findall(r'\bread\(\s*"(\w+)"', settings) + re.findall(r'_from_environment\("(\w+)"', server)
    return {*named, *(f"MCP_{key}" for key in READERS)}
