"""A real nginx with the deployed configuration."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.manifests import nginx_conf
from tests.support.processes import Process, free_port, started
from tests.support.programs import path_of


@contextmanager
def nginx_for(ports: dict[str, int], directory: Path) -> Iterator[Process]:
    """A real nginx with the deployed configuration in front of these."""
    home = directory / "nginx"
    home.mkdir()
    port = free_port()
    (home / "nginx.conf").write_text(nginx_conf(home, listen=port, processes=ports))
    # As root, nginx would run its workers as a user who may not write below `directory`.
    directives = "daemon off; user root;" if os.geteuid() == 0 else "daemon off;"
    options = ("-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr", "-g", directives)
    nginx = Process(
        name="nginx",
        command=(path_of("nginx"), *options),
        environment={},
        port=port,
        log=home / "nginx.log",
    )
    with started([nginx]):
        yield nginx
