"""How many functions and files one request crosses: what is counted, and what a tool call may cross at most."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crossings import Profiler
from benchmarks.paths import MOST_FILES, MOST_FUNCTIONS, PATHS
from tests.support import ROOT

#: What is a function here, what is none, and a coroutine that is suspended twice.
SAMPLE = """
import asyncio
from dataclasses import dataclass


@dataclass
class Record:
    number: int

    @property
    def twice(self):
        return 2 * self.number


def numbers():
    yield 1
    yield 2


async def work():
    class Local:
        pass

    def nested():
        return sum(n for n in [m for m in numbers()])

    Local(), (lambda: 1)(), Record(1).twice, nested(), nested()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asyncio.get_running_loop().create_task(left_behind())


async def left_behind():
    await asyncio.sleep(0.01)
    await asyncio.to_thread(in_a_thread)


def in_a_thread():
    pass
"""


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.paths", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_call_without_state_crosses_few_functions_and_files(counted: dict[str, Any]) -> None:
    call = counted["call"]
    assert len(call["functions"]) <= MOST_FUNCTIONS, call["functions"]
    assert len(call["files"]) <= MOST_FILES, call["files"]
    assert call["lua"][0] == "touch"


def test_every_path_is_counted(counted: dict[str, Any]) -> None:
    assert list(counted) == list(PATHS)
    assert all(path["functions"] for path in counted.values())


def test_only_a_call_of_the_modern_era_asks_redis_nothing(counted: dict[str, Any]) -> None:
    assert [name for name, path in counted.items() if not path["lua"]] == ["modern_call"]


def test_the_first_call_of_a_session_updates_the_indexes_and_the_next_does_not(
    counted: dict[str, Any],
) -> None:
    assert "update" in counted["first_call"]["lua"]
    assert "update" not in counted["call"]["lua"]


async def test_functions_count_when_they_start_and_nothing_else_counts(tmp_path: Path) -> None:
    package = tmp_path / "sample"
    package.mkdir()
    (package / "module.py").write_text(SAMPLE)
    spec = importlib.util.spec_from_file_location("sample_module", package / "module.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    profiler = Profiler(package)
    with profiler.installed():
        functions = await profiler.functions(module.work)
    assert [(function.name, function.calls) for function in functions] == [
        ("work", 1),
        ("Record.twice", 1),
        ("work.<locals>.nested", 2),
        ("numbers", 2),
        ("left_behind", 1),
        ("in_a_thread", 1),
    ]
    assert {function.file for function in functions} == {"sample/module.py"}
