"""The one way to the network: plain HTTP, with a mirror, a token that goes to the hub alone, and redirects.

Standard library only.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from ..errors import CamouflageError

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Linked:
    """What the hub says of a large file before it sends its reader elsewhere.

    Attributes:
        digest: SHA-256, hex; None where it names none.
        size: bytes; None where it names none.
        commit: of the repository that the file is from; "" where it names none.
    """

    digest: str | None = None
    size: int | None = None
    commit: str = ""


@dataclass(frozen=True)
class Web:
    """Where downloads come from.

    Attributes:
        mirror: scheme, host and perhaps a path that replace scheme and host of every address; None for none.
        hub: the same for addresses on huggingface.co alone.
        token: sent to the hub, over https, and to nobody else.
        timeout: seconds without a byte after which a connection counts as broken.
        pause: seconds before the first repetition; doubled for each further one.
    """

    mirror: str | None = None
    hub: str = HUB
    token: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    pause: float = 1.0

    def address(self, url: str) -> str:
        """Where a file of the registry is fetched from."""
        if self.mirror:
            return self.mirror.rstrip("/") + urlunsplit(("", "", *urlsplit(url)[2:]))
        return self.hub.rstrip("/") + url.removeprefix(HUB) if url.startswith(HUB + "/") else url

    def open(self, url: str, headers: dict[str, str] | None = None, method: str = "GET"
             ) -> tuple[http.client.HTTPResponse, Linked]:
        """Asks for a file of the registry; the caller closes the answer.

        Raises:
            urllib.error.HTTPError: an answer that is neither 200 nor 206.
            OSError, http.client.HTTPException: no whole answer came.
            CamouflageError: a redirect that is not followed.
        """
        redirects = _Redirects(self, url)
        request = urllib.request.Request(self.address(url), method=method, headers={
            "User-Agent": "camouflage-weights", "Accept-Encoding": "identity", **(headers or {})})
        self.authorise(request)
        answer = urllib.request.build_opener(redirects).open(request, timeout=self.timeout)
        redirects.note(answer.url, answer.headers)
        return answer, redirects.linked

    def authorise(self, request: urllib.request.Request) -> None:
        """Adds the token to a request that goes to the hub over https; redirects do not inherit it."""
        there, hub = urlsplit(request.full_url), urlsplit(self.hub)
        if self.token and there.scheme == hub.scheme == "https" and there.netloc.lower() == hub.netloc.lower():
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")

    def is_hub(self, url: str) -> bool:
        """Whether a digest in the answer is the hub's word; a mirror's word only guards the way."""
        return self.mirror is None and url.startswith(HUB + "/")


def from_environment(mirror: str | None = None, timeout: float = 30.0) -> Web:
    """As HF_ENDPOINT and HF_TOKEN say. Raises CamouflageError for an address that is none."""
    hub = os.environ.get("HF_ENDPOINT", "").strip() or HUB
    for source, address in (("--mirror", mirror), ("HF_ENDPOINT", hub)):
        if address is not None and not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", address, re.IGNORECASE):
            raise CamouflageError(f"{source} must be an address such as https://mirror.example, not {address!r}.")
    return Web(mirror, hub, os.environ.get("HF_TOKEN", "").strip() or None, timeout)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, never from https to http."""

    def __init__(self, web: Web, url: str) -> None:
        self.web = web
        self.home = urlsplit(web.address(url)).netloc
        self.linked = Linked()

    def note(self, url: str, headers: Message) -> None:
        """What the asked host says first counts; those that it sends its reader to have no say."""
        if urlsplit(url).netloc == self.home and self.linked.digest is None:
            self.linked = _linked(headers)

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
                         headers: http.client.HTTPMessage, newurl: str) -> urllib.request.Request | None:
        self.note(req.full_url, headers)
        was, to = urlsplit(req.full_url), urlsplit(newurl)
        if to.scheme not in ("http", "https") or (was.scheme, to.scheme) == ("https", "http"):
            raise CamouflageError(f"{was.netloc} sent the download of {was.path} on to {to.scheme}://{to.netloc}, "
                                  "which is not safe, so it was not followed. Is a proxy or a login page in between?")
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None:
            made.method = req.get_method()
            self.web.authorise(made)
        return made


def _linked(headers: Message) -> Linked:
    digest = (headers.get("X-Linked-Etag") or "").strip().removeprefix("W/").strip('"').lower()
    size = (headers.get("X-Linked-Size") or "").strip()
    return Linked(digest if re.fullmatch(r"[0-9a-f]{64}", digest) else None,
                  int(size) if size.isascii() and size.isdigit() else None, headers.get("X-Repo-Commit") or "")


def length_of(web: Web, url: str) -> int | None:
    """Bytes of a file, asked for without fetching it; None where nobody says so at once."""
    with contextlib.suppress(OSError, http.client.HTTPException, CamouflageError, ValueError):
        answer, linked = web.open(url, method="HEAD")
        with answer:
            given = linked.size if linked.size is not None else answer.headers.get("Content-Length")
            return None if given is None or answer.headers.get_content_type() == "text/html" else int(given)
    return None
