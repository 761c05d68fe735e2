"""`python -m benchmarks.encryption`: what ENCRYPTION_KEYS cost: CPU for each text, and bytes in Redis.

For texts of several sizes: the median time to seal and to open one, and its size before and after. A request without
state opens the handshake of its session, which a process remembers; a state value is sealed when it is written and
opened when it is read, and so is a message of a stream.
"""

import statistics
import time
from collections.abc import Callable
from typing import Final

from mcp_sessions.store.call import Call, Script
from mcp_sessions.store.sealing import Sealer

SIZES: Final = (100, 1_000, 10_000, 100_000)
ROUNDS: Final = 2_000
HOME: Final = "ab" * 32


def microseconds(function: Callable[[], object]) -> float:
    """The median time of a call."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        function()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1_000_000


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


if __name__ == "__main__":
    main()
