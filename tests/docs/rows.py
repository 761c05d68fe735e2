"""Which tests prove which rows of docs/protocol.md. `python -m tests.docs.rows H25` lists those that prove a row.

A test proves the rows of its marker, `@pytest.mark.protocol("H2", "H3")`, on itself, its class or its module, and the
rows that its docstring names.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parent.parent
ROW: Final = re.compile(r"\b[HM][1-9]\d?\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def proved() -> dict[str, list[str]]:
    """Each row with the tests that prove it, as pytest names them."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        name = path.relative_to(TESTS.parent).as_posix()
        for row, test in in_module(ast.parse(path.read_text(encoding="utf-8"))):
            found[row].append(f"{name}::{test}")
    return dict(found)


def in_module(module: ast.Module) -> Iterator[tuple[str, str]]:
    marks = [each.value for each in module.body if isinstance(each, ast.Assign) and _assigns_marks(each)]
    everywhere = _marked(marks)
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            of_class = everywhere | _marked(node.decorator_list)
            for method in _tests(node.body):
                yield from ((row, f"{node.name}::{method.name}") for row in sorted(of_class | _rows(method)))
    for function in _tests(module.body):
        yield from ((row, function.name) for row in sorted(everywhere | _rows(function)))


def _assigns_marks(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _tests(body: list[ast.stmt]) -> Iterator[Function]:
    return (node for node in body if isinstance(node, Function) and node.name.startswith("test"))


def _rows(function: Function) -> set[str]:
    return _marked(function.decorator_list) | set(ROW.findall(ast.get_docstring(function) or ""))


def _marked(expressions: list[ast.expr]) -> set[str]:
    """The rows of every `pytest.mark.protocol(...)` in these expressions, alone or in a list."""
    calls = [node for each in expressions for node in ast.walk(each) if isinstance(node, ast.Call)]
    marks = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "protocol"]
    return {
        str(argument.value) for mark in marks for argument in mark.args if isinstance(argument, ast.Constant)
    }


def main(wanted: list[str]) -> None:
    for row, tests in sorted(proved().items(), key=lambda item: (item[0][0], int(item[0][1:]))):
        if not wanted or row in wanted:
            print(row, *tests, sep="\n    ")  # noqa: T201 - for a person at a terminal


if __name__ == "__main__":
    main(sys.argv[1:])
