"""A server on this machine that does everything wrong that servers do."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><body>Please log in.</body></html>"


class BadServer(ThreadingHTTPServer):
    """Serves ``files`` by path; the next answers for a path are as ``moods`` says, then all are good.

    Attributes:
        files: content by path.
        moods: by path, what is wrong with the next answers to GET, see ``_Handler.do_GET``.
        headers: more headers for every answer.
        asked: path and headers of every GET.
        served: bytes of content that were sent.
        pause: seconds before every 16 kB.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.moods: dict[str, list[str]] = {}
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.served = 0
        self.pause = 0.0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Whoever hangs up has a reason."""


class _Handler(BaseHTTPRequestHandler):
    server: BadServer

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        data = self.server.files.get(self.path)
        self._head(404 if data is None else 200, {"Content-Length": str(len(data or b""))})

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/octet-stream", **self.server.headers, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), 1 << 14):
            time.sleep(self.server.pause)
            block = data[start:start + (1 << 14)]
            self.wfile.write(block)
            self.server.served += len(block)

    def do_GET(self) -> None:
        server, moods = self.server, self.server.moods.get(self.path, [])
        server.asked.append((self.path, dict(self.headers)))
        mood, _, value = (moods.pop(0) if moods else "good").partition(" ")
        data = server.files.get(self.path)
        if data is None:
            return self._head(404, {"Content-Length": "0"})
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        if mood in ("429", "503"):
            return self._head(int(mood), {"Retry-After": value or "0", "Content-Length": "0"})
        if mood == "redirect":
            linked = {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
            return self._head(302, {"Location": value, "Content-Length": "0", **linked})
        if mood == "page":
            self._head(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(PAGE))})
            return self._send(PAGE)
        if mood == "hidden-page":
            self._head(200, {"Content-Length": str(len(PAGE))})
            return self._send(PAGE)
        if mood in ("wrong", "other-tag"):
            data, tag = bytes(255 - byte for byte in data), f'"{mood}"'
        start, range_ = 0, self.headers.get("Range")
        if mood == "other-tag" or (range_ and mood != "ignore-range" and self.headers.get("If-Range") in (None, tag)):
            start = int((range_ or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            return self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
        length = len(data) - start + {"lie-long": 1000, "lie-short": -1000}.get(mood, 0)
        headers = {"ETag": tag, "Content-Length": str(length)}
        if mood == "no-length":
            del headers["Content-Length"]
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._head(206 if start else 200, headers)
        body = data[start:]
        if mood in ("break", "stall", "no-length-break"):
            body = body[:len(body) // 2]
        self._send(body[:length])
        if mood == "stall":
            self.wfile.flush()
            server.over.wait(5)
        return None


@contextlib.contextmanager
def running() -> Iterator[BadServer]:
    """The server, with no files yet."""
    with BadServer() as bad:
        thread = threading.Thread(target=bad.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield bad
        bad.over.set()
        bad.shutdown()
        thread.join()
