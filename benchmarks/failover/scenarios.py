"""What is done to the primary while clients work."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from benchmarks.failover.topologies import BOUND, Cluster, Topology, cluster, sentinels
from tests.support.processes import wait_until

#: Seconds for which a server hangs, or is down after it was replaced.
HUNG: Final = 12.0
DOWN: Final = 1.0

#: Lets the clients work for so many seconds.
Wait = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of the table."""

    name: str
    #: For the table.
    title: str
    topology: Callable[[], AbstractContextManager[Topology]]
    #: Does it. When it was over, by the monotonic clock: another primary, or the same one again, serves the keys.
    act: Callable[[Topology, Wait], float]


def killed(topology: Topology, wait: Callable[[float], None]) -> float:
    """Kill the primary; a replica takes over. When it had, by the monotonic clock."""
    server = topology.primary()
    server.stop(signal.SIGKILL)
    wait_until(lambda: topology.replaced(server), seconds=BOUND, what="a failover")
    over = monotonic()
    wait(DOWN)
    server.start()
    return over


def hung(topology: Topology, wait: Callable[[float], None]) -> float:
    """The primary hangs, and is back when a replica has taken over."""
    server = topology.primary()
    server.pause()
    begun = monotonic()
    try:
        wait_until(lambda: topology.replaced(server), seconds=BOUND, what="a failover")
        over = monotonic()
        wait(begun + HUNG - over)
    finally:
        server.resume()
    return over


def planned(topology: Topology, wait: Callable[[float], None]) -> float:
    topology.fail_over()
    return monotonic()


def moved(topology: Topology, wait: Callable[[float], None]) -> float:
    """Every session of one primary moves to another one."""
    if isinstance(topology, Cluster):
        topology.move_sessions()
    return monotonic()


def emptied(topology: Topology, wait: Callable[[float], None]) -> float:
    """The primary crashes and is back without data, before anybody has replaced it; its replica follows it."""
    server = topology.primary()
    server.stop(signal.SIGKILL)
    server.start()
    return monotonic()


SCENARIOS: Final = (
    Scenario(name="sentinel-killed", title="Sentinel: primary killed", topology=sentinels, act=killed),
    Scenario(name="sentinel-hung", title="Sentinel: primary hung for 12 s", topology=sentinels, act=hung),
    Scenario(name="sentinel-planned", title="Sentinel: planned failover", topology=sentinels, act=planned),
    Scenario(name="sentinel-empty", title="Sentinel: primary back, empty", topology=sentinels, act=emptied),
    Scenario(name="cluster-killed", title="Cluster: a primary killed", topology=cluster, act=killed),
    Scenario(name="cluster-hung", title="Cluster: a primary hung for 12 s", topology=cluster, act=hung),
    Scenario(name="cluster-planned", title="Cluster: manual failover", topology=cluster, act=planned),
    Scenario(
        name="cluster-moved", title="Cluster: all slots of a primary moved", topology=cluster, act=moved
    ),
    Scenario(name="cluster-empty", title="Cluster: a primary back, empty", topology=cluster, act=emptied),
)
BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
