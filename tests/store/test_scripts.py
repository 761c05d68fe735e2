"""The Lua files: each says why it is one act, what it takes and what it returns; the clock comes first."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import mcp_sessions.store
from mcp_sessions.store import calls
from mcp_sessions.store.call import Script

FILES = sorted((Path(mcp_sessions.store.__file__).parent / "lua").glob("[a-z]*.lua"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_every_script_says_why_what_it_takes_and_what_it_returns(file: Path) -> None:
    text = file.read_text(encoding="ascii")
    header = [line for line in text.splitlines() if line.startswith("--")]

    assert any("tomic" in line or "same shape" in line for line in header)
    assert any("KEYS:" in line for line in header)
    assert any("ARGV: 1 now or ''" in line for line in header)
    assert any("Returns:" in line for line in header)
    assert len(text.splitlines()) <= 50
    assert "EXPIRE GT" not in text.upper()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_a_script_takes_the_time_from_its_first_argument_or_says_that_it_does_not(file: Path) -> None:
    """In tests it is not the server's."""
    text = file.read_text(encoding="ascii")
    asked = re.findall(r"clock\((.*?)\)", "\n".join(line.split("--")[0] for line in text.splitlines()))
    if "ARGV: 1 now or '' (not used)" in text:
        assert set(asked) <= {"''"}
    else:
        assert asked == ["ARGV[1]"]


#: A second run would do it twice, or give another answer than the first, whose reply was lost.
ONCE = {
    "create": "it finds the session that it has made",
    "request_answer": "it finds the answer that it has given",
    "spend": "it spends again",
    "state_append": "it appends again",
    "state_delete": "it finds nothing to delete",
    "state_incr": "it adds again",
    "recent_note": "it notes again",
}


def test_what_may_run_twice_is_sent_again_when_a_connection_breaks() -> None:
    modules = [
        import_module(f"{calls.__name__}.{each.name}") for each in pkgutil.iter_modules(calls.__path__)
    ]
    scripts = {
        each.name: each for module in modules for each in vars(module).values() if isinstance(each, Script)
    }
    assert set(scripts) == {file.stem for file in FILES}
    assert {name for name, script in scripts.items() if not script.repeatable} == set(ONCE)
