"""What END_ON has to end while the store is away: it ends when the store is back, and nobody has to see to it."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import OperationalError

from mcp_sessions.audit.models import FINISHED, RUNNING, AuditEntry, EndingJob
from mcp_sessions.jobs import automatic, driving
from mcp_sessions.serving.runtime import runtime_for, stop_runtimes
from tests.jobs.test_automatic import EVENTS, HAPPENS, alive, owned
from tests.support.redis import RedisServer
from tests.support.sessions import Opened, open_sessions

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def redis(tmp_path: Path, settings: LazySettings) -> Iterator[RedisServer]:
    """A server of this test's own, with its data on disk, and heartbeats that come twice a second."""
    server = RedisServer(tmp_path, keep=True).start()
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": server.url}}
    entry = settings.MCP_SESSIONS["default"]
    settings.MCP_SESSIONS = {"default": {**entry, "END_ON": EVENTS, "STREAM_TTL": 1.5}}
    yield server
    server.stop()


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="first")


@pytest.mark.parametrize("event", EVENTS)
def test_what_happens_while_the_store_is_away_leaves_a_job(event: str, ada: User, redis: RedisServer) -> None:
    session, listener, handle, other = owned(ada)
    redis.stop()
    before = round(time.time() * 1000)
    HAPPENS[event](ada)
    job = EndingJob.objects.get()
    assert (job.state, job.action, job.by, job.expected) == (RUNNING, event, f"{event} of ada", 0)
    assert before <= job.selection["cut_off_ms"]["default"] <= round(time.time() * 1000) + 2_000
    redis.start()
    job = driving.drive(job)
    assert (job.state, job.ended) == (FINISHED, job.expected)
    assert alive(session, listener, handle, other) == [False, False, event != "deletion", True]
    assert AuditEntry.objects.filter(action=event, outcome="ended").count() == job.ended


async def state() -> str | None:
    """That of the only job; None while another thread writes it: SQLite in memory waits for nobody."""
    try:
        return (await EndingJob.objects.aget()).state
    except OperationalError:
        return None


async def test_a_process_that_serves_goes_on_with_it_when_the_store_is_back(
    ada: User, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(automatic, "AT_ONCE", 0.1)
    opened = await sync_to_async(owned, thread_sensitive=False)(ada)
    await runtime_for("default")
    try:
        await asyncio.to_thread(redis.stop)
        await sync_to_async(HAPPENS["deletion"])(ada)
        assert (await EndingJob.objects.aget()).state == RUNNING
        await asyncio.to_thread(redis.start)
        async with asyncio.timeout(20):
            while await state() != FINISHED:
                await asyncio.sleep(0.05)  # as little as another look costs
        assert await asyncio.to_thread(alive, *opened) == [False, False, False, True]
    finally:
        await stop_runtimes()


async def test_a_job_whose_process_died_is_taken_over(
    ada: User, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic, "AT_ONCE", 0)
    monkeypatch.setattr(automatic, "_due", {})
    opened = await sync_to_async(owned, thread_sensitive=False)(ada)
    await sync_to_async(HAPPENS["logout"])(ada)
    assert await EndingJob.objects.filter(state=RUNNING, driver="").acount() == 1
    await automatic.go_on("default")
    assert await asyncio.to_thread(alive, *opened) == [False, False, True, True]


@pytest.mark.usefixtures("redis")
async def test_the_jobs_of_all_endpoints_stand_before_the_first_one_ends_anything(
    ada: User, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That may take five seconds, and the process may die in them."""
    settings.MCP_SESSIONS = {
        "default": settings.MCP_SESSIONS["default"],
        "shop": {**settings.MCP_SESSIONS["default"], "NAMESPACE": "shop-at-once", "PATH": "shop"},
    }
    stood: list[int] = []
    drive = driving.drive

    def watched(job: EndingJob, **more: Any) -> EndingJob:
        stood.append(EndingJob.objects.count())
        return drive(job, **more)

    monkeypatch.setattr(driving, "drive", watched)
    principal = f"user:{ada.pk}"
    for alias in settings.MCP_SESSIONS:
        await sync_to_async(open_sessions, thread_sensitive=False)([Opened(principal=principal)], alias)
    await sync_to_async(HAPPENS["logout"])(ada)
    assert stood == [2, 2]
    assert await EndingJob.objects.filter(state=FINISHED, ended=1).acount() == 2


@pytest.mark.usefixtures("redis")
async def test_a_process_goes_on_only_with_the_jobs_of_its_endpoint(
    ada: User, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may serve the other one, whose store this one need not reach."""
    settings.MCP_SESSIONS = {
        "default": settings.MCP_SESSIONS["default"],
        "shop": {**settings.MCP_SESSIONS["default"], "NAMESPACE": "shop", "PATH": "shop"},
    }
    monkeypatch.setattr(automatic, "AT_ONCE", 0)
    monkeypatch.setattr(automatic, "_due", {})
    opened = await sync_to_async(owned, thread_sensitive=False)(ada)
    await sync_to_async(HAPPENS["logout"])(ada)
    await automatic.go_on("shop")
    assert await asyncio.to_thread(alive, *opened) == [True] * 4
    await automatic.go_on("default")
    assert await asyncio.to_thread(alive, *opened) == [False, False, True, True]
