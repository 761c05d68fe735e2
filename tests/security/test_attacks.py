"""What a stolen id, a foreign session and a curious tool are worth (docs/threat-model.md)."""

import os
from typing import Any

import httpx2

from mcp_sessions.testing import url_of
from tests.security.conftest import opened, ping
from tests.support.mcp_client import RawClient, answer_of


async def test_a_session_cannot_be_forced_upon_somebody(http: httpx2.AsyncClient) -> None:
    """Fixation: Bob opens a session, and has Ann's client use its id."""
    bob = await opened(http, "bob-1")
    assert bob.session_id is not None
    ann = RawClient(token="ann-1", session_id=bob.session_id)
    assert await ping(http, ann) == 404
    again = await opened(http, "ann-1", mcp_session_id=bob.session_id)
    assert again.session_id != bob.session_id
    assert await ping(http, bob) == 200


async def test_a_session_of_one_endpoint_is_unknown_at_another(http: httpx2.AsyncClient) -> None:
    client = await opened(http)
    assert await ping(http, client, "other") == 404
    assert await ping(http, client) == 200


async def test_two_clients_of_one_principal_may_share_a_session(http: httpx2.AsyncClient) -> None:
    client = await opened(http, "ann-1")
    assert await ping(http, RawClient(token="ann-2", session_id=client.session_id)) == 200


async def test_nothing_of_an_ended_session_can_be_replayed(http: httpx2.AsyncClient) -> None:
    client = await opened(http)
    listens = client.headers(accept="text/event-stream")
    async with http.stream("GET", url_of(), headers=listens) as stream:
        first = [event async for event in _first(stream)]
    call = client.request("tools/call", {"name": "keep", "arguments": {"what": "tea"}})
    requests: list[dict[str, Any]] = [
        {"method": "POST", "json": client.initialize_message(), "headers": client.headers()},
        {"method": "POST", "json": call, "headers": client.headers()},
        {"method": "GET", "headers": listens},
        {"method": "GET", "headers": listens | {"last-event-id": first[0]}},
        {"method": "DELETE", "headers": client.headers()},
    ]
    assert (await http.delete(url_of(), headers=client.headers())).status_code == 204
    statuses = [(await http.request(url=url_of(), **request)).status_code for request in requests[1:]]
    assert statuses == [404] * 4
    reopened = await http.request(url=url_of(), **requests[0])
    assert reopened.headers["mcp-session-id"] != client.session_id
    assert await ping(http, client) == 404


async def test_an_event_id_resumes_no_stream_of_another_session(http: httpx2.AsyncClient) -> None:
    one, two = await opened(http), await opened(http)
    async with http.stream("GET", url_of(), headers=one.headers(accept="text/event-stream")) as stream:
        [event_id] = [event async for event in _first(stream)]
        headers = two.headers(accept="text/event-stream", last_event_id=event_id)
        assert (await http.get(url_of(), headers=headers)).status_code == 400


async def test_a_tool_is_told_no_session_id_but_by_the_headers_of_its_request(
    http: httpx2.AsyncClient,
) -> None:
    client = await opened(http)
    call = client.request("tools/call", {"name": "look", "arguments": {}})
    answer = answer_of(await http.post(url_of(), json=call, headers=client.headers()))
    seen = answer["result"]["structuredContent"]
    assert client.session_id is not None
    assert client.session_id not in seen["session"]
    assert client.fingerprint in seen["session"]
    assert seen["headers"]["mcp-session-id"] == client.session_id
    assert seen["headers"]["authorization"] == "Bearer ann-1"
    assert seen["process"] == os.getpid(), "it runs in the process, and can do what the process can"


async def _first(stream: httpx2.Response) -> Any:
    """The id of the first event of a stream."""
    async for line in stream.aiter_lines():
        if line.startswith("id:"):
            yield line.removeprefix("id:").strip()
            return
