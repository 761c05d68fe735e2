"""Pictures of every page, wide and narrow, light and dark, for a person to look at.

`MCP_SESSIONS_SCREENSHOTS=<folder>` keeps them. What a program can see of them is asserted.
"""

import json
import time
from collections.abc import Iterator

import pytest

from mcp_sessions import __version__
from mcp_sessions.store.calls import nodes, recent, subscriptions
from mcp_sessions.store.factory import sync_store_for
from tests.browser.pages import NARROW, VERY_WIDE, WIDE, Admin
from tests.browser.test_overview import fill
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

CLIENTS = (
    ("claude-code", "2.1.14", "2025-11-25"),
    ("cursor-vscode", "1.0.0", "2025-06-18"),
    ("mcp-inspector", "0.17.2", "2025-11-25"),
    ("n8n", "1.118.1", "2025-03-26"),
    (
        "librechat-mcp-client-with-a-rather-long-name-that-somebody-chose",
        "0.8.0-rc.3+build.20261101",
        "2025-06-18",
    ),
    ("<script>alert('x')</script>", "<b>1</b>", "2025-11-25"),
    ("", "", "2025-11-25"),
)
OWNERS = (
    "anonymous",
    "user:1",
    'oauth:["https://login.example.com","auth0|65f2c0de99"]',
    'oauth-client:[null,"nightly-report"]',
    "user:4711",
)
CAPABILITIES = {
    "roots": {"listChanged": True},
    "sampling": {"tools": {}},
    "elicitation": {"form": {}, "url": {}},
}
STATE = {
    "facts": ["I like sea stories", "The cat is called <i>Mia</i>", 3],
    "basket": {"items": [{"isbn": "978-0-14-044913-6", "count": 2}], "total": 31.9},
    "draft": "Call me Ishmael. Some years ago, never mind how long precisely, " * 20,
}


def varied(number: int) -> Opened:
    client, version, protocol = CLIENTS[number % len(CLIENTS)]
    return Opened(
        client=client,
        client_version=version,
        protocol=protocol,
        principal=OWNERS[number % len(OWNERS)],
        capabilities=CAPABILITIES,
        calls=("tools/list", "tools/call:search_books") * (1 + number % 4),
        state=STATE if number == 0 else {},
        tools=("archive", "export") if number == 0 else (),
        log_level="warning" if number == 0 else None,
        minutes_ago=[0, 0.2, 1, 4, 17, 55][number % 6],
    )


@pytest.fixture
def sessions(admin: Admin) -> list[Opened]:
    return open_sessions([varied(number) for number in range(25)])


@pytest.fixture(params=["light", "dark"])
def look(request: pytest.FixtureRequest, admin: Admin) -> Iterator[str]:
    admin.theme(request.param)
    yield request.param
    admin.theme("light")
    admin.size(WIDE)


def picture(admin: Admin, name: str, path: str | None = None) -> None:
    if path is not None:
        admin.open(path)
    admin.picture(name)
    assert "Server Error" not in admin.text
    assert admin.complaints() == []


def test_a_busy_service(admin: Admin, sessions: list[Opened], look: str) -> None:
    first, second = sessions[0].fingerprint, sessions[1].fingerprint
    picture(admin, f"list-{look}", "")
    admin.size(VERY_WIDE)
    picture(admin, f"list-very-wide-{look}", "")
    admin.size(WIDE)
    picture(admin, f"filtered-{look}", "?protocol=2025-06-18&activity=1h")
    picture(admin, f"nothing-found-{look}", "?q=nobody")
    picture(admin, f"detail-{look}", f"{first}/change/")
    admin.size(NARROW)
    picture(admin, f"list-narrow-{look}", "")
    picture(admin, f"detail-narrow-{look}", f"{first}/change/")
    admin.size(WIDE)
    admin.open()
    admin.tick(first, second, *(session.fingerprint for session in sessions[2:8]))
    admin.force_expire_selected()
    picture(admin, f"confirmation-{look}")
    admin.confirm()
    picture(admin, f"after-{look}")
    picture(admin, f"history-{look}", f"{first}/history/")


def test_the_picture_in_the_readme(admin: Admin) -> None:
    """Kept as docs/images/sessions-in-the-admin.png."""
    presentable = [
        Opened(client="claude-code", client_version="2.1.14", principal="user:1", minutes_ago=55),
        Opened(client="mcp-inspector", client_version="0.17.2", minutes_ago=17),
        Opened(
            client="n8n", client_version="1.118.1", protocol="2025-03-26", principal=OWNERS[3], minutes_ago=4
        ),
        Opened(client="cursor-vscode", client_version="1.0.0", protocol="2025-06-18", principal=OWNERS[2]),
        Opened(
            kind="handle",
            label="basket",
            name="basket-483-920-117",
            client="claude-code",
            client_version="2.1.14",
            protocol="2026-07-28",
            principal="user:1",
        ),
        Opened(client="claude-code", client_version="2.1.14", principal="user:1", calls=("tools/list",) * 12),
    ]
    open_sessions(presentable)
    picture(admin, "sessions-in-the-admin", "")
    assert admin.overflow(".results") <= 0


def test_the_pictures_of_operations(admin: Admin) -> None:
    """Kept as docs/images/*-in-the-admin.png."""
    fill(
        ("search_books", "remember", "import_books", "recall"),
        limited={"requests per principal": 34},
        small=True,
    )
    busy, other, quiet = open_sessions(
        [
            Opened(
                client="claude-code",
                client_version="2.1.14",
                principal="user:1",
                capabilities=CAPABILITIES,
                state={"facts": ["I like sea stories"], "basket": {"items": 2, "total": 31.9}},
                tools=("archive",),
                log_level="warning",
            ),
            Opened(
                client="cursor-vscode", client_version="1.0.0", protocol="2025-06-18", principal=OWNERS[2]
            ),
            Opened(client="claude-code", client_version="2.1.14", principal="user:1", minutes_ago=17),
        ]
    )
    store, now_ms = sync_store_for("default"), round(time.time() * 1000)
    for uri in ("book://9780140449136", "catalogue://new"):
        store.run(subscriptions.subscribe(busy.fingerprint, uri, max_subscriptions=9))
    outcomes = ("ok", "ok", "tool error", "ok")
    past = [
        recent.Past(
            now_ms - 9_000 * (number + 1), 12 + 31 * number, outcome, "5f0c9a1b", f"tools/call:{tool}"
        )
        for number, (outcome, tool) in enumerate(
            zip(outcomes, ("remember", "search_books", "import_books", "recall"), strict=True)
        )
    ]
    store.run(recent.note(busy.fingerprint, past[::-1], failed=1, most=50))
    for number, (node, session) in enumerate((("5f0c9a1b2d3e4f50", busy), ("a7c20e91b4d6f803", other))):
        asked = (("import_books", 48 - 20 * number), ("recall", 2))
        calls = [_running(each, session, tool, now_ms - 1000 * ago) for each, (tool, ago) in enumerate(asked)]
        about = {
            "host": f"web-{number + 1}",
            "pid": 41 + number,
            "process": node,
            "version": __version__,
            "started": now_ms - 9_000_000,
            "calls": len(calls),
            "streams": 1,
            "running": calls,
            "open": [[session.fingerprint, "standalone"]],
        }
        store.run(nodes.beat(node, about=json.dumps(about), forget_after_ms=600_000))
        store.run(nodes.report(node, told=json.dumps(about)))
    for name, path in (
        ("overview", "overview/"),
        ("now", "now/"),
        ("session", f"{busy.fingerprint}/change/"),
    ):
        picture(admin, f"{name}-in-the-admin", path)
        assert admin.overflow("html") <= 0
    assert "book://9780140449136" in admin.text
    assert quiet.fingerprint[:12] in admin.text


def _running(number: int, session: Opened, tool: str, began_ms: int) -> list[object]:
    """A call as a node reports it."""
    who = (session.principal, session.client, session.client_version)
    return [number, "session", session.fingerprint, f"tools/call:{tool}", *who, began_ms]


HOSTILE = "<script>alert('x')</script>" * 3
OF_EACH_KIND = (
    Opened(client="claude-code", client_version="2.1.14", principal="user:1", minutes_ago=3),
    Opened(
        kind="handle",
        label="basket",
        name="basket-483-920-117",
        client="cursor-vscode",
        protocol="2026-07-28",
        principal="user:1",
        state=STATE,
    ),
    Opened(kind="handle", label="trip", client="claude.ai", protocol="2026-07-28", state=STATE),
    Opened(
        kind="handle",
        label="l" * 100,
        name=HOSTILE,
        client=HOSTILE,
        client_version=HOSTILE,
        protocol="2026-07-28" * 3,
        principal=f'oauth:["https://login.example.com/{"i" * 80}","{"s" * 90}"]',
        state={HOSTILE: HOSTILE},
    ),
    Opened(kind="user", client="ChatGPT", protocol="2026-07-28", principal="user:1", state=STATE),
    Opened(
        kind="conversation",
        label="vscode.conversationId",
        name="8c6e2a",
        client="vscode",
        protocol="2026-07-28",
        principal=OWNERS[2],
        state=STATE,
    ),
    Opened(kind="caller", client="nightly-report", protocol="2026-07-28", principal=OWNERS[3]),
    Opened(kind="listener", client="mcp-inspector", protocol="2026-07-28", principal="user:1"),
)


def test_every_kind_of_record(admin: Admin, look: str) -> None:
    records = open_sessions(OF_EACH_KIND)
    for size, name in (((1400, 900), "wide"), (NARROW, "narrow")):
        admin.size(size)
        picture(admin, f"kinds-{name}-{look}", "")
        assert len(admin.rows()) == len(records)
        assert name == "narrow" or admin.overflow(".results") <= 0
        for number, record in enumerate(records):
            picture(admin, f"kind-{number}-{record.kind}-{name}-{look}", f"{record.fingerprint}/change/")
            assert admin.overflow("html") <= 0, record.kind
    admin.size(WIDE)
    picture(admin, f"kinds-handles-{look}", "?kind=handle")
    admin.open()
    admin.tick(*(record.fingerprint for record in records))
    admin.force_expire_selected()
    picture(admin, f"kinds-confirmation-{look}")
    admin.confirm()
    picture(admin, f"kinds-after-{look}")
    picture(admin, f"kinds-history-{look}", f"{records[1].fingerprint}/history/")


def test_no_session_at_all(admin: Admin, look: str) -> None:
    picture(admin, f"empty-{look}", "")


def test_a_store_that_is_down(admin: Admin, look: str, redis: RedisServer) -> None:
    redis.stop()
    try:
        admin.open()
        admin.picture(f"store-down-{look}")
    finally:
        redis.start()
    assert "Nothing is lost" in admin.text
    assert [entry["source"] for entry in admin.complaints()] == ["network"], "the 503 itself"
