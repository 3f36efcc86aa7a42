"""The page of the review, served to this machine alone.

Whoever asks must know a token that stands in the address which the command prints, ask for this very host, and come
from this page: so neither another user of the machine nor a page of another origin sees an original. Pictures are read
when they are asked for, go out without being stored, and are told to stay out of every cache. Nothing but the run's own
files and the originals in its list can be asked for: requests name entries by number, never paths.
"""

from __future__ import annotations

import hmac
import io
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..errors import CamouflageError
from ..photos import Unreadable, decode, picture_formats
from .accounts import SAVED
from .decisions import Decision, append, by_unit, read_decisions
from .photos import Source, Unit
from .reviewing import Entry, residual_risk

PAGE = Path(__file__).with_name("page")
_FILES = {"/": ("index.html", "text/html; charset=utf-8"), "/page.js": ("page.js", "text/javascript; charset=utf-8"),
          "/page.css": ("page.css", "text/css; charset=utf-8")}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                                       "connect-src 'self'; form-action 'none'; base-uri 'none'"}
_LONGEST = 1600  # px of a side that the page is given of an original
_REMEMBERED = 8  # pictures
_MOST = 10_000  # bytes of a decision


class Review:
    """What the page can ask for.

    Args:
        source: of the originals.
        units: all of the run, in order.
        output: of the run.
        entries: the list to go through.
    """

    def __init__(self, source: Source, units: Sequence[Unit], output: Path, entries: Sequence[Entry]) -> None:
        self.source, self.units, self.output, self.entries = source, units, output, list(entries)
        self._lock = Lock()
        self._recent: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def listed(self) -> dict[str, Any]:
        """The list as the page shows it, with what was decided before."""
        decisions = read_decisions(self.output)
        return {"risk": self.risk(), "entries": [self._shown(number, entry, decisions)
                                                 for number, entry in enumerate(self.entries)]}

    def _shown(self, number: int, entry: Entry, decisions: Mapping[tuple[int, str], Decision]) -> dict[str, Any]:
        word = decisions.get((entry.unit, entry.key))
        persons = [{"number": n, "verdict": verdict} for n, verdict in enumerate(entry.persons)]
        return {"number": number, "key": entry.key, "state": entry.state, "reason": entry.reason,
                "why": list(entry.why), "sample": entry.sample, "result": entry.state in SAVED, "persons": persons,
                "word": word.word if word else "", "recognisable": word.recognisable if word else None}

    def risk(self) -> str:
        """See :func:`~.reviewing.residual_risk`."""
        return residual_risk(self.entries, by_unit(read_decisions(self.output)))

    def decide(self, number: int, word: str, recognisable: bool | None) -> str:
        """Notes a decision; gives the residual risk. Raises CamouflageError, OSError."""
        entry = self.entry(number)
        if recognisable is not None and entry.state not in SAVED:
            raise CamouflageError("Of a picture that was withheld there is no result in which to recognise anybody.")
        with self._lock:
            append(self.output, Decision(entry.key, entry.unit, word, recognisable))
        return self.risk()

    def entry(self, number: int) -> Entry:
        """An entry of the list. Raises CamouflageError."""
        if not 0 <= number < len(self.entries):
            raise CamouflageError("There is no such picture in the list.")
        return self.entries[number]

    def picture(self, kind: str, number: int) -> bytes:
        """The "original", as it is seen, or the "result", as it was saved. Raises CamouflageError, OSError."""
        entry = self.entry(number)
        if kind == "result" and entry.state not in SAVED:
            raise CamouflageError("Nothing was saved of this picture.")
        with self._lock:
            if (kind, number) in self._recent:
                self._recent.move_to_end((kind, number))
                return self._recent[kind, number]
            data = (self._original if kind == "original" else self._result)(entry)
            self._recent[kind, number] = data
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
            return data

    def _original(self, entry: Entry) -> bytes:
        try:
            photo = next(photo for photo in self.source.photos(self.units[entry.unit]) if photo.key == entry.key)
            image = decode(io.BytesIO(photo.read()), picture_formats(), profile=True)
        except (StopIteration, Unreadable) as error:
            raise CamouflageError(f"The original cannot be read: {error or 'it is not there any more'}.") from error
        image.thumbnail((_LONGEST, _LONGEST))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        return file.getvalue()

    def _result(self, entry: Entry) -> bytes:
        with self.source.read_back(self.units[entry.unit], self.output) as read:
            try:
                return read(entry.name)[0]
            except KeyError as error:
                raise CamouflageError("The result is not in the output any more.") from error


class ReviewServer(ThreadingHTTPServer):
    """Serves a :class:`Review` at ``address``, which holds the token. Raises OSError where the port is taken."""

    daemon_threads = True

    def __init__(self, review: Review, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.review, self.token = review, secrets.token_urlsafe(24)
        self.hosts = {f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"}

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = urlsplit(self.path)
        if file := _FILES.get(found.path):
            # Script and style hold nothing of anybody, and a page cannot hand its token on to them.
            self._guarded(lambda: self._send((PAGE / file[0]).read_bytes(), file[1]), found.path == "/")
        elif found.path == "/favicon.ico":  # every browser asks for one
            self._send(b"", "image/x-icon", HTTPStatus.NO_CONTENT)
        elif found.path == "/list":
            self._guarded(lambda: self._json(self.server.review.listed()))
        elif found.path in ("/original", "/result"):
            self._guarded(lambda: self._picture(found.path[1:]))
        else:
            self._json({"error": "There is nothing here."}, HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if urlsplit(self.path).path != "/decide":
            self.close_connection = True  # whatever was sent stays unread
            self._json({"error": "There is nothing here."}, HTTPStatus.NOT_FOUND)
            return
        self._guarded(self._decide)

    def _guarded(self, answer: Callable[[], None], secret: bool = True) -> None:
        """Answers who may ask; others are refused without a look at what they want."""
        origin = self.headers.get("Origin")
        given = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        allowed = (self.headers.get("Host") in self.server.hosts
                   and (origin is None or origin.removeprefix("http://") in self.server.hosts)
                   and self.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")
                   and (not secret or hmac.compare_digest(given.encode(), self.server.token.encode())))
        if not allowed:
            self.close_connection = True
            self._json({"error": "Open the address that the command printed."}, HTTPStatus.FORBIDDEN)
            return
        try:
            answer()
        except (CamouflageError, ValueError) as error:
            self._json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except OSError as error:
            self._json({"error": f"It cannot be read or written ({error.strerror})."},
                       HTTPStatus.INTERNAL_SERVER_ERROR)

    def _picture(self, kind: str) -> None:
        number = parse_qs(urlsplit(self.path).query).get("entry", [""])[0]
        if not (number.isascii() and number.isdigit()):
            raise CamouflageError("There is no such picture in the list.")
        data = self.server.review.picture(kind, int(number))
        kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff\xe0": "image/jpeg"}
        self._send(data, kinds.get(data[:4], "image/jpeg" if data[:2] == b"\xff\xd8" else "image/webp"))

    def _decide(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get_content_type() != "application/json" or not 0 < length <= _MOST:
            self.close_connection = True
            raise CamouflageError("A decision is a short JSON document.")
        content = json.loads(self.rfile.read(length))
        if not isinstance(content, dict) or type(content.get("entry")) is not int:
            raise CamouflageError("A decision must name its entry by number.")
        risk = self.server.review.decide(content["entry"], content.get("word", ""), content.get("recognisable"))
        self._json({"risk": risk})

    def _json(self, content: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(content, ensure_ascii=False).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: addresses hold the token."""
