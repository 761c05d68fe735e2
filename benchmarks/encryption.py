"""`python -m benchmarks.encryption`: what ENCRYPTION_KEYS cost: CPU for each text, and bytes in Redis.

For texts of several sizes: the median time to seal and to open one, and its size before and after. A request without
state opens the handshake of its session, which a process remembers; a state value is sealed when it is written and
opened when it is read, and so is a message of a stream. Then a state value is written and read in a Redis, with keys
and without them in turns: how many times as long that takes.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from redis import Redis

from benchmarks.processes import redis_server
from mcp_sessions.conf import Limits
from mcp_sessions.records import Handshake
from mcp_sessions.store.call import Call, Script
from mcp_sessions.store.calls import sessions, state
from mcp_sessions.store.drivers.synchronous import SyncRedisStore
from mcp_sessions.store.keys import Keys
from mcp_sessions.store.sealing import Sealer

SIZES: Final = (100, 1_000, 10_000, 100_000)
ROUNDS: Final = 2_000
LIMITS: Final = Limits(
    idle_ms=600_000, max_age_ms=600_000, first_ms=600_000, max_sessions=None, max_sessions_per_principal=None
)
HOME: Final = "ab" * 32


def microseconds(function: Callable[[], object]) -> float:
    """The median time of a call."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        function()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1_000_000


def written_and_read(size: int, redis: Any) -> float:
    """How many times as long it takes with keys to write a value of a session's state and to read it."""
    keys, value = Keys("encryption", str), json.dumps("x" * (size - 2))
    plain = SyncRedisStore(keys, lambda: redis)
    sealed = SyncRedisStore(keys, lambda: redis, sealer=Sealer(["k" * 32]))
    handshake = Handshake(protocol_version="2025-11-25", client_info={}, capabilities={})
    redis.flushall()
    plain.run(sessions.create(HOME, principal="user:1", handshake=handshake, limits=LIMITS))
    took: dict[SyncRedisStore, list[float]] = {plain: [], sealed: []}
    for _ in range(ROUNDS // 2):
        for store, seconds in took.items():
            begun = time.perf_counter()
            store.run(state.set_values(HOME, {"value": value}, max_bytes=10 * size + 1000))
            store.run(state.get(HOME, ["value"]))
            seconds.append(time.perf_counter() - begun)
    return statistics.median(took[sealed]) / statistics.median(took[plain])


def main() -> None:
    script = Script("state_set", "_record", "_state")
    print("bytes  stored  seal µs  open µs  open again µs")
    for size in SIZES:
        text = b'"' + b"x" * (size - 2) + b'"'
        call = Call(script, HOME, (), (text,), lambda _, reply: reply, secrets=(0,))
        sealer = Sealer(["k" * 32])
        [sealed] = sealer.arguments(call)
        seal = microseconds(lambda call=call, sealer=sealer: sealer.arguments(call))
        token = sealed.partition(b".")[2].rstrip(b'"')
        opens = microseconds(lambda token=token, sealer=sealer: sealer._open(token, HOME))  # noqa: SLF001
        again = microseconds(lambda sealed=sealed, sealer=sealer: sealer.opened(HOME, sealed))
        print(f"{size:>6}  {len(sealed):>6}  {seal:>7.1f}  {opens:>7.1f}  {again:>13.1f}")
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server(Path(folder)) as url,
        Redis.from_url(url) as redis,
    ):
        for size in SIZES:
            print(f"a state value of {size} bytes, written and read: {written_and_read(size, redis):.2f} ×")


if __name__ == "__main__":
    main()
