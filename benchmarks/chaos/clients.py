"""One client: it calls, streams, resumes and is asked, and checks each answer and each message."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Final

import httpx2
from httpx2 import EventSource, ServerSentEvent

from benchmarks.chaos.outcomes import Kind, Outcome, Record
from tests.support.load import Call
from tests.support.mcp_client import LATEST, RawClient, message_of
from tests.support.processes import Process

#: Seconds before something that failed is tried again.
PAUSE: Final = 0.2
#: Seconds that a connection may be silent. A stream has a sign of life every 15.
SILENCE: Final = 25.0
#: Messages of a stream, and seconds between two.
NUMBER: Final = 5
PACE: Final = 0.1
#: A client cuts its stream after so many messages, on average, and resumes it.
CUT_AFTER: Final = 4
#: Messages that one call sends on the session's own stream.
TOLD: Final = 2
#: How often a client does what.
WEIGHTS: Final[dict[Kind, int]] = {"call": 4, "state": 3, "stream": 2, "ask": 1, "tell": 1}


class Refused(Exception):
    """A request failed for good; the message says why, in a few words."""


class SessionLost(Refused):
    """The session is gone: 404."""


class Proxy:
    """Hands requests to the processes in turn, as a proxy would: when one refuses the connection, to the next."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self._next = 0

    def turn(self) -> Process:
        self._next += 1
        return self._processes[self._next % len(self._processes)]


class Client:
    """One client with one session at a time."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        proxy: Proxy,
        record: Record,
        *,
        seed: int,
        patience: float,
        pause: float,
    ) -> None:
        """`patience`: seconds in which a request must have its answer; `pause`: between two requests, on average."""
        self._http = http
        self._proxy = proxy
        self._record = record
        self._random = random.Random(seed)  # noqa: S311 - it only spreads the load
        self._patience = patience
        self._pause = pause
        self._session = RawClient(version=LATEST)
        self._acts: dict[Kind, Callable[[], Awaitable[None]]] = {
            "call": self._call,
            "state": self._bump,
            "stream": self._stream,
            "ask": self._ask,
            "tell": self._tell,
        }
        self._count = 0
        self._asked = ""
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then make sure that the session is still there and all messages have come."""
        await self._open()
        self.ready.set()
        while not stop.is_set():
            await self._act(self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.expovariate(1 / self._pause)):
                    await stop.wait()
        await self._act("state")
        await self._leave()

    async def _open(self) -> None:
        """Initialize until it succeeds, and listen."""
        self._session = RawClient(version=LATEST)
        self._bumps, self._uncertain = 0, 0
        self._told, self._certain = 0, set[int]()
        while not await self._recorded("open", self._initialize):  # noqa: ASYNC110 - no event says when
            await asyncio.sleep(PAUSE)
        self._heard = Call(client=self._session, message=None)
        self._listening = asyncio.create_task(self._listen(self._heard))

    async def _leave(self) -> None:
        """Wait for messages that must come, and count what came."""
        deadline = monotonic() + SILENCE
        while self._certain - set(_numbers(self._heard)) and monotonic() < deadline:
            if self._listening.done():
                break
            await asyncio.sleep(PAUSE)
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._record.messages.expect(_numbers(self._heard), certain=self._certain)

    async def _act(self, kind: Kind) -> None:
        lost = False

        async def act() -> None:
            nonlocal lost
            try:
                await self._acts[kind]()
            except SessionLost:
                lost = True
                raise

        await self._recorded(kind, act)
        if lost:
            self._record.sessions_lost += 1
            await self._leave()
            await self._open()

    async def _recorded(self, kind: Kind, act: Callable[[], Awaitable[None]]) -> bool:
        """Do it, and record what became of it. Whether it succeeded."""
        self._asked, sent, problem = "", monotonic(), ""
        try:
            async with asyncio.timeout(self._patience):
                await act()
        except TimeoutError:
            problem = f"no answer in {self._patience:.0f} s"
        except Refused as refusal:
            problem = str(refusal)
        session = self._session.fingerprint if self._session.session_id else ""
        self._record.add(
            Outcome(
                kind=kind,
                process=self._asked,
                sent=sent,
                ended=monotonic(),
                session=session,
                problem=problem,
            )
        )
        return not problem

    async def _initialize(self) -> None:
        async with self._sent("POST", self._session.initialize_message()) as response:
            _check(response.status_code)
            await response.aread()
            self._session.session_id = response.headers["mcp-session-id"]
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        async with self._sent("POST", ready) as response:
            _check(response.status_code, 202)

    async def _call(self) -> None:
        label = self._label()
        _expect(await self._complete("count", number=0, label=label, pace=0), label)

    async def _bump(self) -> None:
        """Each acknowledged call counts once; one whose answer was lost may have counted."""
        self._uncertain += 1
        got = await self._complete("bump")
        if not isinstance(got, int) or not self._bumps < got <= self._bumps + self._uncertain:
            expected = f"{self._bumps + 1} to {self._bumps + self._uncertain}"
            lost = isinstance(got, int) and got <= self._bumps
            if isinstance(got, int) and lost:
                self._record.writes_lost += self._bumps + 1 - got
            self._bumps, self._uncertain = got if isinstance(got, int) else 0, 0
            raise Refused("state lost" if lost else f"counted to {got!r}, not {expected}")
        self._bumps, self._uncertain = got, 0

    async def _stream(self) -> None:
        label = self._label()
        call = self._calling("count", number=NUMBER, label=label, pace=PACE)
        call.cut_after = CUT_AFTER
        try:
            _expect(await self._result(call), label)
        finally:
            done = call.response is not None and "result" in call.response
            numbers = [int(each["progress"]) for each in call.progress]
            most = NUMBER if done else max(numbers, default=0)
            self._record.messages.expect(numbers, certain=range(1, most + 1))

    async def _ask(self) -> None:
        label, number = self._label(), self._random.randrange(1000)
        call = self._calling("ask", label=label)
        _expect(await self._result(call, answer=number), f"{label}: {number}")
        asked = [message["id"] for message in call.messages if "method" in message]
        self._record.messages.received += len(asked)
        self._record.messages.doubled += len(asked) - 1

    async def _tell(self) -> None:
        first = self._told + 1
        self._told += TOLD
        await self._complete("tell", first=first, number=self._told, pace=0)
        self._certain |= set(range(first, self._told + 1))

    async def _listen(self, call: Call) -> None:
        """Hold the session's own stream, on one process after the other, until the session is gone."""
        while True:
            sent = monotonic()
            try:
                await self._connect(call, None)
            except SessionLost:
                return
            except Refused as refusal:
                problem = f"{refusal} for a session's own stream"
                self._record.add(
                    Outcome(kind="listen", process="", sent=sent, ended=monotonic(), problem=problem)
                )
                call.last_event_id = None  # what clients do whose event is not known any more
            except httpx2.TransportError:
                pass  # the next process goes on with the stream
            await asyncio.sleep(PAUSE)

    def _label(self) -> str:
        self._count += 1
        return f"{self._session.fingerprint[:8]}-{self._count}"

    def _calling(self, tool: str, **arguments: Any) -> Call:
        return Call(client=self._session, message=self._session.calling(tool, **arguments))

    async def _complete(self, tool: str, **arguments: Any) -> Any:
        return await self._result(self._calling(tool, **arguments))

    async def _result(self, call: Call, *, answer: int | None = None) -> Any:
        """The structured result of a call, which is resumed wherever its connection breaks. Raises: Refused."""
        while not call.through:
            try:
                await self._connect(call, answer)
            except httpx2.TransportError as error:
                if call.last_event_id is None:
                    raise Refused(f"connection lost ({type(error).__name__})") from error
            if not call.through:
                if call.last_event_id is None:
                    raise Refused("connection closed without an answer")
                await asyncio.sleep(PAUSE)
        if call.response is None:
            raise Refused("no response")
        if "error" in call.response:
            raise Refused(_short(call.response["error"]["message"]))
        if call.response["result"].get("isError"):
            raise Refused(_short(call.response["result"]["content"][0]["text"]))
        return call.response["result"].get("structuredContent", {}).get("result")

    async def _connect(self, call: Call, answer: int | None) -> None:
        """One connection: the request itself, or its stream from the last event on. Raises: Refused, TransportError."""
        resuming = call.message is None or call.last_event_id is not None
        async with self._sent("GET" if resuming else "POST", call.message, call.last_event_id) as response:
            if resuming and response.status_code == 503:
                return
            _check(response.status_code)
            if response.headers["content-type"].startswith("application/json"):
                call.take(ServerSentEvent(data=(await response.aread()).decode()))
                return
            left = self._random.expovariate(1 / call.cut_after) if call.cut_after else float("inf")
            before = len(call.received)
            async for event in EventSource(response, max_event_size=None):
                call.take(event)
                if (
                    answer is not None
                    and event.data
                    and "id" in (asked := message_of(event))
                    and "method" in asked
                ):
                    await self._answer(asked, answer)
                if call.through or len(call.received) - before > left:
                    return

    async def _answer(self, asked: dict[str, Any], number: int) -> None:
        """Answer a request of the server, on whichever process, until one has taken it."""
        result = {"action": "accept", "content": {"number": number}}
        reply = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
        while True:
            with suppress(httpx2.TransportError):
                async with self._sent("POST", reply) as response:
                    # 400: it was taken although its answer was lost, or nobody waits any more. The call says which.
                    if response.status_code in (202, 400):
                        return
                    if response.status_code != 503:
                        _check(response.status_code)
            await asyncio.sleep(PAUSE)

    @asynccontextmanager
    async def _sent(
        self, method: str, message: Any, last_event_id: str | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """The response of the first process that accepts the connection, while it is read."""
        more: dict[str, str | None] = {}
        if method == "GET":
            more = {"accept": "text/event-stream", "content_type": None, "last_event_id": last_event_id}
        headers = self._session.headers(**more)
        content = json.dumps(message) if method == "POST" else ""
        while True:
            process = self._proxy.turn()
            if method == "POST" and not self._asked:
                self._asked = process.name
            try:
                async with self._http.stream(
                    method, process.url + self._session.path, content=content, headers=headers
                ) as response:
                    yield response
                    return
            except httpx2.ConnectError:
                if self._asked == process.name:
                    self._asked = ""
            await asyncio.sleep(0.01)


def _check(status: int, expected: int = 200) -> None:
    """Raises: Refused."""
    if status == 404:
        raise SessionLost("404: the session is gone")
    if status != expected:
        raise Refused(f"HTTP {status}")


def _expect(got: Any, expected: str) -> None:
    if got != expected:
        raise Refused(f"wrong answer {_short(str(got))}")


def _numbers(heard: Call) -> list[int]:
    """The numbers of the messages on a session's own stream."""
    return [int(each["uri"].removeprefix("chaos://")) for each in heard.progress]


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
