"""`python -m benchmarks.paths`: how many of this app's functions and files one request crosses.

Counted in one process, from the call of the ASGI application until the response has left and everything that was
started for it is done; `benchmarks.crossings` says what counts as a function. Each path is walked WARM_UP times before,
and starts with a session of its own. Redis is real, heartbeats are left out.

The app is driven through its public names only, so that another checkout can be counted, too:

    PYTHONPATH=../other-checkout python -m benchmarks.paths
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.crossings import Crossing, Profiler, Scripts, Work, smallest
from benchmarks.processes import redis_server, tree

#: What a `tools/call` without state may cross at most. Lower them when it crosses less.
MOST_FUNCTIONS: Final = 57
MOST_FILES: Final = 16
#: How often each path is walked before it is counted, and how often it is counted: the smallest count holds.
WARM_UP: Final = 20
COUNTS: Final = 3
#: How old the process must be, in seconds, before an answer is counted: from the first heartbeat on, a process knows
#: itself as a node that is alive, and need not look for how long it has been.
HEARTBEAT_SECONDS: Final = 5.0
#: Seconds that a response may take.
BOUND: Final = 20.0

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]


class Request:
    """One HTTP request, answered by the application in a task of this process. Its client stays to the end."""

    def __init__(
        self, application: Application, method: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": method,
            "path": "/mcp",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), *((k.encode(), v.encode()) for k, v in headers.items())],
        }
        self._unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._more = asyncio.Event()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self._task = asyncio.ensure_future(application(scope, self._receive, self._send))

    async def done(self, *, status: int = 200) -> "Request":
        """Wait for the whole response. Raises: RuntimeError if its status is another."""
        await asyncio.wait_for(self._task, BOUND)
        if self.status != status:
            raise RuntimeError(f"an answer with status {self.status}, not {status}: {self.body!r}")
        return self

    async def sent(self, part: str) -> None:
        """Wait until the response contains this."""
        async with asyncio.timeout(BOUND):
            while part.encode() not in self.body:
                self._more.clear()
                await self._more.wait()

    def messages(self) -> list[dict[str, Any]]:
        """What the response has brought so far, as one JSON object or as an event stream."""
        if self.headers[b"content-type"] == b"application/json":
            return [json.loads(self.body)]
        lines = self.body.splitlines()
        return [json.loads(line[5:]) for line in lines if line.startswith(b"data:") and line[5:].strip()]

    async def _receive(self) -> Message:
        if not self._unread:
            await asyncio.get_running_loop().create_future()
        return self._unread.pop()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        self.body += message.get("body", b"")
        self._more.set()


class Client:
    """One session's client."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}

    async def initialize(self) -> "Client":
        """Open a session. What it does first makes it active."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "paths", "version": "1"},
        }
        opened = await self.post({"id": 1, "method": "initialize", "params": params}).done()
        session_id = opened.headers[b"mcp-session-id"].decode()
        self._headers |= {"mcp-session-id": session_id, "mcp-protocol-version": "2025-11-25"}
        return self

    async def activate(self) -> "Client":
        """Say that the client is ready. The session is in the indexes now, where it is not updated for some seconds."""
        await self.post({"method": "notifications/initialized"}).done(status=202)
        return self

    def post(self, message: Mapping[str, Any]) -> Request:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        return Request(self._application, "POST", self._headers, body)

    def call(self, tool: str, **arguments: Any) -> Request:
        """Call a tool; `count` needs a token to report its progress."""
        meta = {"_meta": {"progressToken": "p"}} if tool == "count" else {}
        params = {"name": tool, "arguments": arguments, **meta}
        return self.post({"id": 2, "method": "tools/call", "params": params})

    def resume(self, event_id: str) -> Request:
        return Request(self._application, "GET", {**self._headers, "last-event-id": event_id}, b"")


async def call(application: Application) -> Work:
    """A `tools/call` without state."""
    client = await (await Client(application).initialize()).activate()

    async def work() -> None:
        expect("3", await client.call("add", a=1, b=2).done())

    return work


async def first_call(application: Application) -> Work:
    """The same, first of its session: the indexes are updated."""
    client = await Client(application).initialize()

    async def work() -> None:
        expect("3", await client.call("add", a=1, b=2).done())

    return work


async def append(application: Application) -> Work:
    """A `tools/call` that appends to the session's state."""
    client = await (await Client(application).initialize()).activate()

    async def work() -> None:
        expect("1", await client.call("note", text="x").done())

    return work


async def resume(application: Application) -> Work:
    """A GET that resumes the stream of a finished call."""
    client = await (await Client(application).initialize()).activate()
    stream = await client.call("count").done()
    expect("counted", stream)
    first_id = next(line[3:].strip() for line in stream.body.decode().splitlines() if line.startswith("id:"))

    async def work() -> None:
        expect("counted", await client.resume(first_id).done())

    return work


async def answer(application: Application) -> Work:
    """The answer to an elicitation, and the rest of the call."""
    client = await (await Client(application).initialize()).activate()
    waiting = client.call("greet")
    await waiting.sent("elicitation/create")
    request_id = waiting.messages()[-1]["id"]

    async def work() -> None:
        result = {"action": "accept", "content": {"name": "Ada"}}
        await client.post({"id": request_id, "result": result}).done(status=202)
        expect("Hello Ada", await waiting.done())

    return work


async def modern_call(application: Application) -> Work:
    """A `tools/call` of the modern era."""
    version = "2026-07-28"
    headers = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": version,
        "mcp-method": "tools/call",
        "mcp-name": "add",
    }
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": version, f"{prefix}clientCapabilities": {}}
    params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}

    async def work() -> None:
        expect("3", await Request(application, "POST", headers, json.dumps(message).encode()).done())

    return work


PATHS: Final[dict[str, Callable[[Application], Awaitable[Work]]]] = {
    "call": call,
    "first_call": first_call,
    "append": append,
    "resume": resume,
    "answer": answer,
    "modern_call": modern_call,
}


def expect(text: str, response: Request) -> None:
    """Raises: RuntimeError unless this is what the tool says."""
    last = response.messages()[-1]
    if last.get("result", {}).get("content", [{}])[0].get("text") != text:
        raise RuntimeError(f"a wrong answer: {last}")


async def count(url: str, names: Sequence[str]) -> dict[str, Crossing]:
    """What each of these paths crosses."""
    from channels.routing import URLRouter

    import mcp_sessions
    from mcp_sessions.routing import mcp_urlpatterns

    package = Path(mcp_sessions.__file__).parent
    profiler, scripts = Profiler(package), Scripts(url, package)
    application = URLRouter(mcp_urlpatterns())
    counted: dict[str, Crossing] = {}
    began = time.monotonic()
    try:
        with profiler.installed():
            for name in names:
                prepare = partial(PATHS[name], application)
                for _ in range(WARM_UP):
                    await (await prepare())()
                if name == "answer":
                    await asyncio.sleep(began + HEARTBEAT_SECONDS - time.monotonic())
                counted[name] = await smallest(profiler, scripts, prepare, counts=COUNTS)
    finally:
        scripts.close()
    return counted


def table(counted: Mapping[str, Crossing]) -> str:
    """A row for each path; Lua files apart."""
    width = max(len(PATHS[name].__doc__ or "") for name in PATHS)
    head = f"{'':12}{'':{width}}{'functions':>12}{'files':>7}{'calls':>7}{'Lua files':>11}"
    rows = [
        f"{name:12}{PATHS[name].__doc__:{width}}{len(c.functions):12}{len(c.files):7}{c.calls:7}{len(c.lua):11}"
        for name, c in counted.items()
    ]
    return "\n".join([head, *rows])


def listing(name: str, crossing: Crossing) -> str:
    """Every function in the order of its first call, with the number of its calls."""
    rows = [f"{function.calls:4}  {function}" for function in crossing.functions]
    return "\n".join([f"{name}: {PATHS[name].__doc__}", *rows, f"Lua: {', '.join(crossing.lua)}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 whatever the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths", description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"{', '.join(PATHS)}; default: all")
    parser.add_argument("--list", action="store_true", help="name the functions, in the order of first calls")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.paths) - set(PATHS):
        parser.error(f"no such path: {', '.join(sorted(unknown))}")

    sys.path.insert(0, str(tree()))
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.servers.paths_settings"
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        os.environ["REDIS_URL"] = url
        import django

        django.setup()
        counted = asyncio.run(count(url, arguments.paths or list(PATHS)))
    if arguments.json:
        print(
            json.dumps(
                {name: asdict(crossing) | {"files": crossing.files} for name, crossing in counted.items()}
            )
        )
        return 0
    print(f"mcp_sessions in {tree()}\n\n{table(counted)}")
    if arguments.list:
        print("", *(listing(name, crossing) for name, crossing in counted.items()), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
