"""A Hugging Face hub on loopback: its api and resolve routes over real HTTP, with the faults that a test requests."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".onnx", ".safetensors", ".bin")


@dataclass
class HubRepository:
    """One repository: its files by revision, and who may see it."""

    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False
    truncated: frozenset[str] = frozenset()
    damaged: frozenset[str] = frozenset()


class Seen(NamedTuple):
    """A request that reached the server."""

    method: str
    path: str


class Hub:
    """A server to start with ``with``; ``endpoint`` is its address, ``seen`` what reached it, ``headers`` replace a file's."""

    def __init__(self) -> None:
        self.repositories: dict[str, HubRepository] = {}
        self.seen: list[Seen] = []
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.cdn = self.endpoint.replace("127.0.0.1", "localhost")  # large files lie on another host, as the hub's do

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down: later requests are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes | str],
        *,
        revision: str = "main",
        token: str | None = None,
        gated: bool = False,
        truncate: tuple[str, ...] = (),
        damage: tuple[str, ...] = (),
    ) -> str:
        """Publish files as one commit, and return its hash.

        Args:
            repo: ``owner/name``, or a name alone.
            files: Content by path.
            revision: The branch or tag that the commit is on.
            token: Whoever sends it may see the repository, or, where it is gated, its files; None lets everybody,
                but nobody at the files of a gated one.
            gated: The listing is open and the files are not, as the hub does it.
            truncate: Files whose body breaks off halfway.
            damage: Files whose body has the right length and a wrong byte.
        """
        content = {path: text.encode() if isinstance(text, str) else bytes(text) for path, text in files.items()}
        kept = self.repositories.setdefault(repo, HubRepository())
        commit = hashlib.sha1(repr((repo, sorted(content.items()))).encode(), usedforsecurity=False).hexdigest()
        kept.revisions.update({revision: content, commit: content})
        kept.commits.update({revision: commit, commit: commit})
        kept.token, kept.gated = token, gated
        kept.truncated, kept.damaged = frozenset(truncate), frozenset(damage)
        return commit

    def fail(self, status: int | None) -> None:
        """Answer everything with this status; None answers again as usual."""
        self.status = status

    def count(self, part: str, method: str = "GET") -> int:
        """How many requests had ``part`` in their path."""
        return sum(part in seen.path and seen.method == method for seen in self.seen)


def git_digest(content: bytes) -> str:
    """What git, and so the hub, calls the content of a small file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Refused(Exception):
    """The hub says no, in its own words."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}


def _handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def log_message(self, *arguments: object) -> None:
            pass

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.seen.append(Seen(self.command, path))
            try:
                if hub.status is not None:
                    raise Refused(hub.status)
                if path.startswith("/api/models/"):
                    self._answer_api(path.removeprefix("/api/models/"))
                elif path.startswith("/cdn/"):
                    _, _, repo, commit, file = path.split("/", 4)
                    self._send_file(unquote(repo.replace("|", "/")), commit, file, {})
                elif "/resolve/" in path:
                    self._answer_resolve(*path[1:].split("/resolve/", 1))
                else:
                    raise Refused(404)
            except Refused as refused:
                self._send(refused.status, b"", refused.headers)

        def _answer_api(self, rest: str) -> None:
            name, route, revision = rest, "", "main"
            for wanted in ("/revision/", "/tree/"):
                if wanted in rest:
                    name, revision = rest.split(wanted, 1)
                    route = wanted
            repository = self._repository(name)
            files = self._files(repository, revision)
            if route == "/tree/":
                answer: object = [
                    {"type": "file", "path": path, "size": len(content), "oid": git_digest(content)}
                    for path, content in files.items()
                ]
            else:
                answer = {
                    "_id": "0",
                    "id": name,
                    "modelId": name,
                    "sha": repository.commits[revision],
                    "private": False,
                    "gated": "auto" if repository.gated else False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "siblings": [{"rfilename": path} for path in files],
                }
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _answer_resolve(self, name: str, rest: str) -> None:
            revision, file = rest.split("/", 1)
            repository = self._repository(name)
            files = self._files(repository, revision)
            commit = {"X-Repo-Commit": repository.commits[revision], **hub.headers}
            if repository.gated and not (repository.token and self._sent_token() == repository.token):
                raise Refused(
                    403 if self._sent_token() else 401,
                    "GatedRepo",
                    "Access to this model is restricted: accept its terms",
                )
            if file not in files:
                refused = Refused(404, "EntryNotFound", "Entry not found")
                refused.headers.update(commit)
                raise refused
            if not file.endswith(LFS_SUFFIXES):
                self._send_file(name, revision, file, {"ETag": f'"{git_digest(files[file])}"', **commit})
                return
            headers = {
                "X-Linked-Etag": f'"{hashlib.sha256(files[file]).hexdigest()}"',
                "X-Linked-Size": str(len(files[file])),
                "Location": f"{hub.cdn}/cdn/{name.replace('/', '|')}/{revision}/{file}",
                **commit,
            }
            self._send(302, b"", headers)

        def _repository(self, name: str) -> HubRepository:
            repository = hub.repositories.get(name)
            closed = repository is not None and repository.token is not None and not repository.gated
            if repository is None or (closed and self._sent_token() != repository.token):
                if self._sent_token() is None:
                    raise Refused(401, "RepoNotFound", "Invalid username or password.")
                raise Refused(404, "RepoNotFound", "Repository not found")
            return repository

        def _files(self, repository: HubRepository, revision: str) -> dict[str, bytes]:
            if revision not in repository.revisions:
                raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return repository.revisions[revision]

        def _sent_token(self) -> str | None:
            return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

        def _send_file(self, name: str, revision: str, file: str, headers: dict[str, str]) -> None:
            repository = hub.repositories[name]
            content = repository.revisions[revision][file]
            if file in repository.damaged:
                content = bytes([content[0] ^ 1]) + content[1:]
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            end = len(content) // 2 if file in repository.truncated else len(content)
            self._send(206 if start else 200, content[start:end], headers, announced=len(content) - start)

        def _send(self, status: int, body: bytes, headers: dict[str, str], announced: int | None = None) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(body) if announced is None else announced),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler
