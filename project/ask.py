"""A client in one file, for a first look: `python -m project.ask recall`, `... remember note="I like sea stories"`.

Without the name of a tool, it lists the tools and their arguments. It keeps its session in data/client.json, so that
the next call can resume it, even after the server was restarted. Needs nothing but Python.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any, Final

from project.paths import DATA

KEPT: Final = DATA / "client.json"
DEFAULT_URL: Final = "http://127.0.0.1:8000/mcp"
VERSION: Final = "2025-11-25"
#: JSON Schema's types of arguments that can be given on a command line.
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
}


class Client:
    """One session with one endpoint, resumed from the last call."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = _kept().get(url)

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of a request. Opens a session if there is none or if it has ended."""
        if self.session is None:
            self._initialize()
        try:
            return self._request(method, params)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            print("The session has ended; here is a new one.", file=sys.stderr)
            self._initialize()
            return self._request(method, params)

    def _initialize(self) -> None:
        self.session = None
        client = {"name": "project.ask", "version": "1"}
        self._request("initialize", {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client})
        with self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}):
            _keep(self.url, self.session)

    def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        with self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) as response:
            self.session = response.headers.get("Mcp-Session-Id", self.session)
            return _result(messages(response))

    def _post(self, message: dict[str, Any]) -> HTTPResponse:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
        }
        if self.session:
            headers["Mcp-Session-Id"] = self.session
        request = urllib.request.Request(self.url, json.dumps(message).encode(), headers)
        response: HTTPResponse = urllib.request.urlopen(request, timeout=300)
        return response


def messages(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON-RPC messages of a response as they arrive, from one JSON object or an event stream."""
    if response.headers.get_content_type() == "application/json":
        yield json.load(response)
        return
    for line in response:
        if line.startswith(b"data:") and (data := line.removeprefix(b"data:").strip()):
            yield json.loads(data)


def _result(messages: Iterator[dict[str, Any]]) -> dict[str, Any]:
    for message in messages:
        if "result" in message:
            return dict(message["result"])
        if "error" in message:
            sys.exit(f"The server refused: {message['error']['message']}")
        if message.get("method") == "notifications/progress":
            params = message["params"]
            print(
                f"{params['progress']:g}/{params.get('total', 0):g} {params.get('message', '')}",
                file=sys.stderr,
            )
    sys.exit("The stream ended without a response.")


def _kept() -> dict[str, Any]:
    return dict(json.loads(KEPT.read_text())) if KEPT.exists() else {}


def _keep(url: str, session: str | None) -> None:
    KEPT.touch(mode=0o600)  # a session id is a credential
    KEPT.write_text(
        json.dumps(_kept() | {url: session}) if KEPT.stat().st_size else json.dumps({url: session})
    )


def _usage(tool: dict[str, Any]) -> str:
    """How to call a tool: `search_books text=... [limit=...]`."""
    schema = tool["inputSchema"]
    required = schema.get("required", ())
    arguments = schema.get("properties", {})
    return " ".join([tool["name"], *(f"{n}=..." if n in required else f"[{n}=...]" for n in arguments)])


def _arguments(tool: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """`note=text copies=3` as the tool's arguments. Raises: ValueError, with a sentence for the person who typed it."""
    properties: dict[str, Any] = tool["inputSchema"].get("properties", {})
    given = dict(_pair(word) for word in words)
    if unknown := given.keys() - properties.keys():
        raise ValueError(f"{tool['name']} has no argument {' or '.join(sorted(unknown))}.")
    if missing := set(tool["inputSchema"].get("required", ())) - given.keys():
        raise ValueError(f"{tool['name']} needs {' and '.join(sorted(missing))}.")
    return {name: _value(name, text, properties[name].get("type")) for name, text in given.items()}


def _pair(word: str) -> tuple[str, str]:
    name, equals, text = word.partition("=")
    if not equals:
        raise ValueError(f"An argument is written name=value, not {word!r}.")
    return name, text


def _value(name: str, text: str, kind: str | None) -> Any:
    """The text itself if the tool takes a string, otherwise the JSON value that it stands for."""
    if kind == "string":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    is_number = kind in ("integer", "number")
    if not isinstance(value, _TYPES.get(kind or "", object)) or (is_number and isinstance(value, bool)):
        raise ValueError(f"{name} must be of the type {kind}, not {text!r}.")
    return value


def main() -> None:
    """Call one tool, or list them all."""
    parser = argparse.ArgumentParser(prog="python -m project.ask", description="Call a tool of the demo.")
    parser.add_argument("tool", nargs="?", help="name of a tool; without it, list the tools")
    parser.add_argument("argument", nargs="*", help="name=value")
    parser.add_argument("--url", default=DEFAULT_URL)
    options = parser.parse_args()
    client = Client(options.url)
    try:
        _show(client, options.tool, options.argument)
    except urllib.error.HTTPError as error:
        sys.exit(f"HTTP {error.code}: {error.read().decode()}")
    except OSError as error:
        sys.exit(f"There is no answer from {client.url} ({error}). Is `make run` running?")


def _show(client: Client, name: str | None, words: list[str]) -> None:
    """Print what a tool answers, or the list of the tools."""
    tools = {tool["name"]: tool for tool in client.call("tools/list", {})["tools"]}
    if name is None:
        for tool in tools.values():
            print(f"{_usage(tool)}\n    {(tool.get('description') or '').splitlines()[0]}")
        return
    if name not in tools:
        sys.exit(f"There is no tool {name} in this session. There are: {', '.join(tools)}.")
    try:
        arguments = _arguments(tools[name], words)
    except ValueError as problem:
        sys.exit(f"{problem}\nUsage: {_usage(tools[name])}")
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": 1}}
    for part in client.call("tools/call", params)["content"]:
        print(part.get("text", part))


if __name__ == "__main__":
    main()
