"""The client of `make cluster`: ten calls per second in a few sessions, and a line per second: who answered."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from project.ask import VERSION, messages

#: Calls wait for an answer for so many seconds.
PATIENCE: Final = 5.0
CALLS_PER_SECOND: Final = 10
#: The calls take turns in so many sessions, which live on all nodes of the Cluster.
SESSIONS: Final = 9
#: What the proxy says of who answered.
ANSWERED_BY: Final = "X-Answered-By"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one call."""

    #: The name of the process that answered; "!" if it was not answered as it should be.
    who: str
    seconds: float
    #: Why it was not; empty if it was.
    problem: str = ""


class Failed(Exception):
    """A call was not answered as it should be; the message says why, in a few words."""


class Session:
    """A session in which one note was taken, and a client that asks for it."""

    def __init__(self, number: int, port: int) -> None:
        self._note = f"note of session {number}"
        self._port = port
        self._id: str | None = None
        self._lock = threading.Lock()

    def call(self) -> str:
        """Ask for the note, on whichever process; the address of the one that answered. Raises: Failed."""
        with self._lock:  # of two calls that find no session, one opens it
            if self._id is None:
                self._open()
        answered_by, notes = self._tool("recall", {})
        if notes != self._note:
            raise Failed(f"the session has lost its note: {notes!r}")
        return answered_by

    def _open(self) -> None:
        client = {"name": "make cluster", "version": "1"}
        params = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client}
        headers, _ = self._post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        self._id = headers["Mcp-Session-Id"]
        try:
            self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
            self._tool("remember", {"note": self._note})
        except Failed:
            self._id = None
            raise

    def _tool(self, name: str, arguments: dict[str, str]) -> tuple[str, str]:
        params = {"name": name, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers, answer = self._post(message)
        try:
            text = str(answer["result"]["content"][0]["text"])
        except KeyError:
            raise Failed(f"an error: {answer}") from None
        # nginx names all that it tried; the last one answered.
        return headers[ANSWERED_BY].rpartition(", ")[2], text

    def _post(self, message: dict[str, Any]) -> tuple[http.client.HTTPMessage, dict[str, Any]]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
            **({"Mcp-Session-Id": self._id} if self._id else {}),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request("POST", "/mcp", json.dumps(message), headers)
            response = connection.getresponse()
            if response.status == 404:
                self._id = None
                raise Failed("404, the session is gone")
            if response.status not in (200, 202):
                raise Failed(f"HTTP {response.status}")
            return response.headers, {} if response.status == 202 else list(messages(response))[-1]
        except TimeoutError:
            raise Failed(f"no answer within {PATIENCE:.0f} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"no connection ({type(error).__name__})") from None
        finally:
            connection.close()


class Caller:
    """Makes the calls, and says each second what became of those that ended in it."""

    def __init__(self, port: int, names: Mapping[str, str], say: Callable[[str], None]) -> None:
        """`names` are those of the processes, by their addresses."""
        self._sessions = [Session(number, port) for number in range(SESSIONS)]
        self._names = names
        self._say = say
        self._pool = ThreadPoolExecutor(max_workers=round(CALLS_PER_SECOND * PATIENCE) + 1)
        self._waiting: list[Future[Answer]] = []
        self._made = 0
        self._begun = self._told = monotonic()

    def call_if_due(self) -> None:
        """Make the calls that are due, and say what became of earlier ones."""
        now = monotonic()
        while self._begun + self._made / CALLS_PER_SECOND < now:
            session = self._sessions[self._made % len(self._sessions)]
            self._waiting.append(self._pool.submit(self._answer, session))
            self._made += 1
        if now - self._told >= 1:
            self._told += 1
            self._tell()

    def close(self) -> None:
        """Make no more calls, and wait for those that are under way."""
        self._pool.shutdown(cancel_futures=True)

    def _answer(self, session: Session) -> Answer:
        begun = monotonic()
        try:
            address = session.call()
        except Failed as problem:
            return Answer(who="!", seconds=monotonic() - begun, problem=str(problem))
        return Answer(who=self._names.get(address, "?"), seconds=monotonic() - begun)

    def _tell(self) -> None:
        ended = [call.result() for call in self._waiting if call.done()]
        self._waiting = [call for call in self._waiting if not call.done()]
        if not ended:
            self._say(f"no call was answered; {len(self._waiting)} wait")
            return
        problems = Counter(answer.problem for answer in ended if answer.problem)
        said = "".join(f"; {number} × {problem}" for problem, number in sorted(problems.items()))
        slowest = max(answer.seconds for answer in ended) * 1000
        self._say(f"{' '.join(answer.who for answer in ended)}  {slowest:.0f} ms at most{said}")
