"""Runs the Lua scripts without a Redis: Lua 5.1 (lupa) over keys of this process. It knows no rule of the app.

It has the commands that the scripts call, with the options that they use, named in capitals.
"""

import inspect
import threading
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final

import hiredis
from django.core.exceptions import ImproperlyConfigured
from redis.exceptions import ResponseError

from mcp_sessions.store.engine import hashes, sorted_sets, streams, strings
from mcp_sessions.store.engine.keyspace import Keyspace, Refused, as_text

try:
    from lupa import lua51
except ImportError:
    lua51 = None

LUA_MISSING: Final = (
    "The package lupa is missing. It keeps sessions in this process, which is only needed when no Redis is "
    'configured: configure one, or run pip install "mcp-sessions[memory]".'
)

#: What redis-py takes for a key or an argument.
Text = bytes | str | int | float
Command = Callable[..., Any]


class Engine:
    """A store of this process, empty at first. May be called from event loops and from threads.

    `clock` gives milliseconds since the epoch, for TTLs, too; it is the system's unless tests bring one.
    Raises: ImproperlyConfigured without lupa.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        if lua51 is None:
            raise ImproperlyConfigured(LUA_MISSING)
        #: Called with the key of each stream that got an entry, in the thread that wrote it, when it can be read.
        self.on_append: Callable[[bytes], None] | None = None
        self._now_us: Callable[[], int] = _wall_clock if clock is None else lambda: clock() * 1000
        self._lock = threading.Lock()
        self._keys = Keyspace()
        self._scripts: dict[str, Any] = {}
        self._lua = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        prelude = (files(__name__) / "prelude.lua").read_bytes()
        self._compile, self._run, self._refused = self._lua.execute(prelude, self._dispatch)
        self._reader = hiredis.Reader(replyError=_failure)

    def __len__(self) -> int:
        """How many keys there are; some may have expired."""
        return len(self._keys)

    def eval(self, script: str, keys: Sequence[Text] = (), arguments: Sequence[Text] = ()) -> Any:
        """Run a script; what redis-py gives without decoding, an error reply as a value.

        A compiled script is kept for good, so what differs from run to run belongs in the arguments.
        """
        with self._lock:
            compiled = self._scripts.get(script) or self._compiled(script)
            if isinstance(compiled, ResponseError):
                return compiled
            seconds, microseconds = divmod(self._begin(), 1_000_000)
            appended: list[bytes] = []
            self._keys.appended = appended
            reply = self._run(
                compiled, b"%d" % seconds, b"%d" % microseconds, self._array(keys), self._array(arguments)
            )
            self._reader.feed(reply)
            result = self._reader.gets()
        self._tell(appended)
        return result

    def xread(self, key: Text, after: bytes, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The entries of a stream that follow an id, the oldest first, in redis-py's form."""
        with self._lock:
            self._begin()
            stream = self._keys.value(_as_bytes(key), streams.Stream)
            found = stream.after(streams.stream_id(after), count) if stream else []
        return [
            (streams.as_text(entry), dict(zip(fields[::2], fields[1::2], strict=True)))
            for entry, fields in found
        ]

    def newest_id(self, key: Text) -> bytes:
        """The last id that a stream gave, 0-0 before the first."""
        with self._lock:
            self._begin()
            stream = self._keys.value(_as_bytes(key), streams.Stream)
            return streams.as_text(stream.last if stream else (0, 0))

    def _begin(self) -> int:
        now_us = self._now_us()
        self._keys.begin(now_us // 1000)
        return now_us

    def _compiled(self, script: str) -> Any:
        compiled, wrong = self._compile(script.encode())
        if compiled is None:
            return _failure(f"ERR Error compiling script (new function): {wrong.decode()}")
        self._scripts[script] = compiled
        return compiled

    def _array(self, values: Sequence[Text]) -> Any:
        return self._lua.table_from([_as_bytes(value) for value in values])

    def _tell(self, appended: Sequence[bytes]) -> None:
        """Outside the lock, since who is told may read at once."""
        if appended and self.on_append is not None:
            for key in dict.fromkeys(appended):
                self.on_append(key)

    def _dispatch(self, name: Any = None, *arguments: Any) -> Any:
        """Run one command for a script: its reply as a value of Lua, an error as a table with its text in `err`."""
        found = _COMMANDS.get(name)
        if found is None:
            return self._refused(b"ERR Unknown command called from script")
        command, least, most = found
        if not least <= len(arguments) <= most:
            return self._refused(b"ERR Wrong number of args calling command from script")
        try:
            for argument in arguments:
                if type(argument) is not bytes:
                    arguments = tuple([_from_lua(each) for each in arguments])
                    break
            reply = command(self._keys, *arguments)
        except Refused as error:
            return self._refused(str(error).encode())
        return self._lua.table_from(reply, recursive=True) if type(reply) is list else reply


def is_available() -> bool:
    """Whether lupa is installed."""
    return lua51 is not None


def _wall_clock() -> int:
    return time.time_ns() // 1000


def _as_bytes(value: Text) -> bytes:
    if type(value) is str:
        return value.encode()
    return value if isinstance(value, bytes) else repr(value).encode("ascii")


def _from_lua(argument: Any) -> bytes:
    if type(argument) is bytes:
        return argument
    if type(argument) is int:
        return b"%d" % argument
    if type(argument) is float:
        return as_text(argument)
    raise Refused("ERR Command arguments must be strings or integers")


def _failure(text: str) -> ResponseError:
    """As redis-py has it: the code ERR says nothing and is left out."""
    return ResponseError(text.removeprefix("ERR "))


def _counted(command: Command) -> tuple[Command, int, float]:
    """A command, and how many arguments it takes at least and at most."""
    parameters = [*inspect.signature(command).parameters.values()][1:]
    named = [each for each in parameters if each.kind is not each.VAR_POSITIONAL]
    return command, len(named), len(named) if named == parameters else float("inf")


_COMMANDS: Final = {
    name: _counted(command)
    for module in (strings, hashes, sorted_sets, streams)
    for name, command in module.COMMANDS.items()
}
