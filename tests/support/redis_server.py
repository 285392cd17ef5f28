"""A real Redis server on loopback, which keeps nothing on the disk."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def missing() -> str | None:
    """Return why no server can be run here, or None."""
    if shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return None if importlib.util.find_spec("redis") else "redis-py is not installed"


needs_redis = pytest.mark.skipif(missing() is not None, reason=str(missing()))


class RedisServer:
    """A running server."""

    def __init__(self, folder: Path, options: tuple[str, ...], prefix: tuple[str, ...], host: str):
        self.folder, self.host, self._options, self._prefix = folder, host, options, prefix
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def start(self) -> None:
        """Start the server, on the port that it had before; the first time on any that is free."""
        for _ in range(10):  # somebody else may take the port before the server does
            port = self.port or _free_port()
            command = [
                *self._prefix, "redis-server", "--port", str(port), "--bind", self.host, "--dir", str(self.folder),
                "--save", "", "--appendonly", "no", "--protected-mode", "no", *self._options,
            ]  # fmt: skip
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            lines = []
            for line in self.process.stdout:
                lines.append(line)
                if "Ready to accept connections" in line:
                    self.port = port
                    return
            self.stop()
        raise AssertionError("".join(lines))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def client(self) -> Any:
        """Return a client that no store uses."""
        return importlib.import_module("redis").Redis.from_url(self.url)


@contextmanager
def running_redis(*options: str, prefix: tuple[str, ...] = (), host: str = "127.0.0.1") -> Iterator[RedisServer]:
    """Run a server with options of its own, by a command such as `ip netns exec`, and end it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), options, prefix, host)
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class FaultyServer(socketserver.ThreadingTCPServer):
    """Accepts connections, and treats each as a function of the socket says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, treat: Callable[[socket.socket], None]):
        self.treat, self.n_connections, self.stopped = treat, 0, threading.Event()
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request, client_address) -> None:
        self.n_connections += 1
        with contextlib.suppress(OSError):  # a client that gave up is no error
            self.treat(request)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}/0"


@contextmanager
def faulty_server(treat: Callable[[socket.socket], None]) -> Iterator[FaultyServer]:
    with FaultyServer(treat) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()
