"""Processes that are killed under load: each call is carried on elsewhere, and each of its messages comes once."""

from contextlib import ExitStack
from time import monotonic
from typing import Final

import pytest
from django.conf import LazySettings
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST

from mcp_sessions.messages import send
from tests.chaos.counting import (
    assert_counted_up,
    assert_has_its_result,
    assert_what_was_logged_came_once,
    counting_calls,
    ran_in,
)
from tests.chaos.harness import Serve, join_from_outside, wait_for_heartbeats
from tests.support.load import Call, load, sessions
from tests.support.mcp_client import messages
from tests.support.processes import Process, wait_until

pytestmark = [pytest.mark.slow]

#: Calls of each of the three waves, and messages of each call.
CALLS: Final = 70
NUMBER: Final = 60
#: A process is killed when so many messages of the newest wave have come.
MESSAGES: Final = 500
#: Seconds in which a lost call is told to its client, from the kill or from when it was last resumed, and a dead node
#: forgotten.
TOLD_WITHIN: Final = 30
#: Clients with a standalone stream, messages to each, and how many the last client may be behind.
LISTENERS: Final = 20
ROUNDS: Final = 60
LAG: Final = 10
#: Seconds for all calls of a wave.
BOUND: Final = 120


@pytest.mark.protocol("H11", "H17", "H20", "H21")
def test_calls_go_on_while_processes_are_killed_and_no_message_is_lost_or_doubled(serve: Serve) -> None:
    service = serve(3)
    a, b, _ = service.processes
    calls: list[Call] = []
    killed: dict[int, float] = {}
    with ExitStack() as stack:
        waves = []
        for process in (a, b, a):
            process.wait_until_it_answers()
            calls += (wave := counting_calls(service, CALLS, number=NUMBER))
            waves.append(stack.enter_context(load(wave, service.urls)))
            waves[-1].wait_for(MESSAGES)
            killed |= kill(process)
        for running in waves:
            running.join(BOUND)
    for call in calls:
        assert_what_was_logged_came_once(call, service.redis)
        assert_counted_up(call, NUMBER)
        assert_has_its_result_or_is_known_to_be_lost(call, killed)
    lost = [call for call in calls if "error" in (call.response or {})]
    assert {ran_in(call) for call in lost} == set(killed)
    assert len(lost) < len(calls)
    assert sum(call.connections for call in calls) > 2 * len(calls)


def kill(process: Process) -> dict[int, float]:
    """Kill a process, and let it come up again under load; when which process id was killed."""
    killed = {process.pid: monotonic()}
    process.kill()
    process.launch()
    return killed


def assert_has_its_result_or_is_known_to_be_lost(call: Call, killed: dict[int, float]) -> None:
    """A call has its result unless its process was killed; then it may have an error that says so, in time."""
    assert call.response is not None
    if "result" in call.response:
        return assert_has_its_result(call, NUMBER)
    assert call.response["error"]["code"] == CONNECTION_CLOSED
    assert "lost" in call.response["error"]["message"]
    # The process on which it was resumed may have been killed in its turn.
    assert call.ended - max(killed[ran_in(call)], call.resumed) < TOLD_WITHIN


def test_a_killed_process_leaves_the_list_of_nodes_and_one_that_stops_leaves_it_at_once(serve: Serve) -> None:
    service = serve(3, draining=True)
    redis, (a, b, c) = service.redis, service.processes
    for url in service.urls:
        counting_calls(service, 1, number=1)[0].client.value(url, "process")
    assert set(redis.nodes()) == {a.pid, b.pid, c.pid}
    dead, stopped = a.pid, b.pid
    a.kill()
    b.stop()
    assert stopped not in redis.nodes()
    wait_until(lambda: dead not in redis.nodes(), seconds=TOLD_WITHIN, what="the dead node to be forgotten")
    assert set(redis.nodes()) == {c.pid}


@pytest.mark.protocol("H6")
def test_an_answer_to_a_process_that_was_killed_is_refused(serve: Serve) -> None:
    service = serve(2)
    (a, b), redis = service.processes, service.redis
    client = sessions(1, a.url)[0]
    with client.stream(a.url, client.calling("ask", label="how many?")) as response:
        question = next(messages(response))
        client.value(b.url, "process")
        dead = a.pid
        a.kill()
    result = {"action": "accept", "content": {"number": 7}}
    reply = {"jsonrpc": "2.0", "id": question["id"], "result": result}
    wait_until(lambda: dead not in redis.nodes(), seconds=TOLD_WITHIN, what="the dead node to be forgotten")
    wait_for_heartbeats(service, 1)
    refused = client.post(b.url, reply)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, INVALID_REQUEST)


@pytest.mark.protocol("H17")
def test_messages_from_outside_come_once_while_the_processes_that_deliver_them_are_killed(
    serve: Serve, settings: LazySettings
) -> None:
    service = serve(3)
    join_from_outside(settings, service)
    clients = sessions(LISTENERS, service.urls[0])
    listening = [Call(client=client, message=None, enough=ROUNDS, cut_after=15) for client in clients]
    victims = {ROUNDS // 4: service.processes[0], ROUNDS // 2: service.processes[1]}
    with load(listening, service.urls) as running:
        for n in range(1, ROUNDS + 1):
            for client in clients:
                assert send(client.fingerprint, "notifications/resources/updated", {"uri": f"chaos://{n}"})
            running.wait_for_all((n - LAG) * LISTENERS)
            if n in victims:
                kill(victims[n])
        running.join(BOUND)
    for call in listening:
        assert [message["params"]["uri"] for message in call.messages] == [
            f"chaos://{n}" for n in range(1, ROUNDS + 1)
        ]
