"""A hub of the Hugging Face kind in this process: repositories in memory, gates, tokens, downloads that break off.

Routes and headers: those that huggingface_hub 2.4 asks for and reads (file_download, hf_api, _commit_api, lfs).
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40
TOKEN = "hf_good"


@dataclass
class FakeHub:
    """Repositories by name, each its files by path, and what the server was asked."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    """Nobody may read these, whatever the token."""
    break_after: dict[str, int] = field(default_factory=dict)
    """File name: bytes after which the connection closes, once."""
    created: list[dict[str, Any]] = field(default_factory=list)
    commits: list[list[dict[str, Any]]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    url: str = ""


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub on a port of its own."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._get(body=False)

    def do_GET(self) -> None:
        self._get(body=True)

    def _get(self, *, body: bool) -> None:
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+).*", self.path):
            self._file(*found.groups(), body=body)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path):
            name = found[1]
            if self._may(name, found[2] or "main"):
                files = [{"rfilename": path} for path in self.hub.repos[name]]
                self._json(200, {"id": name, "sha": COMMIT, "siblings": files, "private": False})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/?]+).*", self.path):
            if self._may(found[1], found[2]):
                self._json(200, [{"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                                 for path, content in self.hub.repos[found[1]].items()])  # fmt: skip
        else:
            self._fail(404, "RepoNotFound", "Repository not found")

    def do_PUT(self) -> None:
        self.hub.blobs[self.path.rsplit("/", 1)[1]] = self._body()
        self._json(200, {})

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._fail(401, None, "Invalid username or password.")
        if self.path == "/api/repos/create":
            self.hub.created.append(json.loads(body))
            name = f"{json.loads(body).get('organization') or 'me'}/{json.loads(body)['name']}"
            self.hub.repos.setdefault(name, {})
            return self._json(200, {"url": f"{self.hub.url}/{name}", "id": name})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/.*", self.path):
            files = json.loads(body)["files"]
            return self._json(200, {"files": [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": False} for file in files
            ]})  # fmt: skip
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            return self._json(200, {"transfer": "basic", "objects": [
                {**one, "actions": {"upload": {"href": f"{self.hub.url}/blob/{one['oid']}"}}} for one in objects
            ]})  # fmt: skip
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.*", self.path):
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        return self._json(200, {})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        self.hub.commits.append(lines)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.repos[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.repos[name][value["path"]] = self.hub.blobs[value["oid"]]
        url = f"{self.hub.url}/{name}/commit/{COMMIT}"
        self._json(200, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

    def _may(self, name: str, revision: str) -> bool:
        """Whether the repository may be read; says why where it may not."""
        given = self.headers.get("Authorization")
        if given and given != f"Bearer {TOKEN}":
            self._fail(401, None, "Invalid credentials in Authorization header")
        elif name not in self.hub.repos:
            self._fail(401 if not given else 404, "RepoNotFound", "Repository not found")
        elif revision not in ("main", COMMIT):
            self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return True
        return False

    def _file(self, name: str, revision: str, path: str, *, body: bool) -> None:
        if not self._may(name, revision):
            return
        if name in self.hub.gated:
            return self._fail(403 if self.headers.get("Authorization") else 401, "GatedRepo", "Access is restricted")
        content = self.hub.repos[name].get(path)
        if content is None:
            return self._fail(404, "EntryNotFound", "Entry not found")
        start = 0
        if wanted := re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range", "")):
            start = int(wanted[1])
            self.hub.ranges.append(f"{path} from {start}")
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            most = self.hub.break_after.pop(path, None)
            self.wfile.write(content[start:] if most is None else content[start : start + most])
            self.wfile.flush()
            if most is not None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    def _fail(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._json(status, {"error": message}, headers)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))
