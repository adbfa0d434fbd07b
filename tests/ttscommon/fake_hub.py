"""A small model hub on this machine: listings, whole files, ranges, and a line that breaks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """Repositories by name, each a mapping of path to content, and what was asked for.

    Attributes:
        large: paths that are stored as Git LFS stores them, with a SHA-256
        breaks_after: bytes after which the line breaks, once; the next request finds it down
        ranges: the Range header of every request for a file, None where there was none
        spoils: paths whose bytes arrive changed
    """

    repos: dict[str, dict[str, bytes]]
    large: set[str] = field(default_factory=set)
    breaks_after: int | None = None
    is_down: bool = False
    ranges: list[str | None] = field(default_factory=list)
    spoils: set[str] = field(default_factory=set)
    endpoint: str = ""

    def listing(self, repo: str) -> dict:
        siblings = []
        for name, content in self.repos[repo].items():
            git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            sibling = {"rfilename": name, "size": len(content), "blobId": git}
            if name in self.large:
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
            siblings.append(sibling)
        return {"id": repo, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Run `hub` at `hub.endpoint` for the length of the block."""

    class Handler(_Handler):
        fake = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        about = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        stored = re.fullmatch(r"/store/([^/]+/[^/]+)/(.+)", path)
        if about and about[1] not in self.fake.repos:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif about and about[2] not in (None, "main", COMMIT):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif about:
            body = json.dumps(self.fake.listing(about[1])).encode()
            self._answer(200, body, {"Content-Type": "application/json"})
        elif file and file[2] in self.fake.repos.get(file[1], {}):
            if file[2] in self.fake.large:  # the hub keeps these elsewhere
                self._answer(
                    302, b"", {"Location": f"{self.fake.endpoint}/store/{file[1]}/{file[2]}"}
                )
            else:
                self._file(file[2], self.fake.repos[file[1]][file[2]])
        elif stored:
            self._file(stored[2], self.fake.repos[stored[1]][stored[2]])
        else:
            self._answer(404, b"", {})

    do_HEAD = do_GET

    def _file(self, name: str, content: bytes) -> None:
        fake, asked = self.fake, self.headers.get("Range")
        if self.command == "GET":
            fake.ranges.append(asked)
        if fake.is_down:
            self._answer(503, b"", {})
            return
        if name in fake.spoils:
            content = bytes(len(content))
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        body, headers = content[start:], {"Content-Length": str(len(content) - start)}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if fake.breaks_after is not None and len(body) > fake.breaks_after:
            body, fake.breaks_after, fake.is_down = body[: fake.breaks_after], None, True
        self._answer(206 if asked else 200, body, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
