"""The demo behind its switch, MCP_AUTHENTICATION=oauth-toolkit, on two processes; and Ann, who has an account there."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.oauth.person import Person
from tests.support import ROOT
from tests.support.processes import ENVIRONMENT, Process, daphne, started
from tests.support.redis import RedisServer

PREPARE: Final = """
import django; django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
for name in ("ann", "bob"):
    User.objects.create_superuser(name, password=name + "'s password")
"""
SCOPE: Final = "library"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Two processes; the first is the one that clients know."""

    a: Process
    b: Process
    database: Path

    @property
    def url(self) -> str:
        """Of the site, which is the issuer."""
        return self.a.url

    @property
    def resource(self) -> str:
        return f"{self.a.url}/mcp"

    def expire_access_tokens(self) -> None:
        """Let an hour pass, for the access tokens."""
        with closing(sqlite3.connect(self.database, timeout=20)) as database, database:
            database.execute("UPDATE oauth2_provider_accesstoken SET expires = datetime('now', '-1 minute')")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.database, timeout=20)) as database:
            return database.execute(query).fetchall()


def prepare(process: Process) -> None:
    """Make the tables of a site, Ann and Bob."""
    command, environment = [sys.executable, "-c", PREPARE], os.environ | ENVIRONMENT | process.environment
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


@pytest.fixture(scope="session")
def site(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("oauth")
    a, b = (daphne(name, directory) for name in ("A", "B"))
    for process in (a, b):
        process.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.served.oauth_site",
            "REDIS_URL": redis_server.url,
            "MCP_SERVER": "tests.served.whoami.server",
            "MCP_NAMESPACE": directory.name,
            "MCP_AUTHENTICATION": "oauth-toolkit",
            "MCP_ISSUER_URL": a.url,
            "MCP_RESOURCE_URL": f"{a.url}/mcp",
            "MCP_REQUIRED_SCOPES": SCOPE,
        }
    prepare(a)
    with started([a, b]):
        yield Site(a=a, b=b, database=directory / "db.sqlite3")


@pytest.fixture
def ann() -> Iterator[Person]:
    with Person("ann") as person:
        yield person


@pytest.fixture
def bob() -> Iterator[Person]:
    with Person("bob") as person:
        yield person
