"""`make run`: the demo and everything that it needs, until Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from project.children import child
from project.paths import DATA

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
MEMORY: Final = "this process's memory"


class CannotStart(Exception):
    """The demo cannot start; the message is a sentence that says why."""


def main() -> int:
    """Run until a signal arrives or the server stops, and return the exit status."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        return _run(stop)
    except CannotStart as problem:
        print(problem, file=sys.stderr)
        return 1
    except ModuleNotFoundError as problem:
        print(
            f"The virtual environment is not complete: {problem}. Delete .venv, and try again.",
            file=sys.stderr,
        )
        return 1


def _run(stop: threading.Event) -> int:
    port = port_from_environment()
    os.environ.setdefault("DJANGO_DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    with _store() as store:
        login = prepare_database()
        with child(server_command(port)) as server:
            wait_until_ready(server, port, stop)
            if not stop.is_set():
                print(_banner(port, store, login), flush=True)
            while server.poll() is None and not stop.wait(0.2):
                pass
            stopped_by_itself = server.poll() is not None and not stop.is_set()
            print("\nStopping ...", flush=True)
    if stopped_by_itself:
        raise CannotStart(f"The server stopped by itself, with status {server.returncode}.")
    print("Stopped." if store == MEMORY else "Stopped; the sessions are kept.")
    return 0


def port_from_environment() -> int:
    """PORT, or 8000. Raises: CannotStart if it is no port, or somebody listens there."""
    text = os.environ.get("PORT") or "8000"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65_536:
        raise CannotStart(f"PORT must be a number from 1 to 65535, not {text!r}.")
    port = int(text)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise CannotStart(f"Port {port} is taken. Choose another one: PORT={port + 1}") from None
    return port


@contextmanager
def _store() -> Iterator[str]:
    """The sessions live in the Redis of REDIS_URL, in memory if it is empty or MEMORY=1, else in our own Valkey."""
    from project.valkey import NoServer, server

    if os.environ.get("MEMORY", "0") != "0":
        os.environ["REDIS_URL"] = ""
    if "REDIS_URL" in os.environ:
        given = os.environ["REDIS_URL"]
        problems = [_problem_of(url) for url in given.split(",")] if given else []
        if problems and all(problems):
            raise CannotStart(
                f"The Redis that REDIS_URL names, {_without_passwords(given)}, cannot be used: {problems[0]} Start "
                "it, name another one, or unset REDIS_URL: then the demo starts its own Valkey."
            )
        yield "the Redis that REDIS_URL names" if given else MEMORY
        return
    try:
        with server(DATA / "valkey") as (url, is_ours):
            os.environ["REDIS_URL"] = url
            yield f"the Valkey at {url}" + ("" if is_ours else ", which belongs to another `make run`")
    except NoServer as problem:
        raise CannotStart(problem) from problem


def _problem_of(url: str) -> str | None:
    """A sentence about a Redis that cannot be used."""
    from project.valkey import problem_of

    try:
        problem = problem_of(url)
    except ValueError:
        return "a URL of Redis looks like redis://127.0.0.1:6379/0."
    return f"{problem.rstrip('.')}." if problem else None


def _without_passwords(urls: str) -> str:
    parts = [urlsplit(url) for url in urls.split(",")]
    return ",".join(each._replace(netloc=each.netloc.rpartition("@")[2]).geturl() for each in parts)


def prepare_database() -> str:
    """Migrate, create the demo administrator, and return how to log in. Raises: CannotStart."""
    import django
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError
    from django.db import Error as DatabaseError

    try:
        django.setup()
        call_command("check", stdout=StringIO(), stderr=StringIO())
    except (ImproperlyConfigured, SystemCheckError) as problem:
        raise CannotStart(problem) from problem
    DATA.mkdir(parents=True, exist_ok=True)
    try:
        call_command("migrate", verbosity=0, interactive=False)
    except (DatabaseError, ImproperlyConfigured) as problem:
        raise CannotStart(
            f"The database cannot be used: {str(problem).strip()}\nStart it, name another one in DATABASE_URL, or "
            "unset that: then the demo makes a SQLite file."
        ) from problem
    return _demo_administrator() if settings.DEBUG else "with the account you created"


def _demo_administrator() -> str:
    from django.contrib.auth import get_user_model

    name, password = "admin", "demo-only"
    users = get_user_model()._default_manager
    user, created = users.get_or_create(
        username=name, defaults={"is_staff": True, "is_superuser": True, "email": "admin@example.com"}
    )
    if created:
        user.set_password(password)
        user.save()
    return f"{name} / {password}" if user.check_password(password) else f"{name} / the password you gave it"


def server_command(port: int) -> list[str]:
    """The demo's server on a port of this machine."""
    server = [sys.executable, "-m", "mcp_sessions.daphne", "-v", "0", "-b", HOST, "-p", str(port)]
    return [*server, "project.asgi:application"]


def wait_until_ready(server: "subprocess.Popen[bytes]", port: int, stop: threading.Event) -> None:
    """Return when /readyz has nothing to report, or `stop` is set. Raises: CannotStart."""
    deadline = monotonic() + START_SECONDS
    problem = "It does not answer."
    while problem:
        if server.poll() is not None:
            raise CannotStart("The server did not start; see the reason above.")
        if monotonic() > deadline:
            raise CannotStart(f"The server is not ready. {problem}")
        if stop.wait(0.1):
            return
        problem = _what_is_not_ready(port)


def _what_is_not_ready(port: int) -> str:
    """The problems that /readyz reports; empty if there are none."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5):
            return ""
    except urllib.error.HTTPError as refusal:
        with refusal:
            if refusal.code != 503:
                raise CannotStart(f"The server answers HTTP {refusal.code}; see the reason above.") from None
            return refusal.read().decode()
    except OSError as error:
        return str(error)


def _banner(port: int, store: str, login: str) -> str:
    from mcp_sessions.conf import endpoint
    from project.ask import DEFAULT_URL

    site = f"http://{HOST}:{port}"
    url = f"{site}/{endpoint('default').path}"
    ask = ".venv/bin/python -m project.ask" + ("" if url == DEFAULT_URL else f" --url {url}")
    lives = "end with it" if store == MEMORY else "outlive a restart"
    return f"""
  MCP endpoint   {url}
  Home page      {site}/
  Admin          {site}/admin/   {login}
  Sessions       are in {store}, and {lives}

  Talk to it from another terminal:

    {ask} remember note="I like sea stories"

  Then stop this with Ctrl-C, start it again, and:

    {ask} recall
"""


if __name__ == "__main__":
    sys.exit(main())
