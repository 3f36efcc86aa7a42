"""Downloads of one file: resumed, repeated, checked before they get their name. Standard library only.

Beside the target lie, until it is complete, ``NAME.part`` with what has come so far and ``NAME.part.json`` with what
it is a part of. The process may end at any moment: the next one goes on from there, or starts anew.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import os
import re
import shutil
import ssl
import threading
import time
import urllib.error
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import CamouflageError
from ..files import file_sha256, remove_leftovers, to_disk, write_whole
from ..weights import Weight, size_text
from .digests import KnownDigests
from .state import DAMAGED, UNVERIFIED, judge, part_of, wrong_content
from .web import Linked, Web

TRIES = 5
"""How often in a row an attempt may end with less than ``PROGRESS`` bytes more than ever before."""
PROGRESS = 1 << 20
_LONGEST_PAUSE, _LONGEST_WAIT = 60.0, 300.0  # seconds: our own, and one that a server asks for
_BLOCK = 1 << 16
Report = Callable[[int, "int | None"], None]
"""Gets the bytes that are there, and how many there will be."""


class Cancelled(Exception):
    """The person has had enough; what came stays as a part."""


class _Again(Exception):
    """This attempt failed, the next one may not. ``wait``: seconds that the server asks for, if it does."""

    def __init__(self, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.wait = wait


@dataclass(frozen=True)
class _Begun:
    """What a part is a part of: address, version (ETag or time of change), length, the hub's digest and commit."""

    url: str
    version: str | None
    length: int | None
    published: str | None
    commit: str = ""

    @classmethod
    def read(cls, note: Path) -> _Begun | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            begun = cls(**json.loads(note.read_text(encoding="utf-8")))
            if isinstance(begun.version, str) and isinstance(begun.length, int):  # others cannot be gone on with
                return begun
        return None


def note_of(target: Path) -> Path:
    """The small file that says what ``target``'s part is a part of."""
    part = part_of(target)
    return part.with_name(part.name + ".json")


def discard(target: Path) -> None:
    """Removes what was begun."""
    part_of(target).unlink(missing_ok=True)
    note_of(target).unlink(missing_ok=True)


def download(weight: Weight, target: Path, web: Web, known: KnownDigests, trusted: set[str], *,
             report: Report = lambda *_: None, stop: threading.Event | None = None, replace: bool = False
             ) -> tuple[str, str]:
    """Brings one file into its place.

    Args:
        weight: what to fetch; it has an address.
        target: its place.
        web: the way to the network.
        known: remembers the digest.
        trusted: digests that the administrator vouches for.
        report: is told of progress.
        stop: ends the download soon after it is set.
        replace: a file in its place may be replaced; otherwise nothing is ever overwritten.

    Returns:
        "present" or "unverified", and why.

    Raises:
        CamouflageError: it cannot be had, or what came is not the file; nothing of that is kept under its name.
        Cancelled: ``stop`` was set.
    """
    stop = stop or threading.Event()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(note_of(target))
        tries, most = 0, _size(part_of(target))
        while True:
            try:
                begun, resumed = _receive(weight, target, web, trusted, report, stop)
                return _finish(weight, target, web, known, trusted, begun, resumed, replace)
            except _Again as again:
                came = _size(part_of(target))
                tries, most = (1, came) if came - most >= PROGRESS else (tries + 1, most)
                if tries >= TRIES:
                    raise CamouflageError(f"{weight.url} could not be downloaded: {again}. {TRIES} attempts in a row "
                                          "failed. What came is kept; try again later.") from None
                wait = min(web.pause * 2 ** (tries - 1), _LONGEST_PAUSE) if again.wait is None else again.wait
            if stop.wait(wait):
                raise Cancelled
    except OSError as error:
        raise CamouflageError(f"{target} cannot be written: {error.strerror or error}. Is there room on the disk, and "
                              "may you write there? What came is kept; then try again.") from error


def _receive(weight: Weight, target: Path, web: Web, trusted: set[str], report: Report, stop: threading.Event
             ) -> tuple[_Begun, bool]:
    """Gets what lacks into the part. Returns what it is, and whether some of it is from an earlier attempt."""
    assert weight.url
    part, url = part_of(target), web.address(weight.url)
    begun, have = _Begun.read(note_of(target)), _size(part)
    if begun is None or begun.url != url or have > (begun.length or 0):
        begun, have = None, 0
    elif have == begun.length:
        return begun, True
    headers = {"Range": f"bytes={have}-", "If-Range": begun.version or ""} if begun and have else {}
    with _answer(weight, target, web, headers) as (answer, linked):
        _refuse_pages(answer, weight)
        if answer.status == 206 and begun and have:
            if not _goes_on(answer, linked, begun, have):
                discard(target)
                raise _Again("the file changed on the server while it was downloaded")
        elif answer.status == 200:
            begun, have = _begin(answer, linked, url, weight, trusted), 0
            discard(target)
            write_whole(note_of(target), json.dumps(asdict(begun)).encode())
        else:
            raise _Again(f"the server answered with the status {answer.status}, not with the file")
        demand_room([(target, (begun.length or 0) - have)])
        resumed = have > 0
        with open(part, "ab" if have else "wb") as file:
            report(have, begun.length)
            for block in _blocks(answer):
                have += file.write(block)
                report(have, begun.length)
                if stop.is_set():
                    raise Cancelled
                if have > (begun.length or have):
                    break
    if begun.length is not None and have != begun.length:
        if have > begun.length:
            discard(target)
        raise _Again(f"the connection ended after {have:,} of {begun.length:,} bytes")
    return begun, resumed


@contextlib.contextmanager
def _answer(weight: Weight, target: Path, web: Web, headers: dict[str, str]
            ) -> Iterator[tuple[http.client.HTTPResponse, Linked]]:
    try:
        answer, linked = web.open(weight.url or "", headers)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, weight, target) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise CamouflageError(f"{weight.url} could not be downloaded: the server's certificate is not trusted "
                                  f"({reason.verify_message}). Is a proxy in between? SSL_CERT_FILE names a file with "
                                  "its certificate.") from error
        raise _Again(f"no connection ({_words(reason)})") from error
    with answer:
        yield answer, linked


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes."""
    while True:
        try:
            block = answer.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"the connection broke ({_words(error)})") from error
        if not block:
            return
        yield block


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came for too long"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _refusal(error: urllib.error.HTTPError, weight: Weight, target: Path) -> Exception:
    """What an answer that is no file means."""
    said = f"the server answered {error.code} {error.reason}".rstrip()
    if error.code == 416:  # our part is no beginning of what is there now
        discard(target)
        return _Again("the server has less than was there before")
    if error.code in (408, 425, 429) or error.code >= 500:
        wait = _retry_after(error.headers.get("Retry-After"))
        if wait is not None and wait > _LONGEST_WAIT:
            return CamouflageError(f"{weight.url} could not be downloaded: {said} and asks to wait {wait / 60:.0f} "
                                   "minutes. Try again after that; what came is kept.")
        return _Again(said, wait)
    hint = {401: "The publisher wants to know who you are: accept the licence on the file's page, and set HF_TOKEN to "
            "a token of your account.", 404: "Is it still on its page? A mirror may lack it."}
    return CamouflageError(f"{weight.url} could not be downloaded: {said}. "
                           + hint.get(401 if error.code == 403 else error.code,
                                      f"Download it by hand and put it into {target.parent}."))


def _retry_after(given: str | None) -> float | None:
    """Seconds, from seconds or from a date; None where neither stands there."""
    if given is None:
        return None
    if given.strip().isdecimal():
        return float(given)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(email.utils.parsedate_to_datetime(given).timestamp() - time.time(), 0.0)
    return None


def _refuse_pages(answer: http.client.HTTPResponse, weight: Weight) -> None:
    kind, coding = answer.headers.get_content_type(), answer.headers.get("Content-Encoding", "identity")
    if kind == "text/html" and "Content-Type" in answer.headers:
        raise CamouflageError(f"{weight.url} could not be downloaded: a web page came instead of the file. Is there a "
                              "login page in between (a hotel's, a company's), or is the address of the mirror wrong? "
                              "Nothing was kept of it.")
    if coding.lower() != "identity":
        raise CamouflageError(f"{weight.url} could not be downloaded: it came compressed ({coding}), though it was "
                              "asked for as it is. Is a proxy in between? Nothing was kept of it.")


def _version(answer: http.client.HTTPResponse) -> str | None:
    """What says whether two answers are of the same file: a strong ETag, else the time of change."""
    tag = answer.headers.get("ETag", "").strip()
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _goes_on(answer: http.client.HTTPResponse, linked: Linked, begun: _Begun, have: int) -> bool:
    """Whether a 206 is the rest of what was begun."""
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", "").strip())
    return bool(found and int(found[1]) == have and _version(answer) in (None, begun.version)
                and (not linked.digest or linked.digest == begun.published))


def _begin(answer: http.client.HTTPResponse, linked: Linked, url: str, weight: Weight, trusted: set[str]) -> _Begun:
    """What a whole answer is going to be. Raises CamouflageError where that cannot be the file."""
    given = answer.headers.get("Content-Length")
    length = linked.size if given is None or not given.isdecimal() else int(given)
    if None not in (length, linked.size) and length != linked.size:
        raise _Again(f"the server announced {length:,} bytes, the hub {linked.size:,}")
    if not trusted:
        if weight.size is not None and length not in (None, weight.size):
            raise CamouflageError(f"{weight.url} is not the file that was expected: {length:,} bytes were announced, "
                                  f"not {weight.size:,}. Nothing was kept of it.")
        if weight.sha256 and linked.digest and linked.digest != weight.sha256:
            raise CamouflageError(f"{weight.url} is not the file that was expected: the hub names the SHA-256 "
                                  f"{linked.digest}, not {weight.sha256}. Its publisher may have changed it. Nothing "
                                  "was kept of it.")
    if length is None and not (weight.sha256 or weight.size or linked.digest or weight.file.endswith(".json")):
        raise CamouflageError(f"{weight.url} could not be downloaded: the server does not say how long it is, and no "
                              "SHA-256 of it is known, so nobody could tell whether all of it came.")
    return _Begun(url, _version(answer), length, linked.digest, linked.commit)


def _finish(weight: Weight, target: Path, web: Web, known: KnownDigests, trusted: set[str], begun: _Begun,
            resumed: bool, replace: bool) -> tuple[str, str]:
    """Compares what came, and gives it its name."""
    assert weight.url
    part = part_of(target)
    size, digest, hub = _size(part), file_sha256(part), web.is_hub(weight.url)
    state, why = judge(weight, target.name, size, digest, trusted, begun.published if hub else None)
    if state == UNVERIFIED and begun.published not in (None, digest):
        state, why = DAMAGED, f"Its SHA-256 is {digest}, not {begun.published}."
    if mistake := wrong_content(part, target.name):
        state, why = DAMAGED, mistake
    if state == DAMAGED:
        discard(target)
        if resumed:
            raise _Again("the parts that came at different times are not one file")
        raise CamouflageError(f"{weight.url} is not the file that was expected. {why} Nothing was kept of it. Try "
                              "again, or another mirror.")
    to_disk(part)
    if os.path.lexists(target) and not replace:
        raise CamouflageError(f"{target} has come to be while it was downloaded. It was not overwritten; the download "
                              f"is in {part}.")
    os.replace(part, target)
    known.keep(target, digest)
    if hub and begun.published:
        known.keep_published(target, weight.url, begun.published)
    discard(target)
    to_disk(target.parent)
    return state, why + (f" It is of the commit {begun.commit}." if begun.commit else "")


def demand_room(needs: Iterable[tuple[Path, int]]) -> None:
    """Raises CamouflageError where a disk has less room than the files that shall lie on it need, in bytes."""
    disks: dict[int, tuple[Path, int]] = {}
    for path, need in needs:
        folder = there_above(path)
        device = folder.stat().st_dev
        disks[device] = folder, disks.get(device, (folder, 0))[1] + need
    for folder, need in disks.values():
        if need > (free := shutil.disk_usage(folder).free):
            raise CamouflageError(f"{size_text(need)} are needed on the disk of {folder}, and {size_text(free)} are "
                                  "free. Make room, or let the models lie elsewhere: in a folder that ComfyUI's "
                                  "extra_model_paths.yaml names, or the command's --models.")


def there_above(path: Path) -> Path:
    """The deepest folder above a file that is there already."""
    return next(place for place in path.absolute().parents if place.exists())


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
