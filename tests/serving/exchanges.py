"""Requests of one session in a process of a test, and handlers for them."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from mcp_sessions.errors import StoreUnavailable
from mcp_sessions.records import Session
from mcp_sessions.serving.exchange import Exchange
from mcp_sessions.serving.observing import Ended
from mcp_sessions.store.calls import sessions
from mcp_sessions.transport import jsonrpc
from tests.serving.contexts import Process
from tests.store.harness import client_named

DONE = {"jsonrpc": "2.0", "id": 7, "result": {}}


class Requests:
    """Requests of one session, which this handler answers; what it was given is in `given`."""

    def __init__(self, handler: Callable[[Exchange], Awaitable[Any]] | None = None, **conf: Any) -> None:
        self.process = Process(**conf)
        self.noted: list[Ended] = []
        self.given: dict[str, Any] = {}
        self.client_requests: Any = SimpleNamespace(send=self._ask)
        self.asked: list[Any] = []
        self.kernel: Any = SimpleNamespace(
            answer=self._answer,
            keeps_subscriptions=True,
            is_repeatable=lambda request: request.params is not None,
            opt_in_tools=frozenset({"secret"}),
        )
        self._handler = handler

    async def _answer(self, request: Any, scope: Any, session: Session, **given: Any) -> Any:
        self.given = {"request": request, "scope": scope, "session": session, **given}
        return DONE if self._handler is None else await self._handler(given["channel"])

    async def _ask(self, fingerprint: str, request: Any, put: Any) -> Any:
        self.asked.append((fingerprint, request))
        await put({"jsonrpc": "2.0", "id": "q", "method": request})
        return request

    async def session(self, protocol: str = "2025-11-25", *, is_stored: bool = True) -> Session:
        harness = self.process.harness
        fingerprint = await harness.open(
            principal="user:1", handshake=client_named("inspector", protocol=protocol)
        )
        session = await harness.store.run(sessions.get(fingerprint))
        assert session is not None
        return session._replace(is_stored=is_stored)

    async def begin(self, method: str = "tools/call", params: Any = None, **options: Any) -> Exchange:
        return Exchange(
            **{
                "request": jsonrpc.Request(id=7, method=method, params=params),
                "scope": {"client": ("127.0.0.1", 5), "headers": []},
                "session": options.pop("session", None) or await self.session(),
                "may_stream": True,
                "context": self.process.context,
                "kernel": self.kernel,
                "client_requests": self.client_requests,
                "note": self.noted.append,
                **options,
            }
        )

    async def answer(self, method: str, params: Any = None, **options: Any) -> dict[str, Any]:
        exchange = await self.begin(method, params, **options)
        await exchange.run()
        assert exchange.response is not None
        return exchange.response


async def fail(_: Exchange) -> Any:
    raise KeyError("x")


async def miss_the_store(_: Exchange) -> Any:
    raise StoreUnavailable("away")


async def stay(_: Exchange) -> Any:
    await asyncio.Event().wait()
