"""Processes of the chaos server, and what they leave in Redis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import LazySettings

from tests.support.processes import Process, daphne, drained_by_ours, started, wait_until
from tests.support.redis import RedisInspector, RedisServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Some processes of one endpoint."""

    processes: list[Process]
    redis: RedisInspector

    @property
    def urls(self) -> list[str]:
        return [process.url for process in self.processes]


@contextmanager
def serving(
    directory: Path, redis: RedisServer, count: int, *, draining: bool = False, **environment: str
) -> Iterator[Service]:
    """So many processes, with a namespace of their own. With `draining` under our daphne, which ends gently."""
    values = {
        "REDIS_URL": redis.url,
        "MCP_SERVER": "tests.served.chaos.server",
        "MCP_NAMESPACE": directory.name,
        **environment,
    }
    made = [daphne(chr(ord("A") + n), directory, **values) for n in range(count)]
    processes = [drained_by_ours(process) for process in made] if draining else made
    with started(processes):
        yield Service(processes=processes, redis=RedisInspector(redis, directory.name))


#: `serve(3, MCP_GRACE="0.1")`; see `serving`.
Serve = Callable[..., Service]


def wait_for_heartbeats(service: Service, count: int) -> None:
    """Wait for so many heartbeats, each of which looks after every stream."""
    for _ in range(count):
        last = service.redis.heartbeats()
        wait_until(lambda last=last: service.redis.heartbeats() != last, what="a heartbeat")  # type: ignore[misc]


def join_from_outside(settings: LazySettings, service: Service) -> None:
    """Let the test's own process use the service's Redis, as a task queue or a command would."""
    environment = service.processes[0].environment
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": environment["REDIS_URL"]}
    settings.CACHES = {"default": cache}
    endpoint = {"SERVER": environment["MCP_SERVER"], "NAMESPACE": environment["MCP_NAMESPACE"]}
    settings.MCP_SESSIONS = {"default": endpoint}
