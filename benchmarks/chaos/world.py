"""Three processes and their Redis, and what can be done to them."""

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks.chaos.memory import Memory
from benchmarks.chaos.outcomes import Fault
from tests.support.processes import Process, daphne, drained_by_ours, started, wait_until
from tests.support.programs import path_of
from tests.support.proxies import Cable
from tests.support.redis import RedisServer, run_server

PROCESSES: Final = 3
#: Seconds after which what a fault has done may still show: connections are made anew, and nodes that were taken for
#: dead are told.
AFTERMATH: Final = 3.0


@dataclass(kw_only=True)
class World:
    """What a scenario acts on."""

    processes: list[Process]
    redis: RedisServer
    #: Between the first process and Redis.
    cable: Cable
    memory: Memory
    faults: list[Fault] = field(default_factory=list)
    _never: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> None:
        """Let the clients work, and look at the memory meanwhile."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            self._never.wait(min(left, 1.0))
            self.memory.look()

    def replace_all(self, pause: float) -> None:
        """A rolling restart: one process after the other is told to stop, and started again."""
        for process in self.processes:
            process.restart()
            self.wait(pause)

    def kill(self, process: Process) -> None:
        """SIGKILL, and start again at once."""
        begun = monotonic()
        process.kill()
        self.faults.append(Fault(begun=begun, ended=monotonic(), process=process.name))
        process.launch()

    @contextmanager
    def fault(self, process: Process | None = None) -> Iterator[None]:
        """The block and what follows at once is a fault of a process, or of all."""
        begun = monotonic()
        try:
            yield
        finally:
            name = None if process is None else process.name
            self.faults.append(Fault(begun=begun, ended=monotonic() + AFTERMATH, process=name))

    def stop_redis(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.redis.stop(how)

    def wait_until_redis_serves_all(self) -> None:
        """Until every process says that it is ready."""
        wait_until(lambda: all(map(is_ready, self.processes)), seconds=60, what="the processes to be ready")


def is_ready(process: Process) -> bool:
    """Whether it is, and has its store; one that goes on without it calls itself degraded."""
    return (process.get("/readyz") or "").startswith("ready")


@contextmanager
def world(
    directory: Path, *, keep: bool, settings: Mapping[str, str], skewed: Sequence[int] = ()
) -> Iterator[World]:
    """Processes with these settings on a Redis of their own, which keeps its data over a restart or does not.

    `skewed`: by how many seconds the clock of each process is wrong. Raises: LookupError without libfaketime.
    """
    with ExitStack() as stack:
        server = stack.enter_context(run_server(keep=keep))
        cable = stack.enter_context(Cable(server.port))
        processes = []
        for n, name in enumerate("ABC"[:PROCESSES]):
            port = cable.port if n == 0 else server.port
            values = {
                "REDIS_URL": f"redis://127.0.0.1:{port}/0",
                "MCP_SERVER": "tests.served.chaos.server",
                "MCP_NAMESPACE": "chaos",
                **settings,
            }
            process = drained_by_ours(daphne(name, directory, **values))
            processes.append(with_clock(process, skewed[n]) if skewed else process)
        # Those with a clock of their own are no forks, and take some seconds of CPU each.
        for together in [[each] for each in processes] if skewed else [processes]:
            stack.enter_context(started(together))
        yield World(processes=processes, redis=server, cable=cable, memory=Memory(processes, server))


def with_clock(process: Process, seconds: int) -> Process:
    """Its wall clock is wrong by so many seconds; what counts durations is not."""
    clock = {
        "LD_PRELOAD": path_of("libfaketime"),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return replace(process, environment={**process.environment, **clock}, forked=False)
