"""The nginx of `make cluster`: each request goes to the next process in turn, whatever its session."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from project.cluster.parts import Part
from project.run import CannotStart

#: As deploy/nginx.conf, which gives the reasons. One process without workers: it can be killed as a whole.
CONFIGURATION: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream processes {{
{servers}
        keepalive 16;
        keepalive_timeout 50s;
    }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 4m;
        location / {{
            proxy_pass http://processes;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header Daphne-Root-Path "";
            proxy_buffering off;
            proxy_read_timeout 3600s;
            proxy_connect_timeout 2s;
            add_header X-Answered-By $upstream_addr always;
        }}
    }}
}}
"""


def make_proxy(port: int, processes: Sequence[Part], folder: Path) -> Part:
    """nginx on that port in front of these, not started yet. Raises: CannotStart where there is no nginx."""
    home = folder / "nginx"
    home.mkdir()
    configuration = home / "nginx.conf"
    servers = "\n".join(f"        server {process.address} max_fails=0;" for process in processes)
    configuration.write_text(CONFIGURATION.format(folder=home, servers=servers, port=port))
    return Part(
        name="nginx",
        what="the proxy in front of A, B and C",
        port=port,
        command=[_binary(), "-p", str(home), "-c", str(configuration), "-e", "stderr"],
        log=home / "output",
    )


def _binary() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which("nginx", path=path)
    if found is None:
        how = "brew install nginx" if sys.platform == "darwin" else "apt install nginx"
        raise CannotStart(f"`make cluster` needs nginx, which is not installed. Try: {how}.")
    return found
