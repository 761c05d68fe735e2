"""What deploy/kubernetes offers besides the base: managed Redis, a Cluster, autoscaling, a network policy, a trial."""

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from project.endpoint import READERS
from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    Object,
    built_objects,
    kubernetes_objects,
    variables_read,
)
from tests.docs import markdown
from tests.support import ROOT
from tests.support.processes import ENVIRONMENT

pytestmark = [pytest.mark.needs("kubectl")]

COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())


def secret(objects: dict[str, Object]) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in objects["Secret"]["data"].items()}


def with_components(directory: Path, *names: str) -> dict[str, Object]:
    """The base with these components, as an overlay of a reader has them."""
    shutil.copytree(KUBERNETES, directory / "kubernetes")
    overlay = directory / "kubernetes" / "mine"
    overlay.mkdir()
    components = [f"../components/{name}" for name in names]
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump({"kind": "Kustomization", "resources": ["../base"], "components": components})
    )
    return {each["kind"]: each for each in built_objects(overlay)}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    return with_components(tmp_path_factory.mktemp("overlay"), *COMPONENTS)


def test_kubernetes_accepts_the_components(everything: dict[str, Object]) -> None:
    assert set(everything) == {*kubernetes_objects("base"), "HorizontalPodAutoscaler", "NetworkPolicy"}
    for kind, obj in everything.items():
        if kind != "HTTPRoute":
            kubernetes_validate.validate(obj, "1.34", strict=True)


def test_pods_are_scaled_by_what_they_say_of_themselves(everything: dict[str, Object]) -> None:
    scaler, deployment = everything["HorizontalPodAutoscaler"]["spec"], everything["Deployment"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["minReplicas"] >= 3
    assert "replicas" not in deployment["spec"], "each `kubectl apply` would set it back"
    [pods] = [each["pods"] for each in scaler["metrics"] if each["type"] == "Pods"]
    adapter = yaml.safe_load((KUBERNETES / "components/autoscaling/prometheus-adapter.yaml").read_text())
    [rule] = adapter["rules"]["custom"]
    assert rule["name"]["as"] == pods["metric"]["name"]
    assert rule["seriesQuery"].startswith(pods["metric"]["name"] + "{")


def test_the_metric_is_one_of_each_process() -> None:
    section = markdown.section(markdown.read("metrics.md"), "What a process does")
    named = {row[0].strip("`") for row in markdown.table(section, "Metric")}
    scaler = yaml.safe_load((KUBERNETES / "components/autoscaling/hpa.yaml").read_text())["spec"]
    [metric] = [each["pods"]["metric"]["name"] for each in scaler["metrics"] if each["type"] == "Pods"]
    assert metric in named


def test_prometheus_finds_the_pods_and_is_allowed_to_ask_them(everything: dict[str, Object]) -> None:
    template = everything["Deployment"]["spec"]["template"]
    [container] = template["spec"]["containers"]
    [job] = yaml.safe_load((KUBERNETES / "components/autoscaling/prometheus-scrape.yaml").read_text())
    name, component, port = job["relabel_configs"][0]["regex"].split(";")
    assert template["metadata"]["labels"] == {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": component,
    }
    assert container["ports"][0]["name"] == port
    assert job["metrics_path"] == "/metrics/process"
    assert "METRICS_TOKEN" in everything["Secret"]["data"]
    [address] = container["env"]
    assert address["name"] in variables_read()
    assert address["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_a_pod_answers_to_its_address() -> None:
    asked = [sys.executable, "-c", "from project.settings import ALLOWED_HOSTS; print(ALLOWED_HOSTS)"]
    environment = os.environ | ENVIRONMENT | {"DJANGO_POD_IP": "10.0.0.7"}
    said = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "['127.0.0.1', 'localhost', '10.0.0.7']\n"


def test_the_policy_lets_nobody_in_but_the_gateway_and_prometheus(everything: dict[str, Object]) -> None:
    policy = everything["NetworkPolicy"]["spec"]
    labels = everything["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    [way_in] = policy["ingress"]
    assert way_in["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert all("namespaceSelector" in each for each in way_in["from"])


def ports_out(objects: dict[str, Object]) -> set[int]:
    rules: Iterable[Any] = objects["NetworkPolicy"]["spec"]["egress"]
    return {port["port"] for rule in rules for port in rule["ports"]}


@pytest.mark.parametrize("folder", ["managed-redis", "redis-cluster"])
def test_an_overlay_for_redis_names_placeholders_that_its_policy_lets_out(folder: str) -> None:
    objects = kubernetes_objects(folder)
    urls = secret(objects)["REDIS_URL"].split(",")
    assert all("replace-me.invalid" in url for url in urls)
    ports = {int(url.rpartition(":")[2].partition("/")[0]) for url in urls}
    assert ports | {53, 5432, 443} == ports_out(objects)
    # What the base says besides is still there.
    assert secret(objects).keys() == secret(kubernetes_objects("base")).keys()
    assert set(objects["ConfigMap"]["data"]) - {f"MCP_{key}" for key in READERS} <= variables_read()


def test_managed_redis_is_reached_with_tls() -> None:
    assert secret(kubernetes_objects("managed-redis"))["REDIS_URL"].startswith("rediss://")


def test_a_cluster_has_several_nodes_and_shards() -> None:
    objects = kubernetes_objects("redis-cluster")
    assert len(secret(objects)["REDIS_URL"].split(",")) == 3
    assert int(objects["ConfigMap"]["data"]["MCP_INDEX_SHARDS"]) > 1


# The trial


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """What docs/kubernetes.md has its reader apply."""
    home = tmp_path_factory.mktemp("trial")
    shutil.copytree(KUBERNETES, home / "kubernetes")
    folder = home / "kubernetes" / "trial"
    example = (folder / "secret.example.env").read_text()
    (folder / "secret.env").write_text(example.replace("PASSWORD", "p4ss").replace("p4ss=", "PASSWORD=", 1))
    return built_objects(folder)


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def test_kubernetes_accepts_the_trial(trial: list[Object]) -> None:
    for each in trial:
        kubernetes_validate.validate(each, "1.34", strict=True)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "mcp"


def test_the_trial_has_three_processes_and_the_stores_that_their_urls_name(trial: list[Object]) -> None:
    assert of_kind(trial, "Deployment")["mcp-sessions"]["spec"]["replicas"] == 3
    values = secret(dict.fromkeys(["Secret"], next(iter(of_kind(trial, "Secret").values()))))
    services = of_kind(trial, "Service")
    for variable, name in (("REDIS_URL", "redis"), ("DATABASE_URL", "postgres")):
        port = services[name]["spec"]["ports"][0]["port"]
        assert f":{values['PASSWORD']}@{name}:{port}/" in values[variable]
        store = of_kind(trial, "StatefulSet")[name]["spec"]
        assert services[name]["spec"]["selector"] == store["selector"]["matchLabels"]
        assert store["template"]["metadata"]["labels"] == store["selector"]["matchLabels"]
        assert store["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


def test_the_trials_redis_has_the_options_of_compose(trial: list[Object]) -> None:
    [redis] = of_kind(trial, "StatefulSet")["redis"]["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["redis"]["command"]
    assert redis["args"][:-1] == compose[1:-1]
    assert redis["args"][-1] == "$(PASSWORD)"


def test_the_trials_host_is_the_same_everywhere(trial: list[Object]) -> None:
    [rule] = of_kind(trial, "Ingress")["mcp-sessions"]["spec"]["rules"]
    [config] = of_kind(trial, "ConfigMap").values()
    assert rule["host"] in config["data"]["DJANGO_ALLOWED_HOSTS"].split(",")
    page = markdown.read("kubernetes.md")
    forwarded = f"http://{rule['host']}:8080"
    assert f"{forwarded}/mcp" in page
    assert "8080:80" in page
    assert config["data"]["DJANGO_CSRF_TRUSTED_ORIGINS"].split(",") == [f"http://{rule['host']}", forwarded]


def test_the_overlay_of_the_page_builds(tmp_path: Path) -> None:
    """That of docs/kubernetes.md, at the top of a clone."""
    [block] = markdown.blocks(markdown.read("kubernetes.md"), "yaml")
    (tmp_path / "kustomization.yaml").write_text(block.code)
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    kinds = {each["kind"] for each in built_objects(tmp_path)}
    assert {"HorizontalPodAutoscaler", "NetworkPolicy", "Deployment"} <= kinds


def test_every_folder_that_the_page_applies_is_there() -> None:
    applied = re.findall(
        r"^\$ (?:kubectl apply -k (\S+)|cp (\S+) )", markdown.read("kubernetes.md"), re.MULTILINE
    )
    assert len(applied) == 2
    for path in ("".join(each) for each in applied):
        assert (DEPLOY.parent / path).exists(), path
