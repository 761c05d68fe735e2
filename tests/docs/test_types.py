"""The modules of the README and of docs/, as a user's project: `mypy --strict` and pyright have nothing to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import markdown, readme
from tests.support import ROOT, programs
from tests.support.processes import ENVIRONMENT

#: The page about tools uses the demo's models, whose fields have types with the plugin of django-stubs only.
MYPY = """
[mypy]
strict = true
plugins = mypy_django_plugin.main

[mypy.plugins.django-stubs]
django_settings_module = project.settings
"""
#: What a reader knows of the value that a call gives, as both checkers say it.
REVEALED = """
from mcp_sessions import StateHandle, current_session, current_user


class Basket(StateHandle, kind="typed-basket"):
    pass


async def known(basket: Basket) -> None:
    state = current_session().state
    reveal_type(await state.get("facts", [1]))  # list[int]
    reveal_type(await state.get("name", "nobody"))  # str
    reveal_type(await state.get("name"))  # Any | None
    reveal_type(await state.incr("count"))  # int
    reveal_type(await state.incr("sum", 0.5))  # float
    reveal_type(await basket.get("articles", {"tea": 1}))  # dict[str, int]
    reveal_type(current_user().state_sync.get("moves", 0))  # int
    reveal_type(basket.sync.incr("sum", 0.5))  # float
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's project with the modules, each in a file."""
    home = tmp_path_factory.mktemp("reader")
    (home / "mysite").mkdir()
    for name in ("__init__.py", "settings.py"):
        (home / "mysite" / name).touch()
    readme.write_code(home, "redis://127.0.0.1:6379/0")
    (home / "mysite" / "settings.py").unlink()  # it is Django's, but for four lines without functions
    for name in ("tools", "state"):
        found = markdown.blocks(markdown.read(f"{name}.md"), "python")
        code = "\n\n".join(block.code for block in found if not block.title)
        (home / "mysite" / f"documented_{name}.py").write_text(code)
    (home / "documented_signals.py").write_text(
        markdown.blocks(markdown.read("signals.md"), "python")[0].code
    )
    for page in ("testing.md", "authentication.md", "tutorial/6-tokens.md"):
        for block in markdown.blocks(markdown.read(page), "python"):
            # Not what is added to a module.
            whole = "settings.py" not in (block.title or "") and "urlpatterns +=" not in block.code
            if block.title and whole:
                path = home / block.title
                path.parent.mkdir(exist_ok=True)
                if path.parent != home:
                    (path.parent / "__init__.py").touch()
                path.write_text(block.code)
    (home / "revealed.py").write_text(REVEALED)
    return home


def expected_types() -> list[str]:
    return [line.rpartition("# ")[2] for line in REVEALED.splitlines() if "reveal_type" in line]


@pytest.mark.slow
def test_mypy_accepts_them_in_strict_mode(project: Path) -> None:
    (project / "mypy.ini").write_text(MYPY)
    cache = ROOT / ".mypy_cache" / "documented"
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", f"--cache-dir={cache}", "."]
    environment = {**ENVIRONMENT, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    checked = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )
    said = checked.stdout.splitlines()
    revealed = [line.split('"')[1] for line in said if "Revealed type" in line]
    assert [line for line in said if ": error:" in line] == []
    assert [text.replace("builtins.", "") for text in revealed] == expected_types()


@pytest.mark.slow
@pytest.mark.needs("npm")
def test_pyright_accepts_them(project: Path) -> None:
    config = project / "pyrightconfig.json"
    config.write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    program = str(programs.npm_packages() / "pyright" / "index.js")
    options = ("--outputjson", "--pythonpath", sys.executable, "--project", str(config))
    command = [programs.node(), program, *options]
    checked = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    said = json.loads(checked.stdout)["generalDiagnostics"]
    errors = [f"{each['file']}: {each['message']}" for each in said if each["severity"] == "error"]
    revealed = [each["message"].split('"')[-2] for each in said if each["severity"] == "information"]
    assert errors == []
    assert revealed == expected_types()
