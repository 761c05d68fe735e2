"""What the streams of calls leave in Redis."""

from collections.abc import Callable

import pytest

from tests.support.mcp_client import RawClient, answer_of
from tests.support.processes import wait_until
from tests.support.redis import RedisServer


@pytest.fixture
def stream_logs(redis_server: RedisServer, client: RawClient) -> Callable[[], int]:
    """How many logs of exchanges Redis holds for the client's session."""

    def count() -> int:
        with redis_server.client() as redis:
            return len(
                [
                    key
                    for key in redis.scan_iter(f"*{client.fingerprint}*:stream:*")
                    if b"standalone" not in key
                ]
            )

    return count


def test_a_session_keeps_its_logs_until_it_is_over(
    a: str, b: str, client: RawClient, stream_logs: Callable[[], int]
) -> None:
    for _ in range(20):
        with client.stream(a, client.calling("log", level="info", text="x")) as response:
            response.read()
    assert stream_logs() == 20
    assert client.delete(b).status_code == 204
    wait_until(lambda: stream_logs() == 0, what="no log")


def test_an_answer_that_never_streamed_leaves_no_log(
    a: str, client: RawClient, stream_logs: Callable[[], int]
) -> None:
    response = client.post(a, client.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}))
    assert response.headers["content-type"] == "application/json"
    assert stream_logs() == 0
    assert answer_of(response)["result"]["structuredContent"] == {"result": 3}
