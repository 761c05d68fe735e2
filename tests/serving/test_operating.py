"""What operators see of running processes, and ask of them: real daphnes, one of which hangs, is killed or drained."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client

from benchmarks.chaos.world import with_clock
from mcp_sessions import __version__
from mcp_sessions.admin.operating import drain
from mcp_sessions.audit.models import AuditEntry
from mcp_sessions.inventory.figures import HOUR
from mcp_sessions.inventory.nodes import RunningCall, ServingNode, nodes_of, running_in
from mcp_sessions.inventory.overview import overview_of
from mcp_sessions.store.calls import nodes, recent
from mcp_sessions.store.factory import sync_store_for
from tests.admin.pages import body, on_redis, said
from tests.support.gates import gate
from tests.support.mcp_client import META, MODERN, RawClient, connected
from tests.support.processes import Process, daphne, drained_by_ours, started, wait_until
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.django_db]

NOW = "/admin/mcp_sessions/mcpsession/now/"
NODES = "/admin/mcp_sessions/mcpsession/processes/"


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Two processes under our daphne, without a request so far."""
    directory = tmp_path_factory.mktemp("operated")
    pair = [
        drained_by_ours(daphne(name, directory, **environment(redis_server, directory.name)))
        for name in ("A", "B")
    ]
    with started(pair):
        yield pair


def environment(redis: RedisServer, namespace: str) -> dict[str, str]:
    server = "tests.served.everything.server"
    return {"REDIS_URL": redis.url, "MCP_SERVER": server, "MCP_NAMESPACE": namespace}


@pytest.fixture(autouse=True)
def here(settings: LazySettings, redis_server: RedisServer, pair: list[Process]) -> None:
    """The admin in the test's process, over the same Redis."""
    settings.CACHES = on_redis(redis_server.url)
    settings.MCP_SESSIONS = {
        "default": {
            "SERVER": "tests.served.everything.server",
            "NAMESPACE": pair[0].environment["MCP_NAMESPACE"],
        }
    }


@pytest.fixture
def operator() -> Client:
    user = User.objects.create_user("olga", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_mcpsession", "expire_session"]))
    client = Client()
    client.force_login(user)
    return client


def known(process: Process) -> ServingNode | None:
    return next((node for node in nodes_of(["default"]) if node.pid == process.pid), None)


def node_of(process: Process) -> ServingNode:
    """The node that a process is, as soon as it is one and has reported."""
    wait_until(
        lambda: (node := known(process)) is not None and bool(node.version), what="a node that reports"
    )
    node = known(process)
    assert node is not None
    return node


def running(tool: str) -> list[RunningCall]:
    return [call for call in running_in(nodes_of(["default"])) if call.tool == tool]


@contextmanager
def answering(ask: Callable[[], httpx2.Response]) -> Iterator[list[httpx2.Response]]:
    """What a request gets that is answered while the block runs."""
    answers: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    try:
        yield answers
    finally:
        thread.join(30)


def call_of(client: RawClient, url: str, tool: str, **arguments: Any) -> Callable[[], httpx2.Response]:
    return lambda: client.post(url, client.request("tools/call", {"name": tool, "arguments": arguments}))


def modern_call(url: str, tool: str, **arguments: Any) -> Callable[[], httpx2.Response]:
    client = RawClient()
    params = {"name": tool, "arguments": arguments, "_meta": META}
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
    return lambda: client.post(url, client.request("tools/call", params), **headers)


def test_a_process_without_a_request_is_a_node_with_its_version(pair: list[Process]) -> None:
    for process in pair:
        node = node_of(process)
        assert node.version == __version__
        assert node.memory is None or node.memory > 10 * 1024**2
        assert (node.calls, node.is_silent, node.draining) == (0, False, False)


@pytest.mark.parametrize("era", ["handshake", "modern"])
@pytest.mark.parametrize("tool", ["wait", "block"])
def test_a_call_of_one_process_is_seen_and_cancelled_from_another(
    pair: list[Process], operator: Client, tmp_path: Path, era: str, tool: str
) -> None:
    url = pair[0].url
    with gate(tmp_path) as at:
        client = connected(url) if era == "handshake" else None
        ask = call_of(client, url, tool, gate=at.path) if client else modern_call(url, tool, gate=at.path)
        with answering(ask) as answers:
            at.reached()
            [call] = wait_until(lambda: running(tool), seconds=5, what="the call to be reported")
            assert call.client == ("raw-client" if client else "modern")
            assert client is None or call.fingerprint == client.fingerprint
            page = operator.get(NOW, {"tool": tool}).content.decode()
            assert call.fingerprint[:12] in page
            answer = operator.post(NOW, {"cancel": call.key}, follow=True).content.decode()
            assert f"Asked to cancel {tool}." in answer
            wait_until(lambda: answers, seconds=5, what="an answer")
        if tool == "block":
            at.open()
    assert "-32800" in answers[0].text
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.by, entry.fingerprint) == ("cancel-call", "olga", call.fingerprint)
    pair[0].wait_until_it_says(f"'tools/call:{tool}' of {call.fingerprint[:12]} was cancelled by 'olga'.")
    wait_until(lambda: not running(tool), what="the call to be gone")
    gone = operator.post(NOW, {"cancel": call.key}, follow=True).content.decode()
    assert "That call has ended." in gone


def test_what_operators_ask_is_done_by_a_process_that_redis_has_forgotten(
    pair: list[Process], operator: Client, tmp_path: Path, redis_server: RedisServer
) -> None:
    asked = pair[0]
    client, process = connected(asked.url), node_of(asked).process
    with gate(tmp_path) as at, answering(call_of(client, asked.url, "wait", gate=at.path)) as answers:
        at.reached()
        [call] = wait_until(lambda: running("wait"), seconds=5, what="the call to be reported")
        forget_nodes(redis_server)
        operator.post(NOW, {"cancel": call.key})
        wait_until(lambda: answers, seconds=10, what="an answer")
    assert "-32800" in answers[0].text
    for drains, status in (("1", 503), ("0", 200)):
        forget_nodes(redis_server)
        operator.post(NODES, {"process": process, "drains": drains})
        wait_until(partial(answers_readyz, asked, status), seconds=10, what=f"{status}")


def test_a_call_is_not_said_to_have_ended_where_redis_has_lost_its_data(
    pair: list[Process], operator: Client, tmp_path: Path, redis_server: RedisServer
) -> None:
    client = connected(pair[0].url)
    with gate(tmp_path) as at, answering(call_of(client, pair[0].url, "wait", gate=at.path)) as answers:
        at.reached()
        [call] = wait_until(lambda: running("wait"), seconds=5, what="the call to be reported")
        for process in pair:
            process.pause()  # or they report again while the page is asked
        try:
            forget_nodes(redis_server, "reports")
            for page, posted in ((NOW, {"cancel": call.key}), (NODES, {"process": "p", "drains": "1"})):
                answer = said(operator.post(page, posted, follow=True))
                assert [each.partition(":")[0] for each in answer] == ["Nothing was done"]
        finally:
            for process in pair:
                process.resume()
        wait_until(lambda: running("wait"), seconds=5, what="the call to be reported again")
        assert not answers
        operator.post(NOW, {"cancel": call.key})
        wait_until(lambda: answers, seconds=10, what="an answer")
    assert "-32800" in answers[0].text


def forget_nodes(redis: RedisServer, *more: str) -> None:
    """What Redis knows of who can be notified is lost, as with all of its data, until their next heartbeats."""
    with redis.client() as connection:
        parts = ("nodes", "inbox", *more)
        keys = [key for part in parts for key in connection.scan_iter(f"*mcp:*:{part}*")]
        assert keys
        connection.delete(*keys)


def test_only_who_may_end_sessions_may_cancel_or_drain(pair: list[Process]) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_mcpsession"))
    viewer = Client()
    viewer.force_login(user)
    for path, data in ((NOW, {"cancel": "a:1"}), (NODES, {"process": "a", "drains": "1"})):
        assert viewer.get(path).status_code == 200
        assert viewer.post(path, data).status_code == 403
    assert Client().get(NOW).status_code == 302


@pytest.mark.logs_fault("RuntimeError: on purpose")
def test_what_requests_did_is_known_of_their_session(pair: list[Process]) -> None:
    client = connected(pair[1].url)
    client.value(pair[1].url, "add", a=1, b=2)
    client.call(pair[1].url, "fail", message="on purpose")
    client.post(pair[1].url, client.request("no/such/method"))

    def past() -> recent.Recent:
        return sync_store_for("default").run(recent.read(client.fingerprint, wanted=50, most=50))

    wait_until(lambda: past().ended == 3, what="the requests to be written")
    found = past()
    assert found.failed == 2
    assert [(each.call, each.outcome) for each in found.requests] == [
        ("no/such/method", "error"),
        ("tools/call:fail", "tool error"),
        ("tools/call:add", "ok"),
    ]
    node = node_of(pair[1])
    assert node is not None
    assert node.id.startswith(found.requests[0].node)


def test_the_shell_lists_nodes_and_what_runs_as_json(
    pair: list[Process], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = connected(pair[0].url)
    with gate(tmp_path) as at, answering(call_of(client, pair[0].url, "wait", gate=at.path)) as answers:
        at.reached()
        wait_until(lambda: running("wait"), what="the call to be reported")
        call_command("mcp_sessions", "now", "--json")
        [call] = json.loads(capsys.readouterr().out)
        assert (call["tool"], call["fingerprint"]) == ("wait", client.fingerprint)
        call_command("mcp_sessions", "now")
        assert client.fingerprint[:12] in capsys.readouterr().out
        call_command("mcp_sessions", "now", "--tool", "other", "--json")
        assert json.loads(capsys.readouterr().out) == []
        call_command("mcp_sessions", "nodes", "--json")
        assert {node["pid"] for node in json.loads(capsys.readouterr().out)} == {each.pid for each in pair}
        call_command("mcp_sessions", "nodes")
        assert str(pair[1].pid) in capsys.readouterr().out
        at.open()
    assert answers[0].status_code == 200


@pytest.mark.needs("libfaketime")
def test_a_node_whose_clock_is_wrong_says_so_wherever_the_operator_looks(
    pair: list[Process], redis_server: RedisServer, tmp_path: Path, operator: Client
) -> None:
    namespace = pair[0].environment["MCP_NAMESPACE"]
    late = with_clock(drained_by_ours(daphne("late", tmp_path, **environment(redis_server, namespace))), -60)
    with started([late]):
        [node] = wait_until(lambda: [each for each in nodes_of(["default"]) if each.is_skewed])
        assert node.pid == late.pid
        assert node.ahead_ms == pytest.approx(60_000, abs=1_500)
        assert '<strong class="mcp-bad">clock 60 s behind that of Redis</strong>' in body(operator.get(NODES))
        found = [each for each in overview_of(["default"], HOUR).findings if each.code == "clock-skew"]
        assert [each.what for each in found] == [
            f"The clock of the machine {node.host} is 60 s behind that of Redis."
        ]


def test_a_drained_process_opens_nothing_and_loses_nothing(
    pair: list[Process], operator: Client, tmp_path: Path
) -> None:
    drained, other = pair
    client = connected(drained.url)
    node = node_of(drained)
    assert node is not None
    with gate(tmp_path) as at, answering(call_of(client, drained.url, "wait", gate=at.path)) as answers:
        at.reached()
        with client.get(drained.url) as listening:
            page = operator.post(NODES, {"process": node.process, "drains": "1"}, follow=True)
            assert "takes on nothing new" in page.content.decode()
            assert "retry:" in listening.read().decode()  # and then it ends
        assert httpx2.get(f"{drained.url}/readyz").status_code == 503
        refused = client.post(drained.url, RawClient().initialize_message())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        with client.get(drained.url) as listening:
            assert listening.status_code == 503
        # What it has, and what it gets besides, is answered.
        assert client.value(drained.url, "add", a=1, b=1) == 2
        assert not answers
        at.open()
    assert answers[0].status_code == 200
    wait_until(lambda: node_of(drained).draining, what="the report to say so")
    connected(other.url)
    operator.post(NODES, {"process": node.process, "drains": "0"})
    wait_until(lambda: httpx2.get(f"{drained.url}/readyz").status_code == 200, what="it to be ready again")
    connected(drained.url)
    assert [each.action for each in AuditEntry.objects.all()] == ["drain", "drain"]


@pytest.mark.slow
def test_a_process_that_hangs_or_was_killed_stays_in_red_and_one_that_stops_leaves(
    pair: list[Process],
    operator: Client,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisServer,
) -> None:
    hung = pair[1]
    shared = environment(redis_server, hung.environment["MCP_NAMESPACE"])
    other = drained_by_ours(daphne("other", tmp_path, **shared))
    with started([other]):
        stopped = node_of(other)
        other.stop()
        assert stopped.id not in {node.id for node in nodes_of(["default"])}
        other.start()
        killed = node_of(other)
        client, hanging = connected(hung.url), node_of(hung)
        assert hanging is not None
        with (
            gate(tmp_path) as at,
            answering(call_of(client, hung.url, "wait", gate=at.path)) as answers,
            gate(tmp_path_factory.mktemp("second")) as second,
            answering(call_of(client, hung.url, "report", gate=second.path)) as cancelled,
        ):
            at.reached()
            second.reached()
            wait_until(lambda: running("wait") and running("report"), what="the calls to be reported")
            hung.pause()
            other.kill()
            try:
                wait_until(lambda: len(silent_nodes()) == 2, what="red")
                assert set(silent_nodes()) == {hanging.id, killed.id}
                page = operator.get(NODES).content.decode()
                assert page.count('<tr class="mcp-silent">') == 2
                assert "2 nodes give no sign of life" in page
                [call] = running("wait")
                assert call.is_silent
                # Its node is forgotten, and with it its inbox.
                wait_until(lambda: hanging.id not in listed(), what="the others to forget it")
                [call] = running("report")
                answer = operator.post(NOW, {"cancel": call.key}, follow=True)
                assert said(answer) == [
                    "The node of report gives no sign of life. It cancels the call if it goes on."
                ]
            finally:
                hung.resume()
            wait_until(lambda: hanging.id not in silent_nodes(), what="it to be back")
            wait_until(lambda: cancelled, seconds=10, what="the cancelled call to be answered")
            assert "-32800" in cancelled[0].text
            at.open()
        assert answers[0].status_code == 200


def answers_readyz(process: Process, status: int) -> bool:
    return httpx2.get(f"{process.url}/readyz").status_code == status


def listed() -> list[str]:
    return [node.id for node in sync_store_for("default").run(nodes.list_nodes())]


def silent_nodes() -> list[str]:
    return [node.id for node in nodes_of(["default"]) if node.is_silent]


def test_drained_under_load_no_call_is_lost(pair: list[Process]) -> None:
    """Clients that call all the time while their process is drained and used again, ten times."""
    process = pair[0]
    node = node_of(process)
    clients = [connected(process.url) for _ in range(4)]
    done, failed, stop = [0], list[str](), threading.Event()

    def call_on(client: RawClient) -> None:
        while not stop.is_set():
            answer = client.post(
                process.url, client.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
            )
            if answer.status_code != 200 or '"result"' not in answer.text:
                failed.append(answer.text)
            done[0] += 1

    threads = [threading.Thread(target=call_on, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for n in range(10):
        drain([node], drains=n % 2 == 0, by="test")
        wanted = n % 2 == 0
        status = 503 if wanted else 200
        wait_until(partial(answers_readyz, process, status), what="readyz")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert done[0] > 20
    assert failed == []


@pytest.mark.logs_fault("RuntimeError: on purpose")
def test_the_list_says_what_sessions_do_and_is_narrowed_to_it(
    pair: list[Process], operator: Client, tmp_path: Path
) -> None:
    url = pair[0].url
    busy, listening, failing, idle = (connected(url) for _ in range(4))
    failing.call(url, "fail", message="on purpose")
    with (
        gate(tmp_path) as at,
        answering(call_of(busy, url, "wait", gate=at.path)) as answers,
        listening.get(url),
    ):
        at.reached()

        def listed(state: str) -> set[str]:
            page = operator.get("/admin/mcp_sessions/mcpsession/", {"state": state})
            return {row.pk for row in page.context["cl"].result_list}

        ours = {each.fingerprint for each in (busy, listening, failing, idle)}

        def is_listed(state: str, wanted: set[str]) -> bool:
            return listed(state) & ours == wanted

        # A call that takes long is answered with a stream.
        for state, clients in (
            ("calling", [busy]),
            ("streaming", [busy, listening]),
            ("failing", [failing]),
        ):
            wanted = {each.fingerprint for each in clients}
            wait_until(partial(is_listed, state, wanted), what=state)
        assert listed("stuck") & ours == set()
        assert listed("nonsense") == set()

        def is_shown(pattern: str) -> bool:
            return (
                re.search(pattern, operator.get("/admin/mcp_sessions/mcpsession/").content.decode())
                is not None
            )

        # What runs is reported in one round trip, and what has ended is noted in another.
        for pattern in (r"wait for \d+ s", r'fail, [\d,]+ ms</time> <strong class="mcp-bad">tool error'):
            wait_until(partial(is_shown, pattern), what=pattern)
        at.open()
    assert answers[0].status_code == 200
