"""A client in one file, for a first look: `python -m project.ask recall`, `... remember note="I like sea stories"`.

Without the name of a tool, it lists the tools. It keeps its session in data/client.json, so that the next call can
resume it, even after the server was restarted. Needs nothing but Python.
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
            return _result(_messages(response))

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


def _messages(response: HTTPResponse) -> Iterator[dict[str, Any]]:
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


def _arguments(words: list[str]) -> dict[str, Any]:
    """`note=text copies=3` as a tool's arguments: values that are not JSON are strings."""
    return {name: _value(text) for name, _, text in (word.partition("=") for word in words)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Call one tool, or list them all."""
    parser = argparse.ArgumentParser(prog="python -m project.ask", description="Call a tool of the demo.")
    parser.add_argument("tool", nargs="?", help="name of a tool; without it, list the tools")
    parser.add_argument("argument", nargs="*", help="name=value")
    parser.add_argument("--url", default=DEFAULT_URL)
    options = parser.parse_args()
    client = Client(options.url)
    try:
        _show(client, options.tool, _arguments(options.argument))
    except urllib.error.HTTPError as error:
        sys.exit(f"HTTP {error.code}: {error.read().decode()}")
    except OSError as error:
        sys.exit(f"There is no answer from {client.url} ({error}). Is `make run` running?")


def _show(client: Client, tool: str | None, arguments: dict[str, Any]) -> None:
    if tool is None:
        for each in client.call("tools/list", {})["tools"]:
            print(f"{each['name']:<18}{(each.get('description') or '').splitlines()[0]}")
        return
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": 1}}
    for part in client.call("tools/call", params)["content"]:
        print(part.get("text", part))


if __name__ == "__main__":
    main()
