"""Every block of docs/tools.md runs, and does what the page says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from mcp_sessions.ids import fingerprint
from mcp_sessions.state import State, SyncState
from tests.docs import markdown
from tests.support import ROOT
from tests.support.mcp_client import RawClient, connected, messages
from tests.support.processes import ENVIRONMENT, Process, daphne, started
from tests.support.redis import RedisServer


@pytest.fixture(scope="module")
def shop(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A daphne that serves the page's module, with the demo's database."""
    directory = tmp_path_factory.mktemp("documented")
    code = "\n\n".join(block.code for block in markdown.blocks(markdown.read("tools.md"), "python"))
    (directory / "documented_shop.py").write_text(code)
    process = daphne(
        "documented",
        directory,
        REDIS_URL=redis_server.url,
        MCP_SERVER="documented_shop.server",
        MCP_NAMESPACE=directory.name,
        MCP_ON_MISS="revive",
        PYTHONPATH=os.pathsep.join([str(directory), str(ROOT)]),
    )
    migrate(process.environment)
    with started([process]):
        yield process


def migrate(environment: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT | environment, check=True)


@pytest.fixture
def url(shop: Process) -> str:
    return shop.url


@pytest.fixture
def client(url: str) -> RawClient:
    return connected(url)


def text_of(response: dict[str, Any]) -> str:
    return str(response["result"]["content"][0]["text"])


def tools_of(client: RawClient, url: str) -> set[str]:
    response = client.post(url, client.request("tools/list")).json()
    return {tool["name"] for tool in response["result"]["tools"]}


def test_the_basket_fills_and_empties(client: RawClient, url: str) -> None:
    assert client.value(url, "put_into_basket", article="tea") == 1
    assert client.value(url, "put_into_basket", article="milk", amount=2) == 3
    assert client.value(url, "basket") == [{"article": "tea", "amount": 1}, {"article": "milk", "amount": 2}]
    assert client.value(url, "prefer", size="M") == "Size M from now on."
    assert client.value(url, "empty_basket") == ["size"]
    assert client.value(url, "basket") == []


def test_the_basket_is_the_sessions_own(client: RawClient, url: str) -> None:
    client.value(url, "put_into_basket", article="tea")
    other = connected(url)
    assert other.value(url, "basket") == []


def test_a_tool_says_that_the_basket_was_lost(
    client: RawClient, url: str, shop: Process, redis_server: RedisServer
) -> None:
    client.value(url, "put_into_basket", article="tea")
    with redis_server.client() as redis:
        keys = list(
            redis.scan_iter(f":1:mcp:v1:{shop.environment['MCP_NAMESPACE']}:{{{client.fingerprint}}}:*")
        )
        assert redis.delete(*keys) == len(keys) >= 2
    assert client.value(url, "check_out").startswith("Your basket was lost.")
    client.value(url, "put_into_basket", article="tea", amount=2)
    assert client.value(url, "check_out") == "2 articles are ordered."


def test_the_server_knows_who_is_asking(client: RawClient, url: str) -> None:
    response = client.call(url, "whoami")
    assert response["result"]["structuredContent"] == {
        "client": "raw-client 1.0",
        "protocol": "2025-11-25",
        "principal": "anonymous",
        "user": "AnonymousUser",
    }


def test_the_orm_works_in_sync_and_in_async_tools(client: RawClient, url: str) -> None:
    author = "Jane Austen"
    found = client.value(url, "titles", author=author)
    assert found
    assert client.value(url, "count_titles", author=author) == len(found)
    assert len(client.value(url, "longest_title")) >= max(map(len, found))


@pytest.mark.logs_fault("SynchronousOnlyOperation")
def test_what_django_forbids_in_async_code_is_an_error_of_the_tool(
    client: RawClient, url: str, shop: Process
) -> None:
    response = client.call(url, "wrong", author="Jane Austen")
    assert response["result"]["isError"] is True
    assert text_of(response) == "Error executing tool wrong"
    assert "SynchronousOnlyOperation" in shop.log.read_text()


def test_a_transaction_works_in_a_function_of_its_own(client: RawClient, url: str) -> None:
    title = client.value(url, "titles", author="Jane Austen")[0]
    first = client.value(url, "buy", title=title)
    assert first.endswith(" copies left.")
    assert int(client.value(url, "buy", title=title).split()[0]) == int(first.split()[0]) - 1


def test_progress_is_reported_while_the_tool_runs(client: RawClient, url: str) -> None:
    with client.stream(url, client.calling("pack", parcels=2)) as response:
        said = list(messages(response))
    assert [message.get("method") for message in said] == ["notifications/progress"] * 2 + [None]
    assert said[0]["params"]["message"] == "parcel 1"
    assert text_of(said[-1]) == "2 parcels are ready."


def test_a_tool_asks_its_client_and_goes_on_with_the_answer(client: RawClient, url: str) -> None:
    client.value(url, "put_into_basket", article="tea")
    with client.stream(url, client.request("tools/call", {"name": "order", "arguments": {}})) as response:
        heard = messages(response)
        question = next(heard)
        assert question["params"]["message"] == "Where shall we deliver?"
        answer = {"action": "accept", "content": {"street": "Main Street"}}
        client.post(url, {"jsonrpc": "2.0", "id": question["id"], "result": answer})
        assert text_of(next(heard)) == "On its way to Main Street."
    assert client.value(url, "basket") == []


def test_a_client_that_cannot_be_asked_gets_an_error(url: str) -> None:
    client = connected(url, capabilities={})
    assert "error" in client.call(url, "order")


def test_clients_hear_that_something_changed(client: RawClient, url: str) -> None:
    with client.get(url) as listening:
        heard = messages(listening)
        assert client.value(url, "restock") == "The shelves are full."
        assert next(heard)["method"] == "notifications/tools/list_changed"


def test_a_message_from_outside_reaches_the_session(
    client: RawClient, url: str, shop: Process, redis_server: RedisServer
) -> None:
    outside = documented("from mcp_sessions import messages")
    caches = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}}
    entry = {"SERVER": "shop.mcp.server", "NAMESPACE": shop.environment["MCP_NAMESPACE"]}
    client.post(url, client.request("resources/subscribe", {"uri": "shop://shelves"}))
    with (
        override_settings(CACHES=caches, MCP_SESSIONS={"default": entry}),
        client.get(url) as listening,
    ):
        heard = messages(listening)
        assert outside["parcel_arrived"](client.fingerprint)
        assert next(heard)["params"]["data"] == "Your parcel is here."
        outside["shelves_changed"]()
        assert next(heard)["method"] == "notifications/resources/updated"
        assert not outside["parcel_arrived"](fingerprint("no-such-session"))


def documented(first_line: str) -> dict[str, Any]:
    """The names of the block that begins like that."""
    [block] = [
        each
        for each in markdown.blocks(markdown.read("tools.md"), "python")
        if each.code.startswith(first_line)
    ]
    names: dict[str, Any] = {}
    exec(block.code, names)  # noqa: S102 - our own document
    return names


def test_a_tool_error_reaches_the_model(client: RawClient, url: str) -> None:
    response = client.call(url, "reserve", title="No such book")
    assert response["result"]["isError"] is True
    assert text_of(response).endswith("There is no copy of 'No such book'.")
    title = client.value(url, "titles", author="Jane Austen")[0]
    assert client.value(url, "reserve", title=title) == f"{title} is reserved."


def test_an_opt_in_tool_exists_while_the_session_enables_it(client: RawClient, url: str) -> None:
    assert "set_price" not in tools_of(client, url)
    assert "error" in client.call(url, "set_price", title="Emma", price=3)
    assert client.value(url, "open_the_till", pin="1234") == ["set_price"]
    assert "set_price" in tools_of(client, url)
    assert client.value(url, "set_price", title="Emma", price=3) == "Emma costs 3.00 now."
    assert client.value(url, "close_the_till") == []
    assert "set_price" not in tools_of(client, url)


def test_a_tool_for_both_eras_counts_where_there_is_a_session(client: RawClient, url: str) -> None:
    assert client.value(url, "greet", name="Ada") == "Hello Ada, this is greeting number 1."
    assert client.value(url, "greet", name="Ada") == "Hello Ada, this is greeting number 2."


def test_a_tool_for_both_eras_works_without_a_session(url: str) -> None:
    modern = RawClient(version="2026-07-28")
    meta = {
        "io.modelcontextprotocol/protocolVersion": modern.version,
        "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "greet", "arguments": {"name": "Ada"}, "_meta": meta}
    response = modern.post(
        url,
        modern.request("tools/call", params),
        mcp_protocol_version=modern.version,
        mcp_method="tools/call",
        mcp_name="greet",
    )
    assert response.status_code == 200, response.text
    assert "mcp-session-id" not in response.headers
    assert text_of(response.json()) == "Hello Ada!"


@pytest.mark.parametrize("kind", [State, SyncState])
def test_the_table_of_state_has_every_method(kind: type) -> None:
    written = [row[0].strip("`").split("(")[0] for row in markdown.table(markdown.read("tools.md"), "Method")]
    methods = [name for name in vars(kind) if not name.startswith("_")]
    assert sorted(written) == sorted(methods)


def test_the_page_uses_every_method_of_state() -> None:
    code = "".join(block.code for block in markdown.blocks(markdown.read("tools.md"), "python"))
    used = {name for name in ("get", "append", "incr", "delete", "keys") if f"state.{name}(" in code}
    assert used == {"get", "append", "incr", "delete", "keys"}


def test_every_block_of_the_page_is_code_that_runs() -> None:
    assert {block.language for block in markdown.blocks(markdown.read("tools.md"))} == {"python"}
