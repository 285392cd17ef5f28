"""A web server on loopback that answers as it should, or fails in a way that a test chooses."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebServer(ThreadingHTTPServer):
    """Files in memory. `faults` maps a path to the faults of its next requests, in order; the last one repeats.

    A fault is a status, "interrupt" (half of the body, then the connection is closed), "short" (half of the body under
    its own length), "stall" (half of the body, then nothing), "endless" (zeros without end), "to URL" (a redirect) or
    None.
    """

    daemon_threads = True
    request_queue_size = 128  # connections that wait for their thread; others would wait for a second

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[int | str | None]] = {}
        self.tags: dict[str, str] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.stopped = threading.Event()

    def url(self, path: str, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}{path}"

    def fault(self, path: str) -> int | str | None:
        left = self.faults.get(path, [None])
        return left.pop(0) if len(left) > 1 else left[0]

    def handle_error(self, *_: object) -> None:
        """Clients that gave up are no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_HEAD(self) -> None:
        path = self._path()
        if path in self.server.files:
            self._start(200, len(self.server.files[path]))
        else:
            self._start(404, 0)

    def do_GET(self) -> None:
        path = self._path()
        fault, body = self.server.fault(path), self.server.files.get(path)
        if isinstance(fault, str) and fault.startswith("to "):
            self._start(302, 0, location=fault.removeprefix("to "))
            return
        if isinstance(fault, int) or body is None:
            self._start(fault if isinstance(fault, int) else 404, 0)
            return
        if (found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))) and fault is None:
            part = body[int(found[1]) : int(found[2]) + 1]
            self._start(206, len(part))
            self.wfile.write(part)
            return
        half = body[: len(body) // 2]
        if fault == "endless":
            self._start(200, None)
            while not self.server.stopped.is_set():
                self.wfile.write(bytes(1 << 16))
            return
        self._start(200, len(half) if fault == "short" else len(body))
        self.wfile.write(half if fault in ("short", "interrupt", "stall") else body)
        if fault in ("interrupt", "stall"):
            self.close_connection = True
            self.server.stopped.wait(30 if fault == "stall" else 0)

    def _path(self) -> str:
        path = self.path.partition("?")[0]
        self.server.requests[self.command, path] += 1
        return path

    def _start(self, status: int, length: int | None, location: str | None = None) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if tag := self.server.tags.get(self.path.partition("?")[0]):
            self.send_header("ETag", tag)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_web_server() -> Iterator[WebServer]:
    server = WebServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
