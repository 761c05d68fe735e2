"""The Cluster of `make cluster`: three primaries without replicas. One that was killed comes back with its data."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import redis

from project.cluster.parts import Part
from project.run import CannotStart
from project.valkey import HOST, START_SECONDS, answers, command, free_port, url_of

PRIMARIES: Final = 3
SLOTS: Final = 16384


def make_nodes(folder: Path) -> list[Part]:
    """The nodes, not started yet; each keeps its data in a folder of its own. Raises: project.valkey.NoServer."""
    return [_node(folder / f"valkey-{n}") for n in range(1, PRIMARIES + 1)]


def _node(folder: Path) -> Part:
    folder.mkdir()
    port = free_port()
    options = {
        "cluster_enabled": "yes",
        "cluster_port": str(free_port()),
        "cluster_node_timeout": "2000",
        "cluster_require_full_coverage": "no",  # one that is away does not make the others refuse
    }
    return Part(
        name=folder.name,
        what="a primary of the Cluster",
        port=port,
        command=command(folder, port, **options),
        log=folder / "output",
    )


def urls_of(nodes: Sequence[Part]) -> str:
    """As REDIS_URL takes them."""
    return ",".join(url_of(node.port) for node in nodes)


def join(nodes: Sequence[Part], stop: threading.Event) -> None:
    """Divide the slots among nodes that were started, and wait until all of them serve, or `stop` is set.

    Raises: CannotStart.
    """
    _wait_until(lambda: all(answers(url_of(node.port)) for node in nodes), stop, "The Valkeys do not answer.")
    if stop.is_set():
        return
    bounds = [SLOTS * n // len(nodes) for n in range(len(nodes) + 1)]
    for n, node in enumerate(nodes):
        _ask(node, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        _ask(node, "CLUSTER", "ADDSLOTSRANGE", bounds[n], bounds[n + 1] - 1)
        _ask(node, "CLUSTER", "MEET", HOST, nodes[0].port, _bus_of(nodes[0]))
    _wait_until(lambda: all(map(_serves, nodes)), stop, "The Valkeys do not become a Cluster.")


def _bus_of(node: Part) -> str:
    return node.command[node.command.index("--cluster-port") + 1]


def _serves(node: Part) -> bool:
    about = _ask(node, "CLUSTER", "INFO")
    return b"cluster_state:ok" in about and b"cluster_known_nodes:%d" % PRIMARIES in about


def _ask(node: Part, *words: object) -> bytes:
    with redis.Redis(host=HOST, port=node.port, socket_timeout=5) as client:
        return bytes(client.execute_command(*words))


def _wait_until(condition: Callable[[], bool], stop: threading.Event, problem: str) -> None:
    deadline = monotonic() + START_SECONDS
    while not stop.is_set() and not condition():
        if monotonic() > deadline:
            raise CannotStart(problem)
        stop.wait(0.1)
