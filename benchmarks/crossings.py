"""Which functions of a package, and which of its Lua files in Redis, a piece of work runs.

A function is a Python function, method or property that is written with `def` in a file of the package, nested ones
included. A coroutine or a generator counts as one call when it starts, not each time it goes on. Lambdas,
comprehensions and generator expressions are not functions here, nor is code without a file of its own, such as the
`__init__` of a dataclass; modules and class bodies are not either, so that imports do not count.

Everything that the process does meanwhile counts, in whichever task or thread, until the tasks that were started have
ended and the package has had nothing to do for QUIET_SECONDS: what a request leaves behind belongs to it. A heartbeat
that falls into a count can only add to it, so the smallest of several counts is the one without.
"""

import ast
import asyncio
import dis
import hashlib
import inspect
import re
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import redis

#: Seconds without any call after which the work is over. Longer than a round trip to a Redis on the same machine.
QUIET_SECONDS: Final = 0.03
#: Seconds that a task which the work started may take to end; one that takes longer is there to stay.
TASK_SECONDS: Final = 2.0

Work = Callable[[], Awaitable[None]]
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that was called."""

    #: Relative to the package's parent.
    file: str
    line: int
    name: str
    calls: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What a piece of work ran."""

    #: In the order of their first calls.
    functions: tuple[Function, ...]
    #: Names of Lua files, in the order in which Redis ran the scripts that contain them.
    lua: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """In the order of their first calls."""
        return tuple(dict.fromkeys(function.file for function in self.functions))

    @property
    def calls(self) -> int:
        return sum(function.calls for function in self.functions)


class Profiler:
    """Sees every function of a package start. Make it before the threads that are to be seen."""

    def __init__(self, package: Path) -> None:
        self._parent = package.parent
        self._prefix = f"{package}/"
        self._started: list[CodeType] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Profile this thread and those that are started from here on."""
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    async def functions(self, work: Work) -> tuple[Function, ...]:
        """What the work calls, in the order of first calls."""
        started: list[CodeType] = []
        self._started = started
        try:
            await self._quiet()
            started.clear()
            others = asyncio.all_tasks()
            await work()
            if begun := asyncio.all_tasks() - others:
                await asyncio.wait(begun, timeout=TASK_SECONDS)
            await self._quiet()
        finally:
            self._started = None
        return tuple(self._function(code, calls) for code, calls in Counter(started).items())

    async def _quiet(self) -> None:
        """Wait until the package has nothing to do."""
        seen = -1
        while self._started is not None and seen != len(self._started):
            seen = len(self._started)
            await asyncio.sleep(QUIET_SECONDS)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or self._started is None:
            return
        code = frame.f_code
        if code.co_filename.startswith(self._prefix) and frame.f_lasti == _start(code):
            self._started.append(code)

    def _function(self, code: CodeType, calls: int) -> Function:
        file = str(Path(code.co_filename).relative_to(self._parent))
        return Function(file=file, line=code.co_firstlineno, name=code.co_qualname, calls=calls)


@cache
def _start(code: CodeType) -> int | None:
    """Where the interpreter is when a function is called, and not resumed; None if the code is no function."""
    if code.co_name.startswith("<") or not code.co_flags & inspect.CO_OPTIMIZED:
        return None
    return next(step.offset for step in dis.get_instructions(code) if step.opname == "RESUME")


class Scripts:
    """Which scripts a Redis runs, according to MONITOR. Make it before the first of them is sent in full."""

    def __init__(self, url: str, package: Path) -> None:
        self._client = redis.Redis.from_url(url)
        # redis-py's own reader of MONITOR loses how arguments were quoted.
        self._monitor = self._client.connection_pool.get_connection()
        self._monitor.send_command("MONITOR")  # type: ignore[no-untyped-call] # redis-py's own
        self._monitor.read_response()
        self._files = {path.stem: path.read_bytes().strip() for path in sorted(package.rglob("*.lua"))}
        self._known: dict[bytes, list[str]] = {}
        self._marks = 0

    def close(self) -> None:
        self._client.close()

    def lua_files(self) -> tuple[str, ...]:
        """The files of the scripts that have run since the last time."""
        self._marks += 1
        mark = b"scripts until here: %d" % self._marks
        self._client.echo(mark)
        files: dict[str, None] = {}
        while (command := self._next()) != [b"ECHO", mark]:
            if command[:1] == [b"EVAL"]:
                sha = hashlib.sha1(command[1], usedforsecurity=False).hexdigest().encode()
                self._known[sha] = self._contained(command[1])
                files |= dict.fromkeys(self._known[sha])
            elif command[:1] == [b"EVALSHA"]:
                files |= dict.fromkeys(self._known.get(command[1], ()))
        return tuple(files)

    def _next(self) -> list[bytes]:
        """The next command. MONITOR quotes arguments as Python does."""
        line: bytes = self._monitor.read_response()
        return [ast.literal_eval(f"b{quoted.decode('ascii')}") for quoted in _QUOTED.findall(line)]

    def _contained(self, script: bytes) -> list[str]:
        """The file of a script first, then those that are put before it."""
        found = [name for name, text in self._files.items() if text in script]
        return sorted(found, key=lambda name: name.startswith("_"))


async def smallest(
    profiler: Profiler, scripts: Scripts, prepare: Callable[[], Awaitable[Work]], *, counts: int
) -> Crossing:
    """The smallest of so many counts, each of work that was prepared for it."""
    crossings = []
    for _ in range(counts):
        work = await prepare()
        await asyncio.sleep(QUIET_SECONDS)
        scripts.lua_files()
        functions = await profiler.functions(work)
        crossings.append(Crossing(functions=functions, lua=scripts.lua_files()))
    return min(crossings, key=lambda crossing: (crossing.calls, len(crossing.functions)))
