"""Changes of the code at random: cosmic-ray makes those of Python, universalmutator those of Lua."""

import ast
import contextlib
import difflib
import io
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from lupa import lua51
from universalmutator.mutator import mutants_regexp

ROOT: Final = Path(__file__).resolve().parents[1]
#: Operators of cosmic-ray that have to be told which variables to replace.
NEEDS_VARIABLES: Final = ("core/VariableReplacer", "core/VariableInserter")


@dataclass(frozen=True)
class Change:
    """A file with one change."""

    path: Path
    before: str
    after: str

    @property
    def line(self) -> int:
        """The number of the first line that it changes."""
        pairs = zip(self.before.splitlines(), self.after.splitlines(), strict=False)
        return next((number for number, (was, is_) in enumerate(pairs, 1) if was != is_), 1)

    def __str__(self) -> str:
        difference = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), n=0, lineterm="")
        return "\n".join([str(self.path), *(f"    {line}" for line in list(difference)[2:])])


#: A place in a file, and the changes that may be made there.
Place = tuple[Path, list[Callable[[str], str]]]


def places(path: Path) -> list[Place]:
    """Every place of a file that can be changed."""
    found: dict[object, list[Callable[[str], str]]] = defaultdict(list)
    for where, change in (_in_lua if path.suffix == ".lua" else _in_python)(path):
        found[where].append(change)
    return [(path, changes) for changes in found.values()]


def _in_lua(path: Path) -> Iterator[tuple[object, Callable[[str], str]]]:
    """By lines: universalmutator's rules for every language, and ours."""
    lines = (ROOT / path).read_text(encoding="ascii").splitlines(keepends=True)
    rules = ["universal.rules", str(ROOT / "tools" / "lua.rules")]
    with contextlib.redirect_stdout(io.StringIO()):
        found = mutants_regexp(lines, ruleFiles=rules, ignorePatterns=[])
    for number, after, *_ in found:
        yield number, lambda _, n=number, line=after: "".join([*lines[: n - 1], line, *lines[n:]])


def _in_python(path: Path) -> Iterator[tuple[object, Callable[[str], str]]]:
    """By nodes of the syntax tree: cosmic-ray's operators."""
    tree = get_ast((ROOT / path).read_text(encoding="utf-8"))
    for name in operator_names():
        if name in NEEDS_VARIABLES:
            continue
        operator = get_operator(name)()
        positions = (position for node in ast_nodes(tree) for position in operator.mutation_positions(node))
        for occurrence, position in enumerate(positions):
            yield position, lambda text, o=operator, n=occurrence: mutate_code(text, o, n)


def change_at(place: Place, randomly: random.Random) -> Change | None:
    """One of the changes of a place that compiles and means something else; None if there is none."""
    path, changes = place
    before = (ROOT / path).read_text(encoding="utf-8")
    meaning = _in_lua_means if path.suffix == ".lua" else _in_python_means
    for change in randomly.sample(changes, len(changes)):
        try:
            after = change(before)
        except AttributeError:  # cosmic-ray cannot replace an exception that is no name
            continue
        if after is not None and meaning(after) not in (None, meaning(before)):
            return Change(path, before, after)
    return None


def _in_lua_means(text: str) -> str | None:
    """The same for texts that differ only in comments; None if it does not compile."""
    compiled = lua51.LuaRuntime().eval("function(text) return (loadstring(text)) end")(text)
    return None if compiled is None else "\n".join(line.split("--")[0].rstrip() for line in text.splitlines())


def _in_python_means(text: str) -> str | None:
    """The same for texts that differ only in comments, docstrings, annotations, and in how arguments may be passed.

    None if it does not compile.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(""))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
        if isinstance(node, ast.arguments):
            node.args, node.posonlyargs = [*node.posonlyargs, *node.args], []
            if not node.vararg:
                node.args, node.kwonlyargs = [*node.args, *node.kwonlyargs], []
                node.defaults += [each for each in node.kw_defaults if each is not None]
                node.kw_defaults = []
    return ast.dump(tree)
