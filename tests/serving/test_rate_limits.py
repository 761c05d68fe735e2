"""RATE_LIMITS with fifty clients at a time on two processes: exactly as many pass as there are tokens."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.conf import LazySettings

from mcp_sessions.conf import rates
from tests.support.mcp_client import ACCEPT, META, MODERN, RawClient
from tests.support.processes import Process, daphnes, wait_until
from tests.support.redis import RedisServer
from tests.support.totals import limited, totals_of

CLIENTS = 50
#: A day is long: nothing comes back while a test runs. Each test has principals, sessions and addresses of its own.
LIMITS = {
    "requests per principal": "41/d",
    "requests per session": "31/d",
    "requests per address": "61/d",
    "initialize per principal": "7/d",
    "initialize per address": "11/d",
    "handles per principal": "13/d",
    "handles per address": "17/d",
    "streams per principal": "5/d",
    "streams per address": "8/d",
    "tool whoami per principal": "19/d",
    "tool whoami per session": "12/d",
    "tool whoami per address": "23/d",
}
MOST_SESSIONS = 5
MOST_LISTENERS = 3

numbers = itertools.count(1)
#: Whom a request comes from, and from where.
Asker = dict[str, str]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its name is the namespace."""
    return tmp_path_factory.mktemp("limits")


@pytest.fixture(scope="module")
def processes(redis_server: RedisServer, directory: Path) -> Iterator[list[Process]]:
    with daphnes(
        2,
        directory,
        REDIS_URL=redis_server.url,
        MCP_SERVER="tests.served.whoami.server",
        MCP_NAMESPACE=directory.name,
        MCP_AUTHENTICATION="proxy",
        MCP_TRUSTED_PROXIES="127.0.0.1",
        MCP_MAX_SESSIONS_PER_PRINCIPAL=str(MOST_SESSIONS),
        MCP_MAX_LISTENERS_PER_PRINCIPAL=str(MOST_LISTENERS),
        MCP_RATE_LIMITS=", ".join(f"{name}={rate}" for name, rate in LIMITS.items()),
    ) as running:
        yield running


Counted = Callable[[str, int], Any]


@pytest.fixture
def counted(
    processes: list[Process], redis_server: RedisServer, settings: LazySettings, directory: Path
) -> Counted:
    """Waits until both processes have written that a limit refused so many."""
    totals = totals_of(directory.name, redis_server, settings)

    async def wait(limit: str, number: int) -> None:
        def refused() -> bool:
            return limited(totals()).get(limit, 0) == number

        await asyncio.to_thread(wait_until, refused, what=f"{number} refusals by {limit}")

    return wait


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=2 * CLIENTS + 10)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as client:
        yield client


def fresh_address() -> str:
    """One that no request came from before."""
    number = next(numbers)
    return f"172.16.{number >> 8 & 255}.{number & 255}"


def asker(*, name: str = "", address: str = "") -> Asker:
    """Somebody whom no request came from before, unless they are named, at a place of their own unless it is given.

    The client itself has put an address in front of the one that the proxy has added.
    """
    number, where = next(numbers), address or fresh_address()
    return {
        "x-forwarded-user": name or f"user-{number}",
        "x-forwarded-for": f"198.51.100.{number % 250}, {where}",
    }


def modern(method: str, **params: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """A request of the modern era."""
    headers = {"accept": ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": method}
    if "name" in params:
        headers["mcp-name"] = params["name"]
    return headers, RawClient().request(method, {**params, "_meta": META})


def call(tool: str) -> tuple[dict[str, str], dict[str, Any]]:
    return modern("tools/call", name=tool, arguments={})


Send = Callable[[str, int], Any]


async def at_once(processes: Sequence[Process], send: Send, *, each: int = 2) -> Counter[Any]:
    """What so many clients get that send all they have to both processes at the same moment."""
    urls = itertools.cycle([process.url + "/mcp" for process in processes])
    return Counter(await asyncio.gather(*(send(next(urls), n % CLIENTS) for n in range(each * CLIENTS))))


def checked(answer: httpx2.Response) -> int:
    """The status of an answer. A refusal says when to come back, and what the limit is."""
    if answer.status_code == 429:
        assert 1 <= int(answer.headers["retry-after"]) <= 86_400
        assert "limit of" in answer.json()["error"]["message"]
    return answer.status_code


def expected(name: str, *, used: int = 0) -> dict[int, int]:
    """What a hundred requests get of which so many pass as the limit has."""
    [[limit]] = rates.limits_of({name: LIMITS[name]}).values()
    passed = limit.rate.tokens - used
    return {200: passed, 429: 2 * CLIENTS - passed}


@pytest.mark.parametrize(
    ("limit", "same"),
    [
        ("requests per principal", "name"),
        ("requests per address", "address"),
        ("tool whoami per principal", "name"),
        ("tool whoami per address", "address"),
    ],
)
async def test_requests_without_a_session_are_counted_on_all_processes_together(
    processes: list[Process], http: httpx2.AsyncClient, counted: Counted, limit: str, same: str
) -> None:
    shared = {same: f"{limit}" if same == "name" else fresh_address()}
    headers, message = call("whoami") if limit.startswith("tool") else modern("tools/list")

    async def send(url: str, _: int) -> int:
        return checked(await http.post(url, json=message, headers={**headers, **asker(**shared)}))

    assert await at_once(processes, send) == expected(limit)
    if limit != "requests per address":  # which refuses in other tests, too
        await counted(limit, expected(limit)[429])
    bystander = await http.post(processes[0].url + "/mcp", json=message, headers={**headers, **asker()})
    assert bystander.status_code == 200


@pytest.mark.parametrize("limit", ["requests per session", "tool whoami per session"])
async def test_requests_of_a_session_are_counted_in_the_round_trip_that_finds_it(
    processes: list[Process], http: httpx2.AsyncClient, counted: Counted, limit: str
) -> None:
    who, client = asker(), RawClient()
    opened = await http.post(
        processes[0].url + "/mcp", json=client.initialize_message(), headers={**client.headers(), **who}
    )
    client.session_id = opened.headers["mcp-session-id"]
    message = client.request("ping")
    if limit.startswith("tool"):
        message = client.request("tools/call", {"name": "whoami", "arguments": {}})

    async def send(url: str, _: int) -> int:
        return checked(await http.post(url, json=message, headers={**client.headers(), **who}))

    assert await at_once(processes, send) == expected(limit)
    await counted(limit, expected(limit)[429])


@pytest.mark.parametrize(
    ("limit", "same"), [("initialize per principal", "name"), ("initialize per address", "address")]
)
async def test_sessions_are_opened_as_often_as_the_limit_and_the_cap_say(
    processes: list[Process], http: httpx2.AsyncClient, counted: Counted, limit: str, same: str
) -> None:
    shared = {same: limit if same == "name" else fresh_address()}
    client = RawClient()
    message = client.initialize_message()

    async def send(url: str, _: int) -> int:
        return checked(await http.post(url, json=message, headers={**client.headers(), **asker(**shared)}))

    found = await at_once(processes, send)
    wanted = expected(limit)
    if same == "name":
        # So many pass the limit; of these, so many find room.
        wanted = {200: MOST_SESSIONS, 503: wanted[200] - MOST_SESSIONS, 429: wanted[429]}
    assert found == wanted
    await counted(limit, wanted[429])
    if same == "name":
        await counted("MAX_SESSIONS_PER_PRINCIPAL", wanted[503])


@pytest.mark.parametrize(
    ("limit", "same"), [("handles per principal", "name"), ("handles per address", "address")]
)
async def test_handles_are_made_as_often_as_the_limit_says(
    processes: list[Process], http: httpx2.AsyncClient, counted: Counted, limit: str, same: str
) -> None:
    place = fresh_address()
    headers, message = call("make_note")

    async def send(url: str, n: int) -> str:
        who = asker(name=limit) if same == "name" else asker(address=place)
        answer = await http.post(url, json=message, headers={**headers, **who})
        if answer.status_code == 429:
            return "too many requests"
        result = answer.json()["result"]
        if result.get("isError"):
            assert "Too many new note handles. Try again in " in result["content"][0]["text"]
            return "refused"
        return "made"

    found = await at_once(processes, send)
    assert found["made"] == expected(limit)[200]
    most = {"name": 41, "address": 61}[same]
    assert found["refused"] == most - found["made"]
    await counted(limit, found["refused"])
    assert found["too many requests"] == 2 * CLIENTS - most


@pytest.mark.parametrize(
    ("limit", "same"), [("streams per principal", "name"), ("streams per address", "address")]
)
async def test_streams_are_opened_as_often_as_the_limit_and_the_cap_say(
    processes: list[Process], http: httpx2.AsyncClient, counted: Counted, limit: str, same: str
) -> None:
    place = fresh_address()
    headers, message = modern("subscriptions/listen", notifications={"toolsListChanged": True})
    async with AsyncExitStack() as opened:

        async def send(url: str, _: int) -> int:
            who = asker(name=limit) if same == "name" else asker(address=place)
            stream = http.stream("POST", url, json=message, headers={**headers, **who})
            answer = await opened.enter_async_context(stream)
            if answer.status_code != 200:
                await answer.aread()
            return checked(answer)

        found = await at_once(processes, send, each=1)
    passed = rates.limits_of({limit: LIMITS[limit]})["streams"][0].rate.tokens
    wanted = {200: passed, 429: CLIENTS - passed}
    if same == "name":
        wanted = {200: MOST_LISTENERS, 503: passed - MOST_LISTENERS, 429: CLIENTS - passed}
    assert found == wanted
    await counted(limit, wanted[429])
    if same == "name":
        await counted("MAX_LISTENERS_PER_PRINCIPAL", wanted[503])


async def test_invented_session_ids_spend_what_their_sender_has(
    processes: list[Process], http: httpx2.AsyncClient
) -> None:
    place = fresh_address()
    client = RawClient()
    message = client.request("ping")

    async def send(url: str, n: int) -> int:
        invented = {"mcp-session-id": f"1{n:012x}" + "A" * 60, "mcp-protocol-version": client.version}
        return checked(
            await http.post(
                url, json=message, headers={**client.headers(), **invented, **asker(address=place)}
            )
        )

    assert await at_once(processes, send) == {404: 61, 429: 39}
