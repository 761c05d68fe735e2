"""Pages of docs/authentication.md about a whole site: one is made as the page says, and a client logs its user in."""

import sys
from pathlib import Path
from typing import Final

import pytest

from tests.docs import markdown
from tests.oauth.conftest import Site, prepare
from tests.oauth.person import Person
from tests.oauth.test_python_client import Program
from tests.support import ROOT
from tests.support.processes import ENVIRONMENT, HOST, Process, free_port, started

pytestmark = pytest.mark.slow

TEXT: Final = markdown.read("authentication.md")
#: What a project has before it follows a page.
SETTINGS: Final = """
from project.settings import *
ROOT_URLCONF = "mysite.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""
URLS: Final = """
from django.contrib import admin
from django.urls import path
from mcp_sessions.health import healthz
urlpatterns = [path("admin/", admin.site.urls), path("healthz", healthz)]
"""
ASGI: Final = """
from django.core.asgi import get_asgi_application
application = get_asgi_application()
from mcp_sessions.routing import with_mcp
application = with_mcp(application)
"""


def site_of(heading: str, directory: Path) -> Process:
    """A project that follows the page, at an address of its own instead of shop.example.com; it is not started."""
    port = free_port()
    blocks = markdown.blocks(markdown.section(TEXT, heading), "python")
    code = {
        block.title: block.code.replace("https://shop.example.com", f"http://{HOST}:{port}")
        for block in blocks
    }
    assert set(code) == {"settings.py", "urls.py"}
    [server] = [block.code for block in markdown.blocks(TEXT, "python") if block.title == "shop/mcp.py"]
    files = {
        "mysite/__init__.py": "",
        "mysite/settings.py": SETTINGS + code["settings.py"],
        "mysite/urls.py": URLS + code["urls.py"],
        "mysite/asgi.py": ASGI,
        "shop/__init__.py": "",
        "shop/mcp.py": server,
    }
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return Process(
        name="mysite",
        command=(sys.executable, "-m", "daphne", "-b", HOST, "-p", str(port), "mysite.asgi:application"),
        environment={
            **ENVIRONMENT,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
            "PYTHONPATH": f"{directory}:{ROOT}",
        },
        port=port,
        log=directory / "mysite.log",
        forked=True,
    )


@pytest.mark.parametrize(
    ("heading", "login_page"),
    [("OAuth", "/admin/login/"), ("django-allauth beside it", "/accounts/login/")],
)
async def test_a_page_does_what_it_says(heading: str, login_page: str, ann: Person, tmp_path: Path) -> None:
    process = site_of(heading, tmp_path)
    prepare(process)
    with started([process]):
        program = Program(Site(a=process, b=process, database=tmp_path / "db.sqlite3"), ann)
        async with program.connected("2026-07-28") as client:
            result = await client.call_tool("whoami", {})
        assert str(result.content).count("ann, user:") == 1
        assert "Use the shop in your name" in ann.asked[0]
        assert login_page in ann.logged_in_at
