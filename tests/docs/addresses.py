"""The addresses of the documentation site that the package gives to somebody: in checks, in errors and in the log."""

import ast
import json
from collections.abc import Iterator
from typing import Final

from mcp_sessions.documentation import page
from mcp_sessions.transport import rejections
from mcp_sessions.transport.rejections import Rejection
from tests.docs.test_checks import registered
from tests.support import ROOT

REJECTIONS: Final = [value for value in vars(rejections).values() if isinstance(value, Rejection)]


def addresses() -> list[str]:
    """Every address that the package gives to somebody."""
    ids = [page("checks", number.lower()) for number in registered()]
    told = [json.loads(each.body)["error"].get("data", {}).get("see") for each in REJECTIONS]
    return sorted({*_written(), *ids, *filter(None, told)})


def _written() -> Iterator[str]:
    """Those whose page and heading stand in the code."""
    for path in (ROOT / "mcp_sessions").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "page":
                parts = [each.value for each in node.args if isinstance(each, ast.Constant)]
                if len(parts) == len(node.args):
                    yield page(*map(str, parts))
