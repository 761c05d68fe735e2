"""The Lua files: each says why it is one act, what it takes and what it returns; the clock comes first."""

from pathlib import Path

import pytest

import mcp_sessions.store

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
