"""What each way to authenticate answers in each case and era, as measured, and as docs/authentication.md has it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import httpx2
from asgiref.sync import sync_to_async

from mcp_sessions.testing import http_client, serving, url_of
from tests.authentication.ways import CASES, Headers, Way
from tests.support.mcp_client import META, MODERN, RawClient, answer_of

COLUMNS: Final = ("Credentials", "Handshake era", "Modern era", "Challenge", "Principal")
NOT_THERE: Final = "does not exist"
ERAS: Final = ("handshake", "modern")

#: Way, case and era.
Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a client was answered."""

    status: str
    #: The scheme and the error of `WWW-Authenticate`.
    challenge: str = ""
    principal: str = ""


async def measure(ways: Mapping[str, Way]) -> dict[Key, Answer | None]:
    """What every way answers in every case and era; None for cases that do not exist for a way."""
    answers: dict[Key, Answer | None] = {}
    async with serving(), http_client() as http:
        for way, case, era in product(ways, CASES, ERAS):
            exists = case == "none" or case in ways[way].sends
            answers[way, case, era] = await _Client(http, ways[way], case).ask(era) if exists else None
    return answers


@dataclass(frozen=True)
class _Client:
    """A client with the credentials of one case."""

    http: httpx2.AsyncClient
    way: Way
    case: str

    async def ask(self, era: str) -> Answer:
        return await (self._handshake() if era == "handshake" else self._modern())

    async def _sends(self, case: str) -> Headers:
        return {} if case == "none" else await sync_to_async(self.way.sends[case])()

    async def _handshake(self) -> Answer:
        """Open a session with the credentials or, where the case is about one, with good ones, and call a tool."""
        client, url = RawClient(), url_of(self.way.name)
        is_about_a_session = self.case in ("foreign owner", "refreshed")
        opens = await self._sends("good" if is_about_a_session else self.case)
        response = await self.http.post(
            url, json=client.initialize_message(), headers=client.headers() | dict(opens)
        )
        if response.status_code != 200:
            return _refused(response)
        client.session_id = response.headers["mcp-session-id"]
        sends = await self._sends(self.case) if is_about_a_session else opens
        called = client.request("tools/call", {"name": "whoami", "arguments": {}})
        response = await self.http.post(url, json=called, headers=client.headers() | dict(sends))
        return _answered(response) if response.status_code == 200 else _refused(response)

    async def _modern(self) -> Answer:
        """Call a tool with the credentials; where the case is about an owner, one that takes somebody else's handle."""
        if self.case != "foreign owner":
            response = await self._call(await self._sends(self.case), "whoami")
            return _answered(response) if response.status_code == 200 else _refused(response)
        made = answer_of(await self._call(await self._sends("good"), "make_note"))
        note, sends = made["result"]["structuredContent"]["result"], await self._sends(self.case)
        unknown, foreign = [
            answer_of(await self._call(sends, "read_note", note=text))["result"]
            for text in ("note-111-111-111", note)
        ]
        assert foreign["isError"]
        assert _text(foreign).replace(note, "") == _text(unknown).replace("note-111-111-111", "")
        return Answer(status="200, the error of an unknown handle")

    async def _call(self, sends: Headers, tool: str, **arguments: Any) -> httpx2.Response:
        client = RawClient()
        message = client.request("tools/call", {"name": tool, "arguments": arguments, "_meta": META})
        routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": tool}
        headers = client.headers() | routing | dict(sends)
        return await self.http.post(url_of(self.way.name), json=message, headers=headers)


def _text(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


def _answered(response: httpx2.Response) -> Answer:
    result = answer_of(response)["result"]
    return Answer(status="200", principal=result["structuredContent"]["principal"])


def _refused(response: httpx2.Response) -> Answer:
    header = response.headers.get("www-authenticate", "")
    found = re.match(r'(\w+) error="(\w+)"', header)
    challenge = f"{found[1]}, {found[2]}" if found else ""
    return Answer(status=str(response.status_code), challenge=challenge)


def rows(answers: Mapping[Key, Answer | None], way: str) -> list[list[str]]:
    """The rows of one way's table."""
    made = []
    for case in CASES:
        handshake, modern = answers[way, case, "handshake"], answers[way, case, "modern"]
        if handshake is None or modern is None:
            made.append([case, NOT_THERE, NOT_THERE, "", ""])
            continue
        assert not handshake.challenge or handshake.challenge == modern.challenge
        principal = handshake.principal or modern.principal
        shown = re.sub(r"user:\d+", "user:<pk>", principal)
        cells = (handshake.status, modern.status, handshake.challenge, f"`{shown}`" if shown else "")
        made.append([case, *cells])
    return made


def as_markdown(table: list[list[str]]) -> str:
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *table]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
