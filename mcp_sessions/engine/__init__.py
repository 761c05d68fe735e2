"""Runs the Lua scripts without a Redis: Lua 5.1 (lupa) over keys of this process. It knows no rule of the app.

It has the commands that the scripts call, with the options that they use, named in capitals. A script that calls one in
another way gets a Python exception instead of a reply.
"""

import threading
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import hiredis
from django.core.exceptions import ImproperlyConfigured
from redis.exceptions import ResponseError
from redis.typing import EncodableT

from mcp_sessions.documentation import page
from mcp_sessions.engine.keyspace import Keyspace, Refused, as_text

try:
    from lupa import lua51
except ImportError:
    lua51 = None


class Engine:
    """A store of this process, empty at first. May be called from event loops and from threads.

    `clock` gives milliseconds since the epoch, for TTLs, too; it is the system's unless tests bring one.
    Raises: ImproperlyConfigured without lupa.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        if lua51 is None:
            raise ImproperlyConfigured(
                "The package lupa is missing. It keeps sessions in this process, which is only needed when no "
                'Redis is configured: configure one, or run pip install "mcp-sessions[memory]". '
                + page("checks", "e010")
            )
        #: Called with the key of each stream that got an entry, in the thread that wrote it, when it can be read.
        self.on_append: Callable[[bytes], None] | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = Keyspace()
        self._scripts: dict[str, Any] = {}
        self._lua = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        prelude = (files(__name__) / "prelude.lua").read_bytes()
        self._compile, self._run = self._lua.execute(prelude, self._dispatch)
        self._reader = hiredis.Reader(replyError=_failure)

    def __len__(self) -> int:
        """How many keys there are; some may have expired."""
        return len(self._keys)

    def eval(self, script: str, keys: Sequence[EncodableT] = (), arguments: Sequence[EncodableT] = ()) -> Any:
        """Run a script; what redis-py gives without decoding, an error reply as a value.

        A compiled script is kept for good, so what differs from run to run belongs in the arguments.
        """
        with self._lock:
            if script not in self._scripts:
                self._scripts[script] = self._compile(script.encode())
            now_us = time.time_ns() // 1000 if self._clock is None else self._clock() * 1000
            self._keys.begin(now_us // 1000)
            appended = self._keys.appended = []
            reply = self._run(
                self._scripts[script],
                now_us,
                self._lua.table_from([_as_bytes(key) for key in keys]),
                self._lua.table_from([_as_bytes(argument) for argument in arguments]),
            )
            self._reader.feed(reply)
            result = self._reader.gets()
        # Outside the lock, because listeners may read at once.
        if self.on_append is not None:
            for key in dict.fromkeys(appended):
                self.on_append(key)
        return result

    def xread(self, key: EncodableT, after: bytes, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The entries of a stream that follow an id, the oldest first, in redis-py's form."""
        script = "return redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])"
        entries = self.eval(script, [key], [after, count])
        return [(entry, {field: value}) for entry, (field, value) in entries]

    def _dispatch(self, name: bytes, *arguments: Any) -> Any:
        """Run one command for a script: its reply as a value of Lua, an error as a table with its text in `err`."""
        try:
            texts = [each if type(each) is bytes else as_text(each) for each in arguments]
            reply = self._keys.commands[name](*texts)
        except Refused as error:
            return self._lua.table_from({b"err": str(error).encode()})
        return self._lua.table_from(reply, recursive=True) if type(reply) is list else reply


def is_available() -> bool:
    """Whether lupa is installed."""
    return lua51 is not None


def _as_bytes(value: EncodableT) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _failure(text: str) -> ResponseError:
    """As redis-py has it: the code ERR says nothing and is left out."""
    return ResponseError(text.removeprefix("ERR "))
