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
import multiprocessing
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

from changes import ROOT, Change, change_at, places
from covering import Covering
from failing import WITHOUT_A_TEST, Tests, say

APP: Final = "mcp_sessions"
#: Of the tests that run a line, and of those that name its module, so many of the fastest are tried first.
FASTEST: Final = 300


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
        [
            "tests/inventory",
            "tests/admin",
            "tests/audit",
            "tests/authentication/test_managing_tokens.py",
            "tests/browser",
        ],
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
            "tests/http/test_authentication.py",
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


def noticed_by(
    tests: Tests,
    change: Change,
    names: Sequence[str],
    ran: Covering | None,
    sound: dict[str, bool],
    *,
    fast: bool,
) -> str | None:
    """The test that notices a change, or how it ended otherwise; None if no test does.

    A test that fails counts if it does so again on its own, and is sound: it passes without the change.
    """
    near = _naming(change.path, [file for each in names for file in _files(each)])
    if ran and change.path.suffix == ".py":
        of_line = ran.of(change.path, change.before, change.line)[:FASTEST]
        near = list(dict.fromkeys([*of_line, *ran.among(near)[:FASTEST]]))
    spared = {test for test, passes in sound.items() if not passes}
    for chosen, processes in ((near, 0), ([] if fast else names, 2)):
        while chosen and (failed := tests.failing(change, chosen, spared, processes=processes)):
            if failed in WITHOUT_A_TEST:
                if tests.failing(None, chosen, spared, processes=processes) not in WITHOUT_A_TEST:
                    return failed
                say(f"    so it is without the change, too: {failed}")
                break
            if again := tests.failing(change, [failed]):
                if failed not in sound:
                    sound[failed] = not tests.failing(None, [failed])
                if sound[failed]:
                    return failed
            spared.add(failed)
            reason = "fails without the change, too" if again else "passes alone"
            say(f"    {reason}: {failed}")
    return None


def _files(tests: str) -> Sequence[Path]:
    """Relative to the root."""
    path = ROOT / tests
    found = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
    return [each.relative_to(ROOT) for each in found]


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
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return "\n".join(
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
    )


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

    def try_all(tests: Tests) -> bool:
        survivors = []
        sound: dict[str, bool] = {}
        for number, change in enumerate(chosen, 1):
            began = time.monotonic()
            test = noticed_by(tests, change, part.tests, ran, sound, fast=fast)
            how = f"{'noticed' if test else 'SURVIVED'} in {time.monotonic() - began:.0f} s"
            say(f"{name} {number}/{len(chosen)} {how}: {change}", *([f"    by {test}"] if test else []))
            if test is None:
                survivors.append(change)
        share = 1 - len(survivors) / len(chosen)
        say(f"\n{name}: {share:.0%} of {len(chosen)} changes noticed.", *survivors)
        return share >= 0.95

    def in_a_process(copy: Path) -> None:
        tests = Tests(copy)
        sys.exit(not tests.collected(part.tests, lambda: try_all(tests)))

    with a_copy() as copy:
        process = multiprocessing.get_context("fork").Process(target=in_a_process, args=[copy])
        process.start()
        process.join()
    return process.exitcode == 0


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
    seed = arguments.seed or random.SystemRandom().randrange(1, 2**31)
    print(f"Seed {seed}.")
    randomly = random.Random(seed)  # noqa: S311 - which places are changed is no secret
    names: list[str] = arguments.part or list(PARTS)
    ran = covering(names, arguments.covering) if names != ["lua"] else None
    enough = [measure(name, arguments.count, randomly, ran, fast=arguments.fast) for name in names]
    return 0 if all(enough) else 1


if __name__ == "__main__":
    sys.exit(main())
