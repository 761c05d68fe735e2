"""What real processes count is what was really called."""

from collections import Counter
from pathlib import Path
from typing import Any

from mcp_sessions.counting import OUTCOMES, Counts
from tests.support.mcp_client import META, MODERN, RawClient, connected
from tests.support.processes import daphne, drained_by_ours, serving_everything, started, wait_until
from tests.support.redis import RedisServer, run_server
from tests.support.totals import totals_of


def by_outcome(counted: Counts) -> dict[str, dict[str, int]]:
    """The calls of each tool."""
    return {
        tool: {outcome: number for outcome, number in zip(OUTCOMES, numbers, strict=False) if number}
        for tool, numbers in counted.tools.items()
    }


def call_modern(url: str, tool: str, **arguments: Any) -> None:
    client = RawClient()
    params = {"name": tool, "arguments": arguments, "_meta": META}
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
    client.post(url, client.request("tools/call", params), **headers)


def test_the_counts_of_two_processes_are_what_was_called(
    tmp_path: Path, redis_server: RedisServer, settings: Any
) -> None:
    common = {
        "REDIS_URL": redis_server.url,
        "MCP_SERVER": "tests.served.everything.server",
        "MCP_NAMESPACE": tmp_path.name,
    }
    processes = [drained_by_ours(daphne("A", tmp_path, **common)), daphne("B", tmp_path, **common)]
    with started(processes):
        totals = totals_of(tmp_path.name, redis_server, settings)
        clients = [connected(process.url) for process in processes]
        for number in range(40):
            url = processes[number % 2].url
            clients[number % 3 % 2].call(url, "add", a=1, b=number)
            if number % 4 == 0:
                clients[0].call(url, "add", a="no number", b=1)
                clients[1].call(url, f"no-such-tool-{number}")
                call_modern(url, "add", a=1, b=2)
        for process in processes:
            RawClient(session_id="nonsense").post(process.url, RawClient().request("ping", {}))
        expected = {
            "add": {"ok": 50, "tool error": 10},
            "(unknown)": {"tool error": 10},
        }
        wait_until(lambda: by_outcome(totals()) == expected, what=f"{expected}, not {by_outcome(totals())}")
        # What is written when a process stops.
        clients[0].call(processes[0].url, "add", a=1, b=1)
        clients[0].delete(processes[0].url)
        processes[0].stop()
        counted = totals()
        assert by_outcome(counted)["add"]["ok"] == 51
        assert counted.numbers["sessions_opened"] == 2
        assert counted.numbers["sessions_ended:deleted"] == 1
        assert counted.numbers["refusals:404"] == 2
        assert counted.numbers["requests:ok"] == 51


def test_a_killed_process_loses_only_what_it_had_not_written(
    tmp_path: Path, redis_server: RedisServer, settings: Any
) -> None:
    with serving_everything(tmp_path, redis_server.url, count=1) as [process]:
        totals = totals_of(tmp_path.name, redis_server, settings)
        client = connected(process.url)
        for _ in range(20):
            client.call(process.url, "add", a=1, b=1)
        wait_until(lambda: by_outcome(totals()).get("add") == {"ok": 20}, seconds=3, what="twenty calls")
        client.call(process.url, "add", a=1, b=1)
        process.kill()
        assert by_outcome(totals())["add"]["ok"] in (20, 21)


def test_an_outage_of_redis_loses_no_count_and_doubles_none(tmp_path: Path, settings: Any) -> None:
    with run_server(keep=True) as redis, serving_everything(tmp_path, redis.url, count=1) as [process]:
        totals = totals_of(tmp_path.name, redis, settings)
        client = connected(process.url)
        called: Counter[int] = Counter()
        for _ in range(3):
            for _ in range(10):
                client.call(process.url, "add", a=1, b=1)
            redis.stop()
            status = client.post(process.url, client.calling("add", a=1, b=1)).status_code
            called[status] += 1
            redis.start()
            wait_until(
                lambda: client.post(process.url, client.request("ping", {})).status_code == 200,
                what="an answer",
            )
        wait_until(lambda: by_outcome(totals()).get("add") == {"ok": 30}, what="thirty calls, once each")
        assert totals().numbers["refusals:503"] >= called[503] == 3
