"""docs/metrics.md says which spans a tracer provider gets, and with which attributes."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.docs import markdown
from tests.sdk.traced import PARENT
from tests.support import ROOT


@pytest.fixture(scope="module")
def spans() -> list[dict[str, Any]]:
    """Those of some requests: each span of the SDK, and those below it."""
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": path}
    command = [sys.executable, "-m", "tests.sdk.traced"]
    printed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    found: list[dict[str, Any]] = json.loads(printed.stdout.splitlines()[-1])
    return found


def named(spans: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [span for span in spans if span["name"] == name]


def test_each_request_of_both_eras_is_a_span(spans: list[dict[str, Any]]) -> None:
    of_handshake, of_modern = named(spans, "tools/call add")
    assert {span["kind"] for span in (of_handshake, of_modern)} == {"SERVER"}
    assert (
        of_handshake["attributes"]["mcp.protocol.version"] != of_modern["attributes"]["mcp.protocol.version"]
    )
    assert len(named(spans, "no/such/method")) == 1


def test_the_span_of_a_client_is_the_parent_and_those_of_a_tool_are_children(
    spans: list[dict[str, Any]],
) -> None:
    call, _ = named(spans, "tools/call add")
    _, trace, parent, _ = PARENT.split("-")
    assert (call["trace"], call["parent"]) == (trace, int(parent, 16))
    assert call["span"] in [span["parent"] for span in named(spans, "of the tool")]


def test_the_attributes_are_those_that_the_page_names(spans: list[dict[str, Any]]) -> None:
    rows = markdown.table(markdown.section(markdown.read("metrics.md"), "OpenTelemetry"), "Attribute")
    documented = {name.strip("` ") for names, _ in rows for name in names.split(",")}
    found = {name for span in spans for name in span["attributes"]}
    assert documented == found - {"rpc.response.status_code"}
    [failed] = named(spans, "tools/call fail")
    assert (failed["failed"], failed["attributes"]["error.type"]) == (True, "tool_error")
    [unknown] = named(spans, "no/such/method")
    assert (unknown["failed"], unknown["attributes"]["error.type"]) == (True, "-32601")
