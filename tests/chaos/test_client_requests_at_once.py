"""Many requests to clients at once: each answer finds the handler that waits for it, wherever it arrives."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.chaos.harness import Serve
from tests.support.load import Call, load, sessions
from tests.support.processes import wait_until

pytestmark = [pytest.mark.slow]

REQUESTS: Final = 100
SESSIONS: Final = 10
BOUND: Final = 60


def test_a_hundred_elicitations_of_one_process_are_answered_through_the_other(serve: Serve) -> None:
    service = serve(2)
    a, b = service.urls
    clients = sessions(SESSIONS, b)
    calls = [asking(clients[n % SESSIONS], f"number {n}") for n in range(REQUESTS)]
    with load(calls, [a]) as running:
        wait_until(lambda: running.received() == REQUESTS, seconds=BOUND, what="all requests")
        shuffled = random.Random(1).sample(list(enumerate(calls)), REQUESTS)  # noqa: S311 - no secret
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda numbered: answer(numbered[1], numbered[0], b), shuffled))
        running.join(BOUND)
    assert statuses == [202] * REQUESTS
    assert len({call.messages[0]["id"] for call in calls}) == REQUESTS
    for n, call in enumerate(calls):
        assert [message.get("method") for message in call.messages] == ["elicitation/create", None]
        assert (call.response or {})["result"]["structuredContent"] == {"result": f"number {n}: {n}"}


def asking(client: Any, label: str) -> Call:
    return Call(client=client, message=client.calling("ask", label=label))


def answer(call: Call, number: int, url: str) -> int:
    """Answer the one request of a call; the HTTP status."""
    [request] = call.messages
    assert request["params"]["message"] == f"number {number}"
    result = {"action": "accept", "content": {"number": number}}
    return call.client.post(url, {"jsonrpc": "2.0", "id": request["id"], "result": result}).status_code
