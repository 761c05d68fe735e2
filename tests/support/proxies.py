"""Proxies in front of several processes: round robin (a real nginx), and one that a test switches. And one that is cut.

All listen on a free port of 127.0.0.1 and are context managers.
"""

import asyncio
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.processes import Process, free_port, started
from tests.support.programs import path_of

NGINX: Final = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
    log_format served '$upstream_addr $request_method $status $request_uri';
    access_log {directory}/access.log served;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    upstream processes {{
{servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://processes;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 3600s;
        }}
    }}
}}
"""


@contextmanager
def round_robin(processes: Sequence[Process], directory: Path) -> Iterator[Process]:
    """A real nginx that hands each request to the next process in turn, whatever its connection or session.

    `directory`/nginx/access.log has a line for every request: upstream address, method, status, path.
    Raises: LookupError where there is no nginx; mark the test as needing it.
    """
    home = directory / "nginx"
    home.mkdir()
    port = free_port()
    servers = "\n".join(f"        server 127.0.0.1:{process.port} max_fails=0;" for process in processes)
    configuration = home / "nginx.conf"
    configuration.write_text(NGINX.format(directory=home, servers=servers, port=port))
    nginx = Process(
        name="nginx",
        command=(path_of("nginx"), "-p", str(home), "-c", str(configuration), "-e", "stderr"),
        environment={},
        port=port,
        log=home / "nginx.log",
    )
    with started([nginx]):
        yield nginx


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request that a `Switch` handed on."""

    #: Name of the process that got it.
    process: str
    #: HTTP method.
    method: str
    #: The request's Mcp-Session-Id.
    session: str | None
    #: The request's MCP-Protocol-Version.
    version: str | None


class Cable:
    """A proxy in front of any server, which a test cuts and mends. Nothing passes meanwhile, and nothing is lost.

    Connections are still accepted, as if the network had only just failed.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        #: Where it listens.
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def cut(self) -> None:
        """Let nothing pass."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        """Let everything pass, what waits as well."""
        self._loop.call_soon_threadsafe(self._whole.set)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replies, requests = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        try:
            ways = [
                asyncio.create_task(each)
                for each in (self._pass(reader, requests), self._pass(replies, writer))
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            requests.close()
            writer.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(65536):
                await self._whole.wait()
                sink.write(chunk)
                await sink.drain()


class _Listener:
    """Hands each connection to `carry`, in a thread of its own, until the block ends."""

    def __init__(self) -> None:
        self._server = _Server(self)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def carry(self, client: socket.socket) -> None:
        raise NotImplementedError


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, listener: _Listener) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.listener = listener


class _Handler(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.server.listener.carry(self.request)


class Switch(_Listener):
    """A proxy whose next request goes wherever the test says: clients know one URL only.

    One connection carries one request, and bytes pass as they come, so event streams do too. A request stays
    with the process that got it, even when `to` is changed meanwhile.
    """

    def __init__(self, to: Process) -> None:
        super().__init__()
        #: Who gets the next request. Assign to change it.
        self.to = to
        #: Every request so far, in order of arrival.
        self.served: list[Served] = []

    @property
    def url(self) -> str:
        """Without a path or a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def carry(self, client: socket.socket) -> None:
        """Read the head and send it on with `Connection: close`; from there on bytes are copied."""
        with suppress(ConnectionError):
            head, rest = _read_head(client)
            if head:
                target = self.to
                self.served.append(_served(target, head))
                with socket.create_connection(target.address) as upstream:
                    upstream.sendall(_closing(head) + rest)
                    _copy_until_closed(client, upstream)


class Cut(_Listener):
    """A network between one process and a server, which a test cuts, and mends."""

    def __init__(self, to: Process) -> None:
        super().__init__()
        self._target = to
        self._is_cut = False
        self._open: set[socket.socket] = set()

    def cut(self) -> None:
        """Close every connection, and each that is opened from now on."""
        self._is_cut = True
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut = False

    def carry(self, client: socket.socket) -> None:
        """Carry one connection until it is closed, or cut."""
        if self._is_cut:
            return
        with suppress(OSError), socket.create_connection(self._target.address) as upstream:
            self._open.add(client)
            try:
                _copy_until_closed(client, upstream)
            finally:
                self._open.discard(client)


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """The request line with the headers, and what came behind them; both empty when the client left."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = client.recv(65536)
        if not chunk:
            return b"", b""
        received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _served(target: Process, head: bytes) -> Served:
    request_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Served(
        process=target.name,
        method=request_line.split(" ", 1)[0],
        session=headers.get("mcp-session-id"),
        version=headers.get("mcp-protocol-version"),
    )


def _closing(head: bytes) -> bytes:
    """The head with `Connection: close`, so that the client takes a new connection for its next request."""
    lines = [
        line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))
    ]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def _copy_until_closed(client: socket.socket, upstream: socket.socket) -> None:
    """Copy both ways until either side closes."""
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, upstream)
        selector.register(upstream, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                chunk = source.recv(65536)
                if not chunk:
                    return
                sink.sendall(chunk)
