"""The embedded engine beside a real server."""

import re
from collections.abc import Sequence
from typing import Any

import redis

from mcp_sessions.engine import Engine

#: Servers name the position in the script at the end of an error, each in its own words.
PLACE = re.compile(r" script: .*on @?user_script:\d+\.$")
CALL = "return redis.call(unpack(ARGV))"


class Both:
    """A real server and an engine that run the same commands."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.engine = Engine()

    def replies(
        self, script: str, keys: Sequence[Any] = (), arguments: Sequence[Any] = ()
    ) -> tuple[Any, Any]:
        try:
            real = self.client.execute_command("EVAL", script, len(keys), *keys, *arguments)
        except redis.ResponseError as error:
            real = error
        return plain(real), plain(self.engine.eval(script, keys, arguments))

    def same(self, script: str, keys: Sequence[Any] = (), arguments: Sequence[Any] = ()) -> Any:
        """Run a script on both and compare; the reply."""
        real, ours = self.replies(script, keys, arguments)
        assert ours == real, (script, keys, arguments)
        return ours

    def command(self, *words: Any) -> Any:
        return self.same(CALL, (), words)

    def line(self, text: str) -> Any:
        return self.command(*text.split(" "))


def plain(reply: Any) -> Any:
    """Errors in a form that can be compared."""
    if isinstance(reply, list):
        return [plain(each) for each in reply]
    if isinstance(reply, Exception):
        return "ERROR", type(reply), PLACE.sub("", str(reply))
    return type(reply), reply
