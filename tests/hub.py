"""A hub on the loopback interface for the real hub client. Tests define its faults as data.

It answers what the client asks of huggingface.co (HEAD and GET of `/{repo}/resolve/{revision}/{file}`, with ranges, and what
creates repositories and commits) and serves plain files below `/files/`. Commits of a repository are kept apart; `main` is the
last one added.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple
from urllib.parse import unquote

LARGE = (".safetensors", ".bin", ".pth")
"""Files that the real hub stores by their SHA-256; any other has the SHA-1 of its git blob as its ETag."""


BODIES = ("stall", "cut", "wrong", "endless", "drip", "gzip")
"""Kinds of faults of a body."""
BOMB = gzip.compress(bytes(64 << 20))


class Request(NamedTuple):
    """A request that the hub received. `path` has no leading slash."""

    method: str
    path: str
    range: str | None = None


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request.

    Attributes:
        kind: a status to answer with, or
            "hang": no answer before `Hub.release`; "stall": no second half of the body before it;
            "cut": the connection ends after half of the file; "wrong": a body of the right length with other bytes;
            "endless": the body goes on after the file, in chunks; "drip": it comes one byte at a time;
            "gzip": a body that is compressed and unpacks to a thousand times its size.
        method: "HEAD", "GET", "POST" or "PUT"; None is all, as far as a body has to be there.
        times: how many requests it strikes; None is all.
    """

    kind: int | Literal["hang", "stall", "cut", "wrong", "endless", "drip", "gzip"]
    method: str | None = None
    times: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def strikes(self, method: str) -> bool:
        """Return whether the fault affects this kind of request."""
        return method == (self.method or ("GET" if self.kind in BODIES else method))


class Hub:
    """`with Hub() as hub:` serves until the block ends. `requests` has every request in the order of arrival."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self._branches: dict[str, dict[str, str]] = {}
        self._files: dict[str, bytes] = {}
        self._faults: list[tuple[str, Fault, Iterator[int]]] = []
        self._lock = threading.Lock()
        self._gate = threading.Event()
        self.token: str | None = None
        """What a client must send to write, and to read a private repository; None asks for nothing."""
        self.private: set[str] = set()
        self._uploads: dict[str, bytes] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def url(self, name: str) -> str:
        """Address of a plain file."""
        return f"{self.endpoint}/files/{name}"

    def add(self, repo: str, file: str, content: bytes, revision: str = "main") -> str:
        """Commit a file on a branch and return the commit; given a commit, replace the file within it, as no honest hub does."""
        commits = self._commits.setdefault(repo, {})
        branches = self._branches.setdefault(repo, {})
        if revision in commits:
            commits[revision][file] = content
            return revision
        commit = hashlib.sha1(f"{repo} {len(commits)}".encode()).hexdigest()
        commits[commit] = {**commits.get(branches.get(revision, ""), {}), file: content}
        branches[revision] = commit
        return commit

    def add_file(self, name: str, content: bytes) -> str:
        """Serve a plain file and return its url."""
        self._files[name] = content
        return self.url(name)

    def fail(self, place: str, fault: Fault) -> None:
        """Let requests whose path begins with `place` fail: "user/name" is a repository, "files/NAME" a plain file."""
        self._faults.append((place, fault, itertools.count() if fault.times is None else iter(range(fault.times))))

    def heal(self) -> None:
        """Remove all faults and the recorded requests."""
        self._faults.clear()
        self.requests.clear()

    def release(self) -> None:
        """Let requests that hang or stall go on."""
        self._gate.set()

    def count(self, method: str) -> int:
        """Return the number of requests with this method."""
        return sum(request.method == method for request in self.requests)

    def files(self, repo: str) -> dict[str, bytes]:
        """Return the files of a repository on its main branch, by their paths; {} if it does not exist."""
        return self._commits.get(repo, {}).get(self._branches.get(repo, {}).get("main", ""), {})

    def _write(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Do what a POST or PUT asks for; status, headers and body of the answer."""
        answer: dict[str, object] = {}
        if path == "api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if asked.get("visibility") == "private" or asked.get("private"):  # as newer and older clients ask
                self.private.add(repo)
            if repo in self._commits:
                return 409, {}, json.dumps({"url": f"{self.endpoint}/{repo}"}).encode()
            self._commits[repo], self._branches[repo] = {}, {}
            answer = {"url": f"{self.endpoint}/{repo}"}
        elif "/preupload/" in path:
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {file: "lfs" if file.endswith(LARGE) else "regular" for file in files}
            answer = {"files": [{"path": file, "uploadMode": mode, "shouldIgnore": False} for file, mode in modes.items()]}
        elif path.endswith("/info/lfs/objects/batch"):
            answer = {
                "transfer": "basic",
                "objects": [
                    {**asked, "actions": {"upload": {"href": f"{self.endpoint}/uploads/{asked['oid']}"}}}
                    for asked in json.loads(body)["objects"]
                ],
            }
        elif path.startswith("uploads/"):
            self._uploads[path.removeprefix("uploads/")] = body
        elif "/commit/" in path:
            repo = path.removeprefix("api/models/").partition("/commit/")[0]
            lines = [json.loads(line) for line in body.splitlines()]
            whole = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
            whole |= {line["value"]["path"]: self._uploads[line["value"]["oid"]] for line in lines if line["key"] == "lfsFile"}
            commit = hashlib.sha1(body).hexdigest()
            self._commits[repo][commit] = {**self.files(repo), **whole}
            self._branches[repo]["main"] = commit
            answer = {"commitUrl": f"{self.endpoint}/{repo}/commit/{commit}", "commitOid": commit}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    def _record(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for place, fault, turns in self._faults:
                if request.path.startswith(place) and fault.strikes(request.method) and next(turns, None) is not None:
                    return fault
        return None

    def _find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body, before any range or fault."""
        if path.startswith("files/"):
            content = self._files.get(path.removeprefix("files/"))
            return (404, {}, b"") if content is None else (200, {}, content)
        repo, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        if repo not in self._commits:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        commit = self._branches[repo].get(revision, revision)
        if commit not in self._commits[repo]:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        content = self._commits[repo][commit].get(file)
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob}"'}
        if file.endswith(LARGE):
            headers |= {"X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        return 200, headers, content


class _Server(ThreadingHTTPServer):
    hub: Hub

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that closed their connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        hub = self.server.hub
        path = unquote(self.requestline.split()[1])[1:]  # `self.path` would accept a double slash
        fault = hub._record(Request(self.command, path, self.headers.get("Range")))
        kind = fault.kind if fault else None
        if kind == "hang":
            hub._gate.wait()
        if fault and isinstance(fault.kind, int):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return self._send(fault.kind, fault.headers, b"")
        allowed = hub.token is None or self.headers.get("Authorization") == f"Bearer {hub.token}"
        if self.command in ("POST", "PUT"):
            return self._take(path, kind, allowed=allowed)
        if not allowed and path.partition("/resolve/")[0] in hub.private:
            return self._send(401, {"X-Error-Code": "RepoNotFound"}, b"")
        status, headers, content = hub._find(path)
        if kind == "gzip":
            return self._send(200, {**headers, "Content-Encoding": "gzip"}, BOMB)
        if kind == "wrong":
            content = bytes(byte ^ 0xFF for byte in content)
        start = 0
        if status == 200:
            headers = {**headers, "Accept-Ranges": "bytes"}
            if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                start = int(asked[1])
                status = 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(status, headers, content[start:], kind, max(0, len(content) // 2 - start))

    do_HEAD = do_POST = do_PUT = do_GET

    def _take(self, path: str, kind: object, *, allowed: bool) -> None:
        """Receive a body, or with "cut" a half of it, and answer. Uploads need no token, because their addresses are secret."""
        length = int(self.headers.get("Content-Length", 0))
        if kind == "cut":
            self.rfile.read(length // 2)
            return self.connection.close()
        body = self.rfile.read(length)
        if not allowed and not path.startswith("uploads/"):
            return self._send(401, {}, b"{}")
        return self._send(*self.server.hub._write(path, body))

    def _send(self, status: int, headers: dict[str, str], body: bytes, kind: object = None, half: int = 0) -> None:
        """Send the answer, and of its body what the fault leaves; a connection has one request, so that none outlives the hub."""
        self.send_response(status)
        length = {} if kind == "endless" else {"Content-Length": str(len(body))}
        for name, value in {**headers, **length, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        while kind in ("endless", "drip") and not self.server.hub._gate.wait(0.01):
            self.wfile.write(bytes(1 if kind == "drip" else 1 << 16))
        self.wfile.write(body[:half])
        if kind == "stall":
            self.server.hub._gate.wait()
        if kind != "cut":
            self.wfile.write(body[half:])

    def log_message(self, format: str, *args: object) -> None:
        """Do not print requests; they are recorded."""
