"""Calls that count up, and what must be true of their messages."""

from typing import Final

from tests.chaos.harness import Service
from tests.support.gates import Gate
from tests.support.load import Call, sessions
from tests.support.mcp_client import RawClient, events
from tests.support.redis import RedisInspector

#: Seconds between two messages of a call.
PACE: Final = 0.1
#: A client cuts its connection after so many messages, on average.
CUT_AFTER: Final = 20


def counting_calls(service: Service, calls: int, *, number: int, per_session: int = 4) -> list[Call]:
    """Calls that each count to a number with a progress token of their own, several in each session."""
    clients = sessions(-(-calls // per_session), service.urls[-1])
    made = []
    for n in range(calls):
        client, token = clients[n % len(clients)], f"call-{n}"
        message = client.calling("count", under=token, number=number, label=token, pace=PACE)
        made.append(Call(client=client, message=message, cut_after=CUT_AFTER))
    return made


def assert_what_was_logged_came_once(call: Call, redis: RedisInspector) -> None:
    """Exactly what the log of its stream holds, in that order."""
    assert call.received == redis.log(call.client.fingerprint, call.stream)


def assert_counted_up(call: Call, number: int) -> None:
    """Each number once, in order, of this call and no other, from one process."""
    token = token_of(call)
    expected = [
        {"progressToken": token, "progress": n, "total": number, "message": f"{ran_in(call)} {token}"}
        for n in range(1, len(call.progress) + 1)
    ]
    assert call.progress == expected


def assert_has_its_result(call: Call, number: int) -> None:
    """The result of this call, after every number."""
    assert call.message is not None
    assert call.response is not None
    assert call.response["id"] == call.message["id"]
    assert "result" in call.response, call.response
    assert call.response["result"]["structuredContent"] == {"result": token_of(call)}
    assert len(call.progress) == number


def token_of(call: Call) -> str:
    """What the call's messages must say."""
    assert call.message is not None
    return str(call.message["params"]["_meta"]["progressToken"])


def ran_in(call: Call) -> int:
    """The id of the process that ran a call: its messages say it."""
    return int(call.progress[0]["message"].split()[0])


def begun(client: RawClient, url: str, gate: Gate, number: int) -> str:
    """Call `count_past`, leave it at its gate, and return the id of its stream's start."""
    with client.stream(url, client.calling("count_past", gate=gate.path, number=number)) as response:
        start = next(events(response))
    gate.reached()
    assert start.id is not None
    return start.id
