"""The bounds in docs/guarantees.md are those of the code."""

from typing import Final

import pytest

from mcp_sessions import counting, daphne, ending, ids, records, session
from mcp_sessions.authentication import keys, threads
from mcp_sessions.cluster import node
from mcp_sessions.conf import Endpoint
from mcp_sessions.connections import defaults, pipelines
from mcp_sessions.daphne import backpressure
from mcp_sessions.handles import arguments, text
from mcp_sessions.http import endpoint, opening
from mcp_sessions.jobs.table import LEASE
from mcp_sessions.serving import callers, cancellations, heartbeat, outage, reports
from mcp_sessions.store.calls import counts, nodes, reading, requests, subscriptions
from mcp_sessions.streams import orphans, retry, writer
from mcp_sessions.transport import event_stream, jsonrpc
from tests.docs import markdown

ENDPOINT: Final = Endpoint(alias="default", server="shop.mcp.server")


def in_words(seconds: float) -> str:
    """Durations that are defaults."""
    return {3600.0: "an hour", 600.0: "ten minutes", 300.0: "five minutes"}[seconds]


#: What the table must say of a bound, in the words and units of the document.
BOUNDS: Final = {
    "Request body": f"`MAX_BODY`, {ENDPOINT.max_body // 1024**2} MiB",
    "Request body that names no session of its principal": f"{endpoint.LARGE_BODY_BYTES // 1024} KiB",
    "A client's name, as logged": f"{records.SHOWN_CHARS} characters",
    "Cancellations of requests that do not run in the process": (
        "`MAX_REQUESTS_PER_SESSION` of a session, `MAX_REQUESTS` in all, in a minute"
        if cancellations.WINDOW_SECONDS == 60
        else ""
    ),
    "Length of a session id": f"{ids.MOST_CHARS} characters",
    "A client's name and version, as its id says them": f"{ids.NAME_CHARS} and {ids.VERSION_CHARS} characters",
    "JSON nesting": f"{jsonrpc.MAX_DEPTH} levels",
    "A JSON-RPC id": f"{jsonrpc.MAX_ID_CHARS} characters, or 64 bits",
    "What `initialize` stores": f"{opening.MAX_HANDSHAKE_BYTES // 1024} KiB",
    "Open sessions": f"`MAX_SESSIONS`, {ENDPOINT.max_sessions:,}",
    "Open sessions of one principal": f"`MAX_SESSIONS_PER_PRINCIPAL`, {ENDPOINT.max_sessions_per_principal}",
    "State of one session": f"`STATE_MAX_BYTES`, {ENDPOINT.state_max_bytes // 1024} KiB",
    "Handles of an endpoint": f"`MAX_HANDLES`, {ENDPOINT.max_handles:,}",
    "Handles in one call": f"{arguments.MOST_IN_A_CALL}",
    "Length of a handle, as read": f"{text.MAX_CHARS} characters",
    "Length of a conversation's id": f"{session.MAX_CONVERSATION_CHARS} characters",
    "Tools that are counted under their names": (
        f"{counting.MOST_TOOLS}, until nobody has called one for eight days"
        if counts.KEPT_MS == 8 * 86_400_000
        else ""
    ),
    "Length of a tool's name, as counted": f"{counting.NAME_CHARS} characters",
    "Name of the last call, as stored": f"{reading.CALL_LENGTH} characters",
    "Silence on a stream": f"{event_stream.KEEP_ALIVE_SECONDS:g} s",
    "Bytes queued for a slow reader": f"{event_stream.MAX_QUEUED_BYTES // 1024**2} MiB",
    f"Time a handler waits for a slow reader ({event_stream.MAX_QUEUED_BYTES // 2 // 1024**2} MiB queued)": (
        f"{event_stream.CATCH_UP_SECONDS:g} s"
    ),
    "Further bytes buffered in one connection": f"{2 * backpressure.PART_BYTES // 1024} KiB",
    "Time a client has to read what is buffered": f"{backpressure.SEND_SECONDS:g} s (`--send-timeout`)",
    "Bytes of a stream on one connection, under plain daphne": (
        f"{event_stream.MAX_UNPACED_BYTES // 1024**2} MiB"
    ),
    "Age of a connection that carries a stream": f"`STREAM_MAX_AGE`, {in_words(ENDPOINT.stream_max_age)}",
    "Messages that a stream keeps": f"`STREAM_MAX_EVENTS`, {ENDPOINT.stream_max_events:,}",
    "Bytes that a stream keeps": f"`STREAM_MAX_BYTES`, {ENDPOINT.stream_max_bytes // 1024**2} MiB",
    "Ended streams kept for a session": (
        f"{writer.KEPT_STREAMS}, and {writer.KEPT_FULL_STREAMS} × `STREAM_MAX_BYTES`"
    ),
    "Time a stream is kept": f"`STREAM_TTL`, {in_words(ENDPOINT.stream_ttl)} after the last message",
    "Open streams of a process, and requests that may become one": f"`MAX_STREAMS`, {ENDPOINT.max_streams:,}",
    "Listeners of a principal (`subscriptions/listen`) in all processes": (
        f"`MAX_LISTENERS_PER_PRINCIPAL`, {ENDPOINT.max_listeners_per_principal}"
    ),
    "Callers that are listed": f"{callers.MOST_CLIENTS} clients of a principal, a day after the last call",
    "Open GET streams of a session on a process": f"`MAX_STREAMS_PER_SESSION`, {ENDPOINT.max_streams_per_session}",
    "Concurrent requests of a process": f"`MAX_REQUESTS`, {ENDPOINT.max_requests:,}",
    "Requests of one session in a process": f"`MAX_REQUESTS_PER_SESSION`, {ENDPOINT.max_requests_per_session:,}",
    "Last requests that are kept of a record": f"`RECENT_REQUESTS`, {ENDPOINT.recent_requests}",
    "Calls, and streams, that a process reports by name": (
        f"its {reports.MOST_CALLS} oldest, and {reports.MOST_STREAMS}"
    ),
    "Report of a process that gives no sign of life": in_words(nodes.REPORTS_MS / 1000),
    "Length of a subscribed URI that is kept for the admin": f"{subscriptions.URI_CHARS} characters",
    "Resource subscriptions of a session": f"`MAX_SUBSCRIPTIONS`, {ENDPOINT.max_subscriptions}",
    "Unread progress reports on a request to the client": f"the newest {requests.MOST_PROGRESS}",
    "Wait for a client's response": f"`REQUEST_TIMEOUT`, {in_words(ENDPOINT.request_timeout)}",
    "Announcements, cancellations and what operators ask of processes, that Redis keeps": (
        f"{nodes.MOST_BROADCASTS:,}, {in_words(nodes.BROADCASTS_MS / 1000)} after the last"
    ),
    "The same, queued in a process for Redis": f"{node.MAX_UNPOSTED:,}",
    "Store unavailable while a stream is written": f"{retry.GIVE_UP_SECONDS:g} s",
    "Messages of a call that wait for the store then": "`STREAM_MAX_EVENTS` and `STREAM_MAX_BYTES`",
    "Runs of a lost call with `RERUN_LOST_CALLS`": f"{orphans.MAX_RERUNS}",
    "Wait for the database, or for an identity provider, to authenticate a request": (
        f"{threads.SECONDS:g} s" if threads.SECONDS == keys.TIMEOUT_SECONDS else ""
    ),
    "Requests that wait for the database to be authenticated": f"{threads.MOST_WAITING:,}",
    "Keys of an identity provider that does not answer": (
        "are used for an hour" if keys.LONGEST_SECONDS == 3600 else ""
    ),
    "Questions to an identity provider about unknown keys": f"1 in {keys.PAUSE_SECONDS:g} s",
    "Wait for Redis to answer": f"{defaults.SOCKET_TIMEOUT:g} s (`SOCKET_TIMEOUT`)",
    'Ends that a process remembers with `ON_STORE_DOWN = "serve"`': f"{outage.MOST_ENDED:,}, for `MAX_AGE`",
    "Sessions opened, and sessions ended, without the store that a process will write": (
        f"{outage.MOST_UNWRITTEN:,} each"
    ),
    "Wait for a connection to Redis": f"{defaults.CONNECT_TIMEOUT:g} s (`SOCKET_CONNECT_TIMEOUT`)",
    "Calls that wait for Redis": f"{pipelines.MOST_WAITING:,} of each of five kinds",
    "Connections to Redis": f"{defaults.MAX_CONNECTIONS} per process",
    "Drain time when a process stops": f"{daphne.DRAIN_SECONDS:g} s (`--drain-timeout`)",
    "Time that a stopped process takes after the drain": f"{daphne.HARD_END_SECONDS:g} s",
    "Records of a job that end together": f"{ending.BATCH}",
    "Time for which a job whose process died waits for another one": f"{LEASE.seconds} s",
}


def written() -> dict[str, str]:
    return {row[0]: row[1] for row in markdown.table(markdown.read("guarantees.md"), "Bound")}


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bound_is_that_of_the_code(bound: str) -> None:
    assert written()[bound] == BOUNDS[bound]


def test_every_bound_says_what_happens_beyond_it() -> None:
    assert all(row[2] for row in markdown.table(markdown.read("guarantees.md"), "Bound"))


@pytest.mark.parametrize("idle", [3, 12, 39, 40, 60, 600, 3_600, 86_400])
def test_a_session_in_use_outlasts_an_outage_as_long_as_is_said(idle: float) -> None:
    """In the worst case: a heartbeat was about to renew it, and has just failed when the outage is over."""
    text = " ".join(markdown.read("guarantees.md").split())
    assert "nine tenths of `IDLE_TTL` less ten seconds (a quarter of one that is shorter than 40 s)" in text
    pause = min(node.HEARTBEAT_SECONDS, idle / 3)
    due = min(idle * heartbeat.RENEWED_AFTER, heartbeat.LONGEST_IDLE_MS / 1000)
    renewed = due + pause if due >= pause else pause
    assert idle - renewed - pause >= (0.9 * idle - 10 if idle >= 40 else idle / 4)
