"""deploy/README.md says what deploy/ has."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    compose,
    variables_read,
)
from tests.support.programs import path_of

SECRETS = {"DJANGO_SECRET_KEY": "k", "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r"}
README = (DEPLOY / "README.md").read_text()


@pytest.mark.needs("kubectl")
def test_the_overlay_in_the_readme_builds_and_replaces_every_placeholder(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n# kustomization.yaml\n(.*?)```", README, re.DOTALL)
    overlay = yaml.safe_load(block)
    shutil.copytree(KUBERNETES / "base", tmp_path / "base")
    overlay["resources"] = ["../base"]
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    (tmp_path / "overlay" / "secret.env").write_text("DJANGO_SECRET_KEY=real\nREDIS_URL=r\nDATABASE_URL=d\n")
    command = [path_of("kubectl"), "kustomize", str(tmp_path / "overlay")]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    for placeholder in ("replace-me", "mcp.example.com", "registry.example.com", "name: gateway\n"):
        assert placeholder not in built, placeholder
    assert "mcp.your-company.example,localhost" in built


def test_every_variable_in_the_readmes_table_is_read() -> None:
    names = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert names - {"ASGI_THREADS"} <= variables_read()  # Which daphne itself reads.
    assert names >= {"DJANGO_SECRET_KEY", "DJANGO_ALLOWED_HOSTS", "REDIS_URL", "DATABASE_URL"}


def test_every_file_that_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (DEPLOY / target).exists(), target


def test_the_example_environment_names_what_compose_requires() -> None:
    lines = [line for line in (DEPLOY / "example.env").read_text().splitlines() if line and line[0] != "#"]
    example = dict(line.split("=", 1) for line in lines)
    assert {name for name, value in example.items() if not value} == set(SECRETS)
    allowed = compose(SECRETS)["services"]["app-1"]["environment"]["DJANGO_ALLOWED_HOSTS"]
    assert example["DJANGO_ALLOWED_HOSTS"] == allowed
