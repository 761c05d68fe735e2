"""One run: environments, Redis, servers, rounds, memory. A contestant that fails is left out and named."""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from benchmarks.contestants import OURS, SDK_JSON, SDK_SSE, Contestant
from benchmarks.load import LoadError
from benchmarks.mcp_http import open_sessions
from benchmarks.measure import Load, Sample, measure, rounds
from benchmarks.memory import Footprint, footprints
from benchmarks.peers import PeerError, python_for
from benchmarks.processes import Cores, Server, ServerError, redis_server, running

#: The contestants whose idle sessions are measured.
WEIGHED = (OURS, SDK_SSE, SDK_JSON)
#: After so many rounds without a sample a contestant is left out.
MOST_INCIDENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run measures."""

    contestants: Sequence[Contestant]
    connections: Sequence[int]
    sessions: Sequence[int]
    rounds: int
    #: Time for each server, load and round.
    seconds: float
    #: Idle sessions at which memory is read; empty for no memory measurement.
    idle: Sequence[int]
    #: Sessions that are opened, used and ended before memory is read.
    warm_up: int


@dataclass(slots=True, kw_only=True)
class Runner:
    """The state of one run. `say` gets a line of progress at a time."""

    options: Options
    folder: Path
    say: Callable[[str], None]
    cores: Cores = field(default_factory=Cores.pick)
    pythons: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Find or make each contestant's environment."""
        for contestant in self.options.contestants:
            self.say(f"environment of {contestant.name}")
            try:
                self.pythons[contestant.name] = python_for(contestant.peer)
            except PeerError as error:
                self._drop(contestant, error)

    @contextmanager
    def redis(self) -> Iterator[str]:
        """The load and Redis share one core."""
        with pinned(self.cores.load), redis_server(self.folder) as url:
            yield url

    def calls(self, redis_url: str) -> list[Sample]:
        """Requests per second and latency at each number of sessions, each time with fresh servers."""
        samples: list[Sample] = []
        for count in self.options.sessions:
            with ExitStack() as stack:
                servers = [s for s in (self._start(c, stack, redis_url) for c in self._present()) if s]
                samples += self._rounds(servers, count)
        return samples

    def memory(self, redis_url: str) -> list[Footprint]:
        """Idle sessions on one server at a time."""
        found: list[Footprint] = []
        for contestant in self._present():
            if contestant.name not in WEIGHED or not self.options.idle:
                continue
            self.say(f"memory of {contestant.name} at {', '.join(map(str, self.options.idle))} idle sessions")
            with ExitStack() as stack:
                server = self._start(contestant, stack, redis_url)
                found += self._weigh(server, redis_url) if server else []
        return found

    def _rounds(self, servers: Sequence[Server], count: int) -> list[Sample]:
        opened: dict[str, list[str]] = {}
        for server in servers:
            self.say(f"{count} session(s) on {server.contestant.name}")
            try:
                opened[server.contestant.name] = open_sessions(server.target, count)
            except (LoadError, OSError) as error:
                self._drop(server.contestant, error)

        def sample(server: Server, size: int, number: int) -> Sample | None:
            if server.contestant.name in self.missing:
                return None
            load = Load(
                sessions=opened[server.contestant.name],
                connections=size,
                round=number,
                seconds=self.options.seconds,
            )
            return self._measure(server, load)

        return list(rounds(servers, sample, connections=self.options.connections, count=self.options.rounds))

    def _measure(self, server: Server, load: Load) -> Sample | None:
        try:
            sample = measure(server, load)
        except (LoadError, OSError) as error:
            self._note(server.contestant, load, error)
            return None
        self.say(
            f"round {sample.round + 1} {sample.sessions:>5} session(s) {sample.connections:>3} connection(s) "
            f"{sample.contestant:18} {sample.requests_per_second:7,.0f}/s  p99 {sample.p99_ms:7.1f} ms  "
            f"CPU {sample.cpu_us:6,.0f} µs  busy {sample.server_busy:.0%}, load {sample.load_busy:.0%}"
        )
        return sample

    def _note(self, contestant: Contestant, load: Load, error: Exception) -> None:
        """A round without a sample; at the third, the contestant is left out."""
        where = f"round {load.round + 1}, {len(load.sessions)} session(s), {load.connections} connection(s)"
        self.incidents.append(f"{contestant.name}, {where}: {str(error)[:80]}")
        self.say(f"NO SAMPLE {self.incidents[-1]}")
        if sum(each.startswith(contestant.name + ",") for each in self.incidents) >= MOST_INCIDENTS:
            self.missing[contestant.name] = (
                f"from round {load.round + 1} on, after {MOST_INCIDENTS} without a sample"
            )

    def _weigh(self, server: Server, redis_url: str) -> list[Footprint]:
        try:
            return footprints(server, self.options.idle, redis_url, warm_up=self.options.warm_up)
        except (LoadError, OSError) as error:
            self._drop(server.contestant, error)
            return []

    def _start(self, contestant: Contestant, stack: ExitStack, redis_url: str) -> Server | None:
        database = self.options.contestants.index(contestant)
        python = self.pythons[contestant.name]
        process = running(
            contestant, python, redis_url=f"{redis_url}/{database}", core=self.cores.server, logs=self.folder
        )
        try:
            return stack.enter_context(process)
        except ServerError as error:
            self._drop(contestant, error)
            return None

    def _present(self) -> list[Contestant]:
        return [c for c in self.options.contestants if c.name not in self.missing]

    def _drop(self, contestant: Contestant, error: Exception) -> None:
        self.missing[contestant.name] = f"{type(error).__name__}: {str(error)[:200]}"
        self.say(f"LEFT OUT {contestant.name}: {self.missing[contestant.name]}")


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process on one core, and the children that it starts meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment(cores: Cores, redis_url: str) -> dict[str, str]:
    """What the numbers depend on besides the versions of packages."""
    with redis.Redis.from_url(redis_url, socket_timeout=10) as client:
        info = client.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version", info["redis_version"])
    return {
        "Python": platform.python_version(),
        name: str(version),
        "on": f"{platform.system()} {platform.machine()}",
        "server pinned to core": str(cores.server),
        "Redis and load to core": str(cores.load),
    }
