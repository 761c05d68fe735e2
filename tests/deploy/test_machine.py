"""deploy/systemd and deploy/monitoring: one machine without containers, and what watches the processes of compose."""

import configparser
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_sessions import daphne
from tests.deploy.manifests import DEPLOY, compose, image_command, nginx_conf
from tests.support.programs import path_of

UNIT = DEPLOY / "systemd" / "mcp-sessions@.service"
SECRETS = {"DJANGO_SECRET_KEY": "k", "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r"}


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(UNIT.read_text())
    return parsed


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """With a program, a folder and a user that are here."""
    text = UNIT.read_text()
    for there, here in (
        ("/srv/mcp-sessions/venv/bin/python", "/usr/bin/env"),
        ("WorkingDirectory=/srv/mcp-sessions", "WorkingDirectory=/tmp"),
        ("User=mcp-sessions", "User=root"),
    ):
        assert there in text
        text = text.replace(there, here)
    (tmp_path / UNIT.name).write_text(text)
    target = tmp_path / "mcp-sessions.target"
    target.write_text((DEPLOY / "systemd" / target.name).read_text())
    units = [str(tmp_path / "mcp-sessions@1.service"), str(target)]
    done = subprocess.run(
        [path_of("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_runs_what_the_image_runs_and_gives_it_time_to_drain() -> None:
    service = unit()["Service"]
    command = shlex.split(service["ExecStart"])
    here = {"0.0.0.0": "127.0.0.1", "8000": "800%i"}
    assert command[1:] == [here.get(word, word) for word in image_command()[1:]]
    assert float(service["TimeoutStopSec"]) > daphne.DRAIN_SECONDS + daphne.HARD_END_SECONDS
    assert service["PrivateTmp"] == "yes", "bodies over 100 kB need a temporary directory"


def test_systemd_tries_for_as_long_as_it_takes() -> None:
    """By default it gives up after five attempts in ten seconds, and each takes one or two."""
    assert unit()["Service"]["Restart"] == "always"
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.needs("nginx")
def test_nginx_reaches_the_ports_of_the_units(tmp_path: Path) -> None:
    upstream = (DEPLOY / "systemd" / "nginx-upstream.conf").read_text()
    ports = re.findall(r"server 127\.0\.0\.1:(\d+) max_fails=0;", upstream)
    assert ports == [f"800{number}" for number in range(1, len(ports) + 1)]
    names = [f"app-{number}" for number in (1, 2, 3)]
    text = nginx_conf(tmp_path, listen=18080, processes=dict.fromkeys(names, 18000))
    replaced = re.sub(
        r"upstream processes \{.*?\n    \}\n", upstream.replace("\\", ""), text, flags=re.DOTALL
    )
    assert replaced.count("upstream processes") == 1
    (tmp_path / "nginx.conf").write_text(replaced)
    options = ("-t", "-q", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))
    done = subprocess.run([path_of("nginx"), *options], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("docker-compose")
def test_compose_accepts_the_file_with_prometheus_and_grafana() -> None:
    files = ("-f", str(DEPLOY / "compose.yaml"), "-f", str(DEPLOY / "compose.monitoring.yaml"))
    environment = os.environ | SECRETS | {"GRAFANA_PASSWORD": "g", "METRICS_TOKEN": "t" * 16}
    command = [path_of("docker-compose"), *files, "config"]
    done = subprocess.run(command, check=True, timeout=60, env=environment, capture_output=True, text=True)
    merged = yaml.safe_load(done.stdout)["services"]
    assert {"prometheus", "grafana"} == set(merged) - set(compose(SECRETS)["services"])
    for name in ("app-1", "app-2", "app-3"):
        hosts = merged[name]["environment"]["DJANGO_ALLOWED_HOSTS"].split(",")
        assert name in hosts
        assert {"localhost", "127.0.0.1"} <= set(hosts)
        assert merged[name]["image"] == "mcp-sessions:latest"
        assert merged[name]["environment"]["METRICS_TOKEN"] == "t" * 16
    for service in ("prometheus", "grafana"):
        assert all(_address(port) == "127.0.0.1" for port in merged[service]["ports"])
        for volume in merged[service]["volumes"]:
            source = _source(volume)
            assert source is None or Path(source).exists(), volume


def _address(port: Any) -> str:
    """Where a port is published; releases of compose write it in two ways."""
    return str(port["host_ip"] if isinstance(port, dict) else port.partition(":")[0])


def _source(volume: Any) -> str | None:
    """The file that is mounted; None for a named volume."""
    if isinstance(volume, dict):
        return volume["source"] if volume["type"] == "bind" else None
    source = str(volume.partition(":")[0])
    return source if source.startswith("/") else None


def test_prometheus_asks_each_process_and_grafana_asks_prometheus() -> None:
    jobs = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {job["metrics_path"]: job["static_configs"][0]["targets"] for job in jobs}
    processes = [f"{name}:8000" for name in sorted(compose(SECRETS)["services"]) if name.startswith("app-")]
    assert targets == {"/metrics/cluster": processes[:1], "/metrics/process": processes}
    source = yaml.safe_load((DEPLOY / "monitoring" / "grafana-datasource.yaml").read_text())
    assert [each["url"] for each in source["datasources"]] == ["http://prometheus:9090"]
