"""A site below a path prefix, `/app`: endpoint and pages are found, whoever says so and whether the proxy strips it."""

import sys
from collections.abc import Iterator
from typing import Final

import httpx2
import pytest

from tests.support.mcp_client import RawClient
from tests.support.processes import Process, daphne, started

#: Who says what the prefix is -> the paths below which a proxy may ask it.
PROXIED: Final = {
    "daphne --root-path": ("", "/app"),
    "uvicorn --root-path": ("",),  # uvicorn puts the prefix before each path itself
    "FORCE_SCRIPT_NAME": ("", "/app"),
}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    """One process for each of PROXIED, under the name of what says the prefix."""
    made = {name: daphne(name.split()[0], tmp_path_factory.mktemp("site")) for name in PROXIED}
    listen = ("--port", str(made["uvicorn --root-path"].port), "--root-path", "/app")
    made["uvicorn --root-path"].command = (
        sys.executable,
        "-m",
        "uvicorn",
        *listen,
        "project.asgi:application",
    )
    made["daphne --root-path"].command = (*made["daphne --root-path"].command, "--root-path", "/app")
    made["FORCE_SCRIPT_NAME"].environment["DJANGO_SETTINGS_MODULE"] = "tests.served.prefixed"
    with started(list(made.values())):
        yield made


@pytest.mark.parametrize(
    ("told_by", "sent"), [(told_by, sent) for told_by, paths in PROXIED.items() for sent in paths]
)
def test_the_endpoint_and_the_admin_are_found_below_a_prefix(
    sites: dict[str, Process], told_by: str, sent: str
) -> None:
    site = sites[told_by]
    client = RawClient(path=f"{sent}/mcp")

    client.initialize(site.url)
    assert client.value(site.url, "remember", note="likes sea stories") == "Noted. Notes so far: 1."
    assert client.delete(site.url).status_code == 204
    to_login = httpx2.get(f"{site.url}{sent}/admin/")

    assert to_login.headers["location"] == "/app/admin/login/?next=/app/admin/"
    assert httpx2.get(f"{site.url}{sent}/nothing").status_code == 404
