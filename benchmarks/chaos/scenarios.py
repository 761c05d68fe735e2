"""What is done to the processes and their Redis while the clients work."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Final

from benchmarks.chaos.world import World

#: Seconds for which the clients work before and after, at a scale of 1.
CALM: Final = 8.0
#: Seconds between two kills, at any scale: a process needs some of them to start.
KILL_EVERY: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of the table."""

    name: str
    #: For the table.
    title: str
    #: Seconds for which it lasts, at a scale of 1; and seconds that it lasts at least.
    seconds: float
    least: float
    #: Does it, for so many seconds.
    act: Callable[[World, float], None]
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Whether Redis keeps its data over a restart.
    keep: bool = True
    #: By how many seconds the clock of each process is wrong.
    skewed: tuple[int, ...] = ()

    def run(self, world: World, scale: float) -> None:
        calm = max(CALM * scale, 1.0)
        world.wait(calm)
        self.act(world, max(self.seconds * scale, self.least))
        world.wait(calm)


def rolling_restart(world: World, seconds: float) -> None:
    world.replace_all(pause=seconds / len(world.processes))


def kills(world: World, seconds: float) -> None:
    """Whether or not the last one that was killed answers again."""
    for _, process in zip(range(max(round(seconds / KILL_EVERY), 1)), cycle(world.processes), strict=False):
        world.kill(process)
        world.wait(KILL_EVERY)
    for process in world.processes:
        process.wait_until_it_answers()


def redis_restarts(world: World, seconds: float) -> None:
    """Twice, each time for a second or so."""
    for _ in range(2):
        with world.fault():
            world.redis.restart()
            world.wait_until_redis_serves_all()
        world.wait(seconds / 2)


def redis_hangs(world: World, seconds: float) -> None:
    with world.fault():
        world.redis.pause()
        world.wait(seconds)
        world.redis.resume()
        world.wait_until_redis_serves_all()


def redis_is_gone(world: World, seconds: float) -> None:
    with world.fault():
        world.redis.stop()
        world.wait(seconds)
        world.redis.start()
        world.wait_until_redis_serves_all()


def redis_comes_back_empty(world: World, seconds: float) -> None:
    with world.fault():
        world.redis.stop(signal.SIGKILL)
        world.redis.start()
        world.wait_until_redis_serves_all()
        world.wait(seconds)


def cut_off(world: World, seconds: float) -> None:
    with world.fault(world.processes[0]):
        world.cable.cut()
        world.wait(seconds)
        world.cable.mend()
        world.wait_until_redis_serves_all()


def nothing(world: World, seconds: float) -> None:
    world.wait(seconds)


_gone: Final = partial(Scenario, seconds=120, least=5, act=redis_is_gone)
_empty: Final = partial(Scenario, seconds=15, least=2, act=redis_comes_back_empty, keep=False)
SCENARIOS: Final = (
    Scenario(
        name="rolling-restart",
        title="Rolling restart of all processes",
        seconds=30,
        least=1,
        act=rolling_restart,
    ),
    Scenario(
        name="kills",
        title="SIGKILL of a process every 5 s for a minute",
        seconds=60,
        least=5,
        act=kills,
    ),
    Scenario(
        name="redis-restarts",
        title="Redis restarted twice, with its data",
        seconds=20,
        least=2,
        act=redis_restarts,
    ),
    Scenario(name="redis-hangs", title="Redis hung for 20 s", seconds=20, least=4, act=redis_hangs),
    _gone(name="redis-gone-503", title="Redis gone for 2 minutes, `ON_STORE_DOWN` `503`"),
    _gone(
        name="redis-gone-serve",
        title="Redis gone for 2 minutes, `ON_STORE_DOWN` `serve`",
        settings={"MCP_ON_STORE_DOWN": "serve"},
    ),
    _empty(name="redis-empty-404", title="Redis empty after a crash, `ON_MISS` `404`"),
    _empty(
        name="redis-empty-revive",
        title="Redis empty after a crash, `ON_MISS` `revive`",
        settings={"MCP_ON_MISS": "revive"},
    ),
    Scenario(
        name="cut-off", title="One process cut off from Redis for 20 s", seconds=20, least=4, act=cut_off
    ),
    Scenario(
        name="clocks",
        title="Clocks of the processes 30 s apart, for a minute",
        seconds=60,
        least=3,
        act=nothing,
        skewed=(0, 30, -30),
    ),
    Scenario(name="soak", title="Nothing, for 10 minutes", seconds=600, least=4, act=nothing),
)
BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
