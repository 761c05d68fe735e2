"""`make mutation`: change the code at random, one place at a time, and count the changes that no test notices.

cosmic-ray makes the changes to Python, universalmutator those to Lua, in a copy of the committed files, and only those
count that still compile. Of each part of the code the tests of that part run, first those that run the changed line,
then those that name its module, until the first one fails; it counts if it fails again on its own, and passes without
the change. It prints each change as it is tried, the test that noticed it, and at the end those that survived. With
`--fast`, the rest of the part's tests do not run: what survives is a suspicion then.

    .venv/bin/python tools/mutation.py --part lua --count 40 --seed 7
"""

import argparse
import ast
import contextlib
import difflib
import importlib
import io
import itertools
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from covering import Covering
from lupa import lua51
from universalmutator.mutator import mutants_regexp

ROOT: Final = Path(__file__).resolve().parents[1]
APP: Final = "mcp_sessions"
#: What most tests import: loaded once, for the processes that are forked to run a few of them.
LOADED: Final = (
    "channels.testing",
    "daphne.server",
    "django.contrib.admin",
    "django.test",
    "hypothesis",
    "mcp.client.streamable_http",
    "mcp.server.lowlevel.server",
    "redis.asyncio",
)
#: Operators of cosmic-ray that have to be told which variables to replace.
NEEDS_VARIABLES: Final = ("core/VariableReplacer", "core/VariableInserter")
#: Seconds for the tests of one change; one that hangs is noticed.
LIMIT: Final = 2400
#: Seconds for one test; pyproject.toml has a limit for machines that are slower.
TEST_LIMIT: Final = 120
#: Of the tests that run a line, so many of the fastest are tried first.
FASTEST: Final = 120
NO_END: Final = f"no end within {LIMIT} s"
NO_START: Final = "the tests could not be run"
WITHOUT_A_TEST: Final = (NO_END, NO_START)


@dataclass(frozen=True)
class Part:
    """Some of the code, by glob patterns below the app, and the tests that are to notice, cheap ones first."""

    files: Sequence[str]
    tests: Sequence[str]


#: Compares the bounds that the documentation states with the code.
BOUNDS: Final = "tests/docs/test_guarantees.py"

PARTS: Final = {
    "lua": Part(["store/lua/*.lua"], ["tests/store", "tests/streams", "tests/cluster"]),
    "store": Part(["store/**/*.py", "engine/*.py"], [BOUNDS, "tests/store"]),
    "connections": Part(["connections/*.py"], [BOUNDS, "tests/connections", "tests/store"]),
    "serving": Part(
        [
            "serving/*.py",
            "streams/*.py",
            "cluster/*.py",
            "http/*.py",
            "sdk/*.py",
            "transport/*.py",
        ],
        [
            BOUNDS,
            "tests/transport",
            "tests/cluster",
            "tests/streams",
            "tests/sdk",
            "tests/handles",
            "tests/middleware",
            "tests/http",
            "tests/protocol",
            "tests/serving",
            "tests/chaos",
        ],
    ),
    "admin": Part(
        ["admin/*.py", "inventory/*.py", "management/**/*.py", "models.py"],
        ["tests/inventory", "tests/admin", "tests/browser"],
    ),
    "ends": Part(
        ["audit/*.py", "jobs/*.py", "ending.py"], ["tests/audit", "tests/jobs", "tests/ending", "tests/admin"]
    ),
    "access": Part(
        ["authentication/*.py", "oauth/*.py", "blocks.py", "tokens.py"],
        [BOUNDS, "tests/authentication", "tests/admin", "tests/http", "tests/oauth"],
    ),
    "api": Part(
        ["*.py", "handles/*.py", "metrics/*.py", "templatetags/*.py", "testing/*.py"],
        [
            "tests/unit",
            "tests/middleware",
            "tests/routing",
            "tests/handles",
            "tests/testing",
            "tests/ending",
            "tests/sdk",
            "tests/authentication/test_blocks.py",
            "tests/authentication/test_revoking.py",
            "tests/streams/test_messages.py",
            "tests/admin/test_detail.py",
            "tests/store",
            "tests/serving",
            "tests/docs",
        ],
    ),
    "daphne": Part(
        ["daphne/*.py", "lifecycle.py", "startup.py"],
        [BOUNDS, "tests/unit", "tests/daphne", "tests/serving", "tests/chaos/test_drains.py"],
    ),
    "settings": Part(
        ["conf/*.py", "checks/*.py", "records.py"], ["tests/unit", "tests/checks", "tests/docs"]
    ),
}


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
        except AttributeError:  # cosmic-ray replaces no exception that is named with its module, in a tuple
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


def noticed_by(
    copy: Path,
    change: Change,
    tests: Sequence[str],
    ran: Covering | None,
    sound: dict[str, bool],
    *,
    fast: bool,
) -> str | None:
    """The test that notices a change, or how it ended otherwise; None if no test does.

    A test that fails counts if it does so again on its own, and is sound: it passes without the change.
    """
    near = _naming(change.path, [file for each in tests for file in _files(copy / each)])
    spared = {test for test, passes in sound.items() if not passes}
    fastest = (
        ran.of(change.path, change.before, change.line)[:FASTEST]
        if ran and change.path.suffix == ".py"
        else []
    )
    for chosen, processes in (
        (fastest, 0),
        (near, 0),
        ([] if fast else [*tests, *(f"--ignore={file}" for file in near)], 2),
    ):
        while chosen and (failed := _failing(copy, change, chosen, spared, processes=processes)):
            if failed in WITHOUT_A_TEST:
                if _failing(copy, None, chosen, spared, processes=processes) not in WITHOUT_A_TEST:
                    return failed
                print(f"    so it is without the change, too: {failed}", flush=True)
                break
            if again := _failing(copy, change, [failed], processes=0):
                if failed not in sound:
                    sound[failed] = not _failing(copy, None, [failed], processes=0)
                if sound[failed]:
                    return failed
            spared.add(failed)
            print(f"    {'fails without the change, too' if again else 'passes alone'}: {failed}", flush=True)
    return None


def _files(tests: Path) -> Sequence[Path]:
    return [tests] if tests.is_file() else sorted(tests.rglob("test_*.py"))


def _naming(changed: Path, files: Sequence[Path]) -> list[str]:
    """Those that name or import a module, or that with a script: they notice most of its changes, and take seconds."""
    names = {changed.parent.name if changed.stem == "__init__" else changed.stem}
    if changed.suffix == ".lua":
        calls = (ROOT / APP / "store" / "calls").glob("*.py")
        names |= {each.stem for each in calls if f'"{changed.stem}"' in each.read_text(encoding="utf-8")}
    word = re.compile(rf"(?<![a-z])(?:{'|'.join(map(re.escape, names))})(?![a-z])")
    return [str(file) for file in files if word.search(file.stem) or word.search(_imports(file))]


@cache
def _imports(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return "\n".join(
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
    )


def _failing(
    copy: Path, change: Change | None, chosen: Sequence[str], spared: Collection[str] = (), *, processes: int
) -> str | None:
    """The first test that fails with a change, or one of `WITHOUT_A_TEST`. The copy is as before afterwards."""
    arguments = ["-q", "-x", "-n", str(processes), f"--timeout={TEST_LIMIT}"]
    arguments += ["--timeout-method=thread"]  # an endless loop may catch what a signal raises
    arguments += [*chosen, *(f"--deselect={each}" for each in sorted(spared))]
    with contextlib.ExitStack() as undoing:
        if change is not None:
            undoing.callback(_write, copy / change.path, change.before)
            _write(copy / change.path, change.after)
        code, printed = (_in_a_fork if processes == 0 else _in_processes)(copy, arguments)
    if code is None:
        return NO_END
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - |$)", printed, re.MULTILINE)
    return failed.group(1) if failed else NO_START


#: Cached bytecode is told apart by sizes and seconds: no two changes have the same.
_SECONDS: Final = itertools.count(1_000_000_000)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time.time(), next(_SECONDS)))


def _in_processes(copy: Path, arguments: Sequence[str]) -> tuple[int | None, str]:
    """The exit code, None if there is no end to it, and what was printed."""
    command = [sys.executable, "-m", "pytest", *arguments]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout


def _in_a_fork(copy: Path, arguments: Sequence[str]) -> tuple[int | None, str]:
    """As `_in_processes`, in a process that has `LOADED` already."""
    with tempfile.TemporaryFile() as output:
        if (pid := os.fork()) == 0:
            code = 1
            try:
                os.setsid()
                os.chdir(copy)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.path.insert(0, str(copy))
                code = pytest.main([*arguments, "-W", "ignore::pytest.PytestAssertRewriteWarning"])
                sys.stdout.flush()
            finally:
                os._exit(code)
        until = time.monotonic() + LIMIT
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > until:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return None, ""
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what tests started and could not stop
        output.seek(0)
        return os.waitstatus_to_exitcode(ended[1]), output.read().decode(errors="replace")


@contextlib.contextmanager
def a_copy() -> Iterator[Path]:
    """A checkout of HEAD beside this one, with the same tools installed."""
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    copy = folder / "checkout"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(copy)], cwd=ROOT, check=True)
    try:
        if (ROOT / ".cache").is_dir():
            (copy / ".cache").symlink_to(ROOT / ".cache")
        yield copy
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(copy)], cwd=ROOT, check=True)
        shutil.rmtree(folder, ignore_errors=True)


def covering(names: Iterable[str], kept: Path | None) -> Covering:
    """Which tests of these parts run which lines; read from the file if there is one, else written to it."""
    if kept is not None and kept.exists():
        found: Covering = pickle.loads(kept.read_bytes())  # noqa: S301 - this tool has written it
        return found
    with a_copy() as copy:
        found = Covering(copy, APP, list(dict.fromkeys(test for name in names for test in PARTS[name].tests)))
    if kept is not None:
        kept.write_bytes(pickle.dumps(found))
    return found


def measure(name: str, count: int, randomly: random.Random, ran: Covering | None, *, fast: bool) -> bool:
    """Try some changes of a part and print what survived; whether 95 % were noticed."""
    part = PARTS[name]
    paths = sorted({path.relative_to(ROOT) for glob in part.files for path in (ROOT / APP).glob(glob)})
    possible = [place for path in paths for place in places(path)]
    randomly.shuffle(possible)
    chosen = list(islice(filter(None, (change_at(place, randomly) for place in possible)), count))
    survivors = []
    sound: dict[str, bool] = {}
    with a_copy() as copy:
        for number, change in enumerate(chosen, 1):
            began = time.monotonic()
            test = noticed_by(copy, change, part.tests, ran, sound, fast=fast)
            print(
                f"{name} {number}/{len(chosen)} {'noticed' if test else 'SURVIVED'} "
                f"in {time.monotonic() - began:.0f} s: {change}" + (f"\n    by {test}" if test else ""),
                flush=True,
            )
            if test is None:
                survivors.append(change)
    share = 1 - len(survivors) / len(chosen)
    print(f"\n{name}: {share:.0%} of {len(chosen)} changes noticed.")
    for change in survivors:
        print(change)
    return share >= 0.95


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if fewer than 95 % of the changes of a part were noticed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="default: all")
    parser.add_argument("--count", type=int, default=20, help="changes of each part (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="for the same choice again (default: another each time)"
    )
    parser.add_argument("--fast", action="store_true", help="only the tests that are near a change")
    parser.add_argument(
        "--covering",
        type=Path,
        metavar="FILE",
        help="keep here which tests run which lines, for further runs",
    )
    arguments = parser.parse_args(argv)
    for each in LOADED:
        importlib.import_module(each)
    seed = arguments.seed or random.SystemRandom().randrange(1, 2**31)
    print(f"Seed {seed}.")
    randomly = random.Random(seed)  # noqa: S311 - which places are changed is no secret
    names: list[str] = arguments.part or list(PARTS)
    ran = covering(names, arguments.covering) if names != ["lua"] else None
    enough = [measure(name, arguments.count, randomly, ran, fast=arguments.fast) for name in names]
    return 0 if all(enough) else 1


if __name__ == "__main__":
    sys.exit(main())
