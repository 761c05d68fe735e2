"""Some thousand hostile requests to a real daphne; `python -m benchmarks.hostile` sends a hundred thousand."""

import os
import random
from pathlib import Path

import pytest

from mcp_sessions.ids import fingerprint
from tests.support import hostile
from tests.support.mcp_client import RawClient
from tests.support.processes import daphnes
from tests.support.redis import RedisServer

pytestmark = pytest.mark.slow

COUNT = 3000
#: Bytes of log for a request, on average.
LOGGED = 400


def test_hostile_requests_do_no_harm(redis_server: RedisServer, tmp_path: Path) -> None:
    """No 5xx, nobody who waits, no traceback (the suite looks for those), no session that nobody was told of."""
    seed = int(os.environ.get("MCP_SESSIONS_SEED", 0)) or random.SystemRandom().randrange(1 << 31)
    environment = {
        "REDIS_URL": redis_server.url,
        "MCP_NAMESPACE": tmp_path.name,
        **hostile.ENVIRONMENT,
    }
    with daphnes(1, tmp_path, **environment) as [process]:
        known = hostile.prepared(process.url, hostile.TOKENS)
        told = {fingerprint(each) for each in known.session_ids}
        before = process.log.stat().st_size
        outcome = hostile.run(process.port, known, count=COUNT, seed=seed)
        assert outcome.bad == [], f"MCP_SESSIONS_SEED={seed}"
        assert outcome.statuses.total() == COUNT
        assert {200, 400, 401, 404} <= outcome.statuses.keys(), "they reach every part"
        told |= {fingerprint(each) for each in outcome.opened}
        with redis_server.client() as redis:
            kept = [key for key in redis.scan_iter(f"*{tmp_path.name}*") if redis.ttl(key) == -1]
            index = redis.zrange(f":1:mcp:v1:{{{tmp_path.name}}}:index:activity", 0, -1)
        assert kept == [], "every key has a TTL"
        assert index, "sessions were opened, and not all of them ended"
        untold = {each.hex() for each in index} - told
        assert len(untold) <= outcome.left, "they were opened by somebody who did not wait for the answer"
        assert process.log.stat().st_size - before < COUNT * LOGGED
        client = RawClient(token="ann-1")
        client.initialize(process.url)
        assert client.value(process.url, "keep", what="tea") == "kept", "the process is well"
