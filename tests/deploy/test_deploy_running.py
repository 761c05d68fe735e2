"""deploy/ at work, as far as one machine without containers can: the image's command with the compose file's
environment, three times, behind a real nginx with deploy/nginx.conf, and Redis with the compose file's options.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
import pytest
import redis

from tests.deploy.manifests import compose, dockerfile_instructions, image_command
from tests.deploy.nginx import nginx_for
from tests.support import ROOT
from tests.support.mcp_client import RawClient, connected, messages
from tests.support.processes import Process, free_port, started, wait_until
from tests.support.redis import RedisServer

PASSWORD = "a-password-of-the-tests"
SECRETS = {"DJANGO_SECRET_KEY": "k" * 50, "POSTGRES_PASSWORD": PASSWORD, "REDIS_PASSWORD": PASSWORD}
NAMES = ("app-1", "app-2", "app-3")
#: More requests than nginx has places, so that each process gets several.
ROUNDS = 9

#: One deployment for all tests here, whichever of pytest's processes runs them.
pytestmark = [pytest.mark.needs("nginx")]


class PasswordRedis(RedisServer):
    """A Redis that asks for a password."""

    def client(self, **options: Any) -> "redis.Redis":
        return super().client(password=PASSWORD, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Everything that `docker compose up` would start, but for PostgreSQL: the processes share an SQLite file."""

    redis: RedisServer
    processes: tuple[Process, ...]
    nginx: Process

    @property
    def url(self) -> str:
        return self.nginx.url

    def served(self) -> list[str]:
        """Of each request that nginx has logged, the line."""
        return (self.nginx.log.parent / "access.log").read_text().splitlines()

    def spread(self) -> Counter[str]:
        """How many requests for the endpoint each process got."""
        ports = {f"127.0.0.1:{process.port}": process.name for process in self.processes}
        lines = [line.split() for line in self.served() if '"POST /mcp"' in line]
        return Counter(ports[line[-2]] for line in lines)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("deployment")
    services = compose(SECRETS)["services"]
    with ExitStack() as stack:
        store = PasswordRedis(directory / "redis", *services["redis"]["command"][1:], keep=True)
        stack.callback(store.stop, signal.SIGKILL)
        store.start()
        environment = here(services["app-1"]["environment"], store, directory)
        migrate(services["migrate"]["command"], environment)
        processes = tuple(process(name, environment, directory) for name in NAMES)
        stack.enter_context(started(processes))
        ports = {name: each.port for name, each in zip(NAMES, processes, strict=True)}
        nginx = stack.enter_context(nginx_for(ports, directory))
        yield Deployment(redis=store, processes=processes, nginx=nginx)


def here(environment: dict[str, Any], store: RedisServer, directory: Path) -> dict[str, str]:
    """The containers' environment with this machine's addresses."""
    redis_url = environment["REDIS_URL"].replace("@redis:6379", f"@127.0.0.1:{store.port}")
    assert redis_url != environment["REDIS_URL"]
    database = f"sqlite:///{directory / 'db.sqlite3'}"
    return {**{k: str(v) for k, v in environment.items()}, "REDIS_URL": redis_url, "DATABASE_URL": database}


def migrate(command: list[str], environment: dict[str, str]) -> None:
    assert command[0] == "python"
    subprocess.run(
        [sys.executable, *command[1:]], cwd=ROOT, env=os.environ | environment, check=True, timeout=120
    )


def process(name: str, environment: dict[str, str], directory: Path) -> Process:
    """One container of the image, not started yet."""
    port = free_port()
    here_instead = {"python": sys.executable, "0.0.0.0": "127.0.0.1", "8000": str(port)}
    command = [here_instead.get(word, word) for word in image_command()]
    return Process(
        name=name, command=command, environment=environment, port=port, log=directory / f"{name}.log"
    )


@pytest.fixture
def client(deployment: Deployment) -> RawClient:
    """A client with a session that was made through nginx."""
    return connected(deployment.url)


# Any process serves any session


def test_a_session_made_through_nginx_works_on_all_three_processes(
    deployment: Deployment, client: RawClient
) -> None:
    # nginx logs a request after it was answered, and before it reads the next one of that connection.
    client.http.get(deployment.url + "/healthz")
    before = deployment.spread()
    for number in range(ROUNDS):
        client.value(deployment.url, "remember", note=f"note {number}")
    served = before.total() + ROUNDS
    wait_until(lambda: deployment.spread().total() == served, what="the lines of nginx' log")
    after = deployment.spread()
    assert client.value(deployment.url, "recall") == [f"note {number}" for number in range(ROUNDS)]
    assert {name: after[name] - before[name] for name in NAMES} == dict.fromkeys(NAMES, ROUNDS // 3)


def test_a_session_outlives_every_process_one_after_another(
    deployment: Deployment, client: RawClient
) -> None:
    client.value(deployment.url, "remember", note="before the rollout")
    for each in deployment.processes:
        each.stop()
        for _ in NAMES:
            assert client.value(deployment.url, "recall") == ["before the rollout"]
        each.start()
    for _ in NAMES:
        assert client.value(deployment.url, "recall") == ["before the rollout"]


def test_a_killed_process_is_left_out(deployment: Deployment, client: RawClient) -> None:
    victim = deployment.processes[0]
    victim.kill()
    try:
        for _ in range(ROUNDS):
            client.value(deployment.url, "recall")
    finally:
        victim.start()


def test_a_call_in_flight_ends_well_while_every_process_is_told_to_stop(
    deployment: Deployment, client: RawClient
) -> None:
    request = client.calling("take_inventory", seconds_per_book=0.2)
    try:
        with client.stream(deployment.url, request) as response:
            heard = messages(response)
            assert next(heard)["method"] == "notifications/progress"
            for each in deployment.processes:
                os.kill(each.pid, signal.SIGTERM)
            *_, last = heard
        assert "copies of" in last["result"]["content"][0]["text"]
    finally:
        for each in deployment.processes:
            each.stop()
            each.launch()
        for each in deployment.processes:
            each.wait_until_it_answers()


def test_a_redis_restart_keeps_the_session_and_the_outage_is_a_503(
    deployment: Deployment, client: RawClient
) -> None:
    client.value(deployment.url, "remember", note="before the restart")
    deployment.redis.stop()
    try:
        refused = client.post(deployment.url, client.request("ping"))
    finally:
        deployment.redis.start()
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert client.value(deployment.url, "recall") == ["before the restart"]


def test_redis_evicts_nothing_and_writes_its_log(deployment: Deployment) -> None:
    with deployment.redis.client(decode_responses=True) as store:
        assert store.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert store.config_get("appendonly") == {"appendonly": "yes"}


# What passes nginx


def test_events_pass_nginx_as_they_are_made(deployment: Deployment, client: RawClient) -> None:
    request = client.calling("take_inventory", seconds_per_book=0.1)
    with client.stream(deployment.url, request) as response:
        arrivals = [(monotonic(), message) for message in messages(response)]
    steps = [at for at, message in arrivals if message.get("method") == "notifications/progress"]
    assert len(steps) > 3
    # Had they been kept back, they would have come together.
    assert arrivals[-1][0] - steps[0] > 0.05 * len(steps)


def test_a_large_body_passes_and_a_too_large_one_is_refused(
    deployment: Deployment, client: RawClient
) -> None:
    padding = {"_meta": {"padding": "x" * 3_000_000}}
    assert client.post(deployment.url, client.request("ping", padding)).status_code == 200
    too_large = {"_meta": {"padding": "x" * 5_000_000}}
    assert client.post(deployment.url, client.request("ping", too_large)).status_code == 413


def test_no_log_has_a_credential(deployment: Deployment, client: RawClient) -> None:
    client.value(deployment.url, "recall")
    httpx2.get(deployment.url + "/mcp", params={"token": "a-token-in-a-query"}, timeout=10)
    assert client.session_id
    for log in (*(each.log for each in deployment.processes), deployment.nginx.log):
        assert client.session_id not in log.read_text()
    lines = "\n".join(deployment.served())
    assert client.session_id not in lines
    assert "a-token-in-a-query" not in lines


@pytest.mark.logs_fault("DisallowedHost")
def test_the_probes_answer_by_the_probes_host_name(deployment: Deployment) -> None:
    for each in deployment.processes:
        for path in ("/healthz", "/readyz"):
            assert httpx2.get(each.url + path, headers={"Host": "localhost"}, timeout=10).status_code == 200
            refused = httpx2.get(each.url + path, headers={"Host": "10.0.0.7"}, timeout=10)
            assert refused.status_code == 400


def test_the_images_health_check_tells_a_living_process_from_a_dead_one(deployment: Deployment) -> None:
    _, _, command = dict(dockerfile_instructions())["HEALTHCHECK"].partition(" CMD ")
    port = deployment.processes[0].port
    words = [sys.executable, *json.loads(command)[1:]]
    alive = [word.replace(":8000/", f":{port}/") for word in words]
    dead = [word.replace(":8000/", f":{free_port()}/") for word in words]
    assert subprocess.run(alive, check=False, timeout=30).returncode == 0
    assert subprocess.run(dead, check=False, timeout=30, stderr=subprocess.DEVNULL).returncode != 0
