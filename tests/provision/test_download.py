"""Downloads from a server that does everything wrong: nothing wrong is kept, and the next one comes to the file."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.request
from dataclasses import replace
from http.client import HTTPMessage
from pathlib import Path

import pytest

from camouflage.errors import CamouflageError
from camouflage.provision import download as downloads
from camouflage.provision.download import Cancelled, demand_room, download, note_of
from camouflage.provision.state import MISSING, PARTLY, PRESENT, UNVERIFIED, part_of, states
from camouflage.provision.web import HUB, Linked, Web, _Redirects, from_environment
from camouflage.weights import Weight

NAME = "/someone/something/resolve/main/model.bin"
LENGTH = 100_000


def weight_of(data: bytes | None, knows: str, name: str = "model.bin") -> Weight:
    """A row of the registry that knows the digest, the size or nothing."""
    row = Weight("test", name, "camouflage", HUB + NAME, "MIT", True)
    if data is None or knows == "nothing":
        return row
    return replace(row, size=len(data), sha256=hashlib.sha256(data).hexdigest() if knows == "digest" else None)


@pytest.fixture
def web(server) -> Web:
    return Web(hub=server.url, token="secret", timeout=0.3, pause=0.01)


@pytest.fixture
def get(web, known, tmp_path):
    """Downloads a weight into tmp_path/models/camouflage."""
    def run(weight: Weight, *, web: Web = web, trusted: set[str] | None = None, **options) -> tuple[str, str]:
        return download(weight, target_of(tmp_path), web, known, trusted or set(), **options)
    return run


def target_of(folder: Path) -> Path:
    return folder / "models" / "camouflage" / "model.bin"


def nothing_else(folder: Path) -> None:
    """In the models folder lies the file alone."""
    assert [path.name for path in target_of(folder).parent.iterdir()] == ["model.bin"]


ALL = ("digest", "size", "nothing")
HEALS = [("break", ALL), ("break break break", ALL), ("stall", ALL), ("503 503", ALL), ("429", ALL),
         ("break ignore-range", ALL), ("break other-tag", ALL), ("lie-long", ("nothing",)), ("break lie-long", ALL),
         ("break 503 stall", ALL)]
FAILS = [("page", ALL, "a web page came instead"), ("hidden-page", ("digest", "size"), "not the file"),
         ("hidden-page", ("nothing",), "It is a web page"), ("wrong", ("digest",), "SHA-256"),
         ("break wrong", ("digest",), "SHA-256"), ("lie-long", ("digest", "size"), f"{LENGTH + 1000:,} bytes"),
         ("lie-short", ("digest", "size"), f"{LENGTH - 1000:,} bytes"), ("503 503 503 503 503", ALL, "answered 503"),
         ("429 429 429 429 429", ALL, "answered 429"), ("no-length", ("nothing",), "does not say how long"),
         ("lie-long lie-long lie-long lie-long lie-long lie-long lie-long", ("nothing",), "attempts in a row"),
         ("stall stall stall stall stall", ("digest",), "nothing came for too long"),
         ("503:9999", ALL, "asks to wait 167 minutes")]


@pytest.mark.parametrize(("moods", "knows"), [(moods, knows) for moods, every in HEALS for knows in every])
def test_one_call_comes_through_what_passes(server, get, content, tmp_path, moods, knows):
    server.files[NAME] = data = content(LENGTH)
    server.moods[NAME] = moods.split()
    state, _ = get(weight_of(data, knows))
    assert state == (PRESENT if knows == "digest" else UNVERIFIED)
    assert target_of(tmp_path).read_bytes() == data
    nothing_else(tmp_path)
    assert server.moods[NAME] == [], "everything happened"
    assert not any("Authorization" in headers for _, headers in server.asked), "no token without https"


@pytest.mark.parametrize(("moods", "knows", "said"),
                         [(moods, knows, said) for moods, every, said in FAILS for knows in every])
def test_what_does_not_pass_is_said_and_never_kept(server, get, content, tmp_path, moods, knows, said):
    server.files[NAME] = data = content(LENGTH)
    server.moods[NAME] = [mood.replace(":", " ") for mood in moods.split()]
    with pytest.raises(CamouflageError, match=said) as caught:
        get(weight_of(data, knows))
    assert HUB + NAME in str(caught.value)
    assert not target_of(tmp_path).exists()
    server.moods.clear()
    get(weight_of(data, knows))
    assert target_of(tmp_path).read_bytes() == data
    nothing_else(tmp_path)


def test_what_a_kill_left_of_the_note_goes(server, get, content, tmp_path):
    server.files[NAME] = data = content(LENGTH)
    target_of(tmp_path).parent.mkdir(parents=True)
    target_of(tmp_path).with_name(".model.bin.part.json-x1y2z3").write_text("{")
    get(weight_of(data, "digest"))
    nothing_else(tmp_path)


def test_what_came_is_not_fetched_again(server, get, content, tmp_path):
    server.files[NAME] = data = content(LENGTH)
    server.moods[NAME] = ["break", "503", "503", "503", "503"]
    with pytest.raises(CamouflageError, match="What came is kept"):
        get(weight_of(data, "digest"))
    assert part_of(target_of(tmp_path)).stat().st_size == LENGTH // 2
    get(weight_of(data, "digest"))
    assert server.served == LENGTH
    headers = server.asked[-1][1]
    assert headers["Range"] == f"bytes={LENGTH // 2}-" and headers["If-Range"].strip('"')


def test_a_part_that_is_complete_needs_no_server(server, get, content, tmp_path):
    data, target = content(LENGTH), target_of(tmp_path)
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(data)
    note_of(target).write_text(json.dumps({"url": server.url + NAME, "version": '"1"', "length": LENGTH,
                                           "published": None}))
    assert get(weight_of(data, "digest"))[0] == PRESENT
    assert server.asked == [] and target.read_bytes() == data


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}', "other address", "too long"])
def test_a_part_of_something_else_is_not_gone_on_with(server, get, content, tmp_path, note):
    server.files[NAME] = data = content(LENGTH)
    target, tag = target_of(tmp_path), f'"{hashlib.md5(data).hexdigest()}"'
    begun = {"url": server.url + NAME, "version": tag, "length": 500, "published": None}
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(b"x" * 1000)
    notes = {"other address": json.dumps({**begun, "url": "http://elsewhere/x", "length": LENGTH}),
             "too long": json.dumps(begun)}
    note_of(target).write_text(notes.get(note, note))
    get(weight_of(data, "nothing"))
    assert target.read_bytes() == data and server.served == LENGTH


def test_a_file_that_changes_in_the_middle_is_the_new_one(server, get, content, tmp_path):
    server.files[NAME], new = content(LENGTH), content(LENGTH, 1)
    server.moods[NAME] = ["break", "503", "503", "503", "503"]
    with pytest.raises(CamouflageError):
        get(weight_of(None, "nothing"))
    server.files[NAME] = new
    get(weight_of(None, "nothing"))
    assert target_of(tmp_path).read_bytes() == new


def test_a_damaged_part_is_fetched_anew(server, get, content, tmp_path):
    server.files[NAME] = data = content(LENGTH)
    server.moods[NAME] = ["break", "503", "503", "503", "503"]
    with pytest.raises(CamouflageError):
        get(weight_of(data, "digest"))
    part_of(target_of(tmp_path)).write_bytes(b"x" * (LENGTH // 2))
    get(weight_of(data, "digest"))
    assert target_of(tmp_path).read_bytes() == data


@pytest.mark.parametrize("first", ["good", "wrong"])
def test_the_hubs_digest_counts_where_the_registry_has_none(server, get, known, content, tmp_path, first):
    server.files[NAME] = server.files["/cdn"] = data = content(LENGTH)
    server.moods[NAME] = [f"redirect http://localhost:{server.server_port}/cdn"] * 2
    server.moods["/cdn"] = [first]
    weight = weight_of(data, "nothing")
    if first == "wrong":
        with pytest.raises(CamouflageError, match=f"not {hashlib.sha256(data).hexdigest()}"):
            get(weight)
        assert not target_of(tmp_path).exists()
    assert get(weight)[0] == PRESENT
    assert "localhost" in server.asked[-1][1]["Host"]
    assert all("Authorization" not in headers for _, headers in server.asked)
    assert known.published(target_of(tmp_path), weight.url or "") == hashlib.sha256(data).hexdigest()
    (file,) = states([weight], lambda key: [tmp_path / "models" / key], known)
    assert file.state == PRESENT and file.why == "Its SHA-256 is the published one."


def test_a_mirrors_digest_guards_the_way_and_vouches_for_nothing(server, get, content, tmp_path):
    server.files["/base" + NAME] = data = content(LENGTH)
    mirror = Web(mirror=server.url + "/base/", timeout=0.3, pause=0.01)
    server.headers = {"X-Linked-Etag": f'"{"0" * 64}"'}
    with pytest.raises(CamouflageError, match=f"not {'0' * 64}"):
        get(weight_of(data, "size"), web=mirror)
    server.headers = {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
    assert get(weight_of(data, "size"), web=mirror)[0] == UNVERIFIED


def test_a_length_that_the_hub_denies_is_a_lie(server, get, content, tmp_path):
    server.files[NAME] = data = content(LENGTH)
    server.headers = {"X-Linked-Size": str(LENGTH + 1)}
    with pytest.raises(CamouflageError, match="announced 100,000 bytes, the hub 100,001"):
        get(weight_of(data, "nothing"))
    assert list(target_of(tmp_path).parent.iterdir()) == []


def test_a_changed_publication_is_seen_before_it_is_fetched(server, get, content, tmp_path):
    server.files[NAME] = data = content(LENGTH)
    server.headers = {"X-Linked-Etag": f'"{"1" * 64}"'}
    with pytest.raises(CamouflageError, match="Its publisher may have changed it"):
        get(replace(weight_of(data, "digest"), size=None))
    assert list(target_of(tmp_path).parent.iterdir()) == []


def test_what_the_administrator_vouches_for_is_right(server, get, content, tmp_path):
    server.files[NAME] = data = content(LENGTH)
    weight = weight_of(content(50, 1), "digest")
    with pytest.raises(CamouflageError, match="100,000 bytes were announced, not 50"):
        get(weight)
    assert get(weight, trusted={hashlib.sha256(data).hexdigest()}) == (PRESENT, "Its SHA-256 stands in SHA256SUMS.")
    assert target_of(tmp_path).read_bytes() == data


def test_json_must_be_json(server, get, known, tmp_path, web):
    weight, target = weight_of(None, "nothing", "config.json"), tmp_path / "config.json"
    server.files[NAME] = b'{"error": "no'
    with pytest.raises(CamouflageError, match="not JSON"):
        download(weight, target, web, known, set())
    assert list(tmp_path.iterdir()) == []
    server.files[NAME] = b'{"a": 1}'
    assert download(weight, target, web, known, set())[0] == UNVERIFIED and target.read_bytes() == b'{"a": 1}'


def test_nobody_elses_file_is_overwritten(server, get, content, tmp_path):
    server.files[NAME], target = content(LENGTH), target_of(tmp_path)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    with pytest.raises(CamouflageError, match="not overwritten"):
        get(weight_of(server.files[NAME], "digest"))
    assert target.read_bytes() == b"mine"
    get(weight_of(server.files[NAME], "digest"), replace=True)
    assert target.read_bytes() == server.files[NAME]


def test_a_download_can_be_cancelled_and_gone_on_with(server, get, known, content, tmp_path):
    server.files[NAME], server.pause, stop = content(LENGTH), 0.05, threading.Event()
    weight = weight_of(server.files[NAME], "digest")
    with pytest.raises(Cancelled):
        get(weight, stop=stop, report=lambda have, _: stop.set() if have > 30_000 else None)

    def state():
        return states([weight], lambda key: [tmp_path / "models" / key], known)[0]

    assert state().state == PARTLY and 30_000 < (state().size or 0) < LENGTH
    server.pause = 0
    get(weight)
    assert state().state == PRESENT
    target_of(tmp_path).unlink()
    assert state().state == MISSING


def test_the_disk_must_have_room(server, get, content, tmp_path, monkeypatch):
    server.files[NAME] = content(LENGTH)
    free = downloads.shutil.disk_usage(tmp_path)._replace(free=150_000)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: free)
    demand_room([(target_of(tmp_path), 150_000)])
    with pytest.raises(CamouflageError, match=r"200\.0 kB are needed.*150\.0 kB are free"):
        demand_room([(target_of(tmp_path), 100_000), (tmp_path / "x", 100_000)])
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: free._replace(free=99_999))
    with pytest.raises(CamouflageError, match="Make room"):
        get(weight_of(server.files[NAME], "digest"))
    assert not target_of(tmp_path).exists()


def test_the_token_goes_to_the_hub_over_https_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " secret\n")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    web = from_environment()

    def token(request: urllib.request.Request) -> str | None:
        return request.get_header("Authorization")

    def sent_to(web: Web, url: str) -> str | None:
        request = urllib.request.Request(url)
        web.authorise(request)
        return token(request)

    assert sent_to(web, HUB + NAME) == "Bearer secret" and "secret" not in repr(web)
    for url in ("http://huggingface.co/x", "https://huggingface.co.evil.example/x", "https://github.com/x",
                "https://huggingface.co:444/x"):
        assert sent_to(web, url) is None
    mirrored = from_environment("https://mirror.example/hub")
    assert mirrored.address(HUB + NAME) == "https://mirror.example/hub" + NAME
    assert mirrored.address("https://github.com/a/b?c=d") == "https://mirror.example/hub/a/b?c=d"
    assert sent_to(mirrored, mirrored.address(HUB + NAME)) is None
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    other = from_environment()
    assert other.address(HUB + NAME) == "https://hub.example" + NAME
    assert other.address("https://github.com/x") == "https://github.com/x"
    first = urllib.request.Request(HUB + NAME)
    web.authorise(first)
    redirects, answer = _Redirects(web, HUB + NAME), HTTPMessage()
    home = redirects.redirect_request(first, None, 307, "", HTTPMessage(), HUB + "/renamed")
    assert home is not None and token(home) == "Bearer secret"
    answer["X-Linked-Etag"], answer["X-Linked-Size"], answer["X-Repo-Commit"] = f'"{"a" * 64}"', "12", "abc"
    away = redirects.redirect_request(home, None, 302, "", answer, "https://cdn.example/x")
    assert away is not None and token(away) is None
    others = HTTPMessage()
    others["X-Linked-Etag"] = f'"{"b" * 64}"'
    redirects.note("https://cdn.example/x", others)
    assert redirects.linked == Linked("a" * 64, 12, "abc")
    for url in ("http://huggingface.co/x", "ftp://huggingface.co/x"):
        with pytest.raises(CamouflageError, match="not safe"):
            redirects.redirect_request(first, None, 302, "", HTTPMessage(), url)
    for mirror in ("ftp://x", "mirror.example", "https://user:word@mirror.example", ""):
        with pytest.raises(CamouflageError, match="--mirror must be an address"):
            from_environment(mirror)


def test_a_server_that_is_not_there_ends_soon(get, known, content, tmp_path):
    began = time.monotonic()
    with pytest.raises(CamouflageError, match="no connection"):
        get(weight_of(b"x", "digest"), web=Web(hub="http://127.0.0.1:9", timeout=0.3, pause=0.01))
    assert time.monotonic() - began < 5
