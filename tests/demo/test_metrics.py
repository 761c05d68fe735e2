"""The demo's metrics: there where Prometheus has a token, and nowhere else."""

import runpy
from typing import Any

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from tests.support import ROOT

TOKEN = "a-token-of-the-tests"


def urls() -> dict[str, Any]:
    """The views of the demo, by their paths, as a process has them that starts now."""
    patterns = runpy.run_path(str(ROOT / "project" / "urls.py"))["urlpatterns"]
    return {str(each.pattern): each.callback for each in patterns if each.callback is not None}


def test_without_a_token_there_are_none(settings: Settings) -> None:
    settings.METRICS_TOKEN = ""
    assert not [path for path in urls() if path.startswith("metrics")]


@pytest.mark.parametrize("path", ["metrics/cluster", "metrics/process"])
def test_prometheus_gets_them_with_its_token_only(settings: Settings, path: str) -> None:
    settings.METRICS_TOKEN = TOKEN
    view, requests = urls()[path], RequestFactory()
    assert view(requests.get("/")).status_code == 401
    answer = view(requests.get("/", headers={"authorization": f"Bearer {TOKEN}"}))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
