"""A hub on loopback that speaks as much of the Hugging Face hub's protocol as publishing and fetching need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_abcdefghijklmnop"


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        """Add a commit of new and changed files; return its hash."""
        head = {**(list(self.commits.values())[-1] if self.commits else {}), **files}
        name = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[name] = head
        self.messages.append(message)
        return name

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the hash and files of a commit, or of the last one for "main"."""
        if revision == "main" and self.commits:
            revision = list(self.commits)[-1]
        return (revision, self.commits[revision]) if revision in self.commits else None


class Hub(ThreadingHTTPServer):
    """Repositories in memory; files ending in `.safetensors` are large files, as on the real hub."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answer: tuple[int, dict[str, str]] | None = None  # to everything, if set

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._handle()

    do_GET = do_POST = do_PUT = do_HEAD  # noqa: N815

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        if self.server.answer is not None:
            return self._send(*self.server.answer)
        for pattern, action in _ACTIONS:
            if found := re.fullmatch(pattern, f"{self.command} {self.path}"):
                return action(self, body, **found.groupdict())
        return self._send(404, {"X-Error-Message": f"no {self.path}"})

    def _send(self, status: int, headers: dict[str, str], content: bytes = b"{}") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    @property
    def _trusted(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse(self) -> None:
        self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    # ------------------------------------------------------------------------------------------------------- publishing

    def _create(self, body: bytes) -> None:
        if not self._trusted:
            return self._send(401, {"X-Error-Message": f"Invalid token {self.headers.get('Authorization')}"})
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            content = json.dumps({"url": f"{self.server.url}/{name}"}).encode()
            return self._send(409, {"Content-Type": "application/json"}, content)
        self.server.repositories[name] = Repository(
            asked.get("visibility") == "private" or asked.get("private") is True
        )
        return self._json({"url": f"{self.server.url}/{name}"})

    def _validate(self, body: bytes) -> None:
        if "license: forbidden" not in json.loads(body)["content"]:
            return self._json({})
        content = json.dumps({"errors": [{"message": '"license" must be one of a list'}]}).encode()
        return self._send(400, {"Content-Type": "application/json"}, content)

    def _preupload(self, body: bytes, repo: str) -> None:
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = ["lfs" if path.endswith(".safetensors") else "regular" for path in paths]
        files = [
            {"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in zip(paths, modes, strict=True)
        ]
        self._json({"files": files})

    def _describe(self, body: bytes, repo: str) -> None:
        self._json({"id": repo, "xetEnabled": False})

    def _batch(self, body: bytes, repo: str) -> None:
        objects = [
            {**asked, "actions": {"upload": {"href": f"{self.server.url}/blobs/{asked['oid']}", "header": {}}}}
            for asked in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.blobs[oid] = body
        self._send(200, {})

    def _commit(self, body: bytes, repo: str) -> None:
        if not self._trusted:
            return self._refuse()
        lines = [json.loads(line) for line in body.splitlines()]
        files, message = {}, ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.server.blobs[value["oid"]]
        name = self.server.repositories[repo].commit(files, message)
        return self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{name}", "commitOid": name})

    # --------------------------------------------------------------------------------------------------------- fetching

    def _resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        repository = self.server.repositories.get(repo)
        if repository is None or (repository.private and not self._trusted):
            return self._refuse()
        found = repository.files(revision)
        if found is None:
            return self._send(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        name, files = found
        if path not in files:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": name})
        digest = hashlib.sha256(files[path]).hexdigest()
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": name}
        return self._send(200, headers, files[path])


_ACTIONS = [
    (r"POST /api/repos/create", _Handler._create),
    (r"POST /api/validate-yaml", _Handler._validate),
    (r"POST /api/models/(?P<repo>[^/]+/[^/]+)/preupload/main", _Handler._preupload),
    (r"GET /api/models/(?P<repo>[^/]+/[^/]+)/revision/main\?.*", _Handler._describe),  # asked by older versions
    (r"POST /(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._batch),
    (r"PUT /blobs/(?P<oid>\w+)", _Handler._store),
    (r"POST /api/models/(?P<repo>[^/]+/[^/]+)/commit/main", _Handler._commit),
    (r"(?:HEAD|GET) /(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler._resolve),
]
