"""What should be looked at, what a review says, and the page: who may see it, and what it can do."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path

import pytest
from scipy.stats import binomtest

from camouflage.batch import overview, reviewing
from camouflage.batch.accounts import Accounts, Outcome
from camouflage.batch.decisions import Decision, append, file_of, read_decisions
from camouflage.batch.host import Result
from camouflage.batch.photos import RUN
from camouflage.batch.plan import Manifest, demand_free, read_manifest
from camouflage.batch.review_server import Review, ReviewServer
from camouflage.errors import CamouflageError
from small_datasets import make_dataset, picture, record


def line(key: str, state: str = "safe", **fields) -> Outcome:
    return Outcome(key, f"{key}.png", state, **{"persons": ("safe",), "distance": 1.5, **fields})


def test_the_riskiest_come_first_and_each_says_why():
    lines = [line("fine"), line("near", distance=1.1), line("new", new=1), line("lost", lost=1),
             line("covered", "redacted", persons=("redacted",), lost=1),
             line("nobody", "nobody", persons=(), distance=None),
             line("doubt", "redacted", persons=("unverifiable",)), line("known", "redacted", persons=("recognisable",)),
             line("out", "blocked", reason="No face was found", persons=(), distance=None),
             line("bad", "unreadable", persons=(), distance=None)]
    found = reviewing.entries([(0, one) for one in lines], seed=1)
    assert [entry.key for entry in found if entry.risk] == ["out", "nobody", "known", "doubt", "near", "new", "lost"]
    assert {entry.key: entry.why for entry in found}["near"] == ("the nearest face is near the threshold",)
    assert found[0].reason == "No face was found"
    assert {entry.key for entry in found if entry.sample} == {one.key for one in lines} - {"out", "bad"}


def test_the_random_sample_is_drawn_from_all_saved_pictures_and_the_same_again():
    lines = [(n // 10, line(str(n))) for n in range(1000)]
    first, again, other = (reviewing.entries(lines, seed) for seed in (1, 1, 2))
    drawn = {entry.key for entry in first if entry.sample}
    assert first == again and len(drawn) == reviewing.SAMPLE and drawn != {entry.key for entry in other}
    assert 100 < sum(int(key) < 500 for key in drawn) < 200, "from everywhere"


def test_the_residual_risk_is_stated_only_from_a_sample_that_was_looked_at():
    found = reviewing.entries([(0, line(str(n))) for n in range(50)], 0)
    assert reviewing.residual_risk(found, {}) == "not measured"
    seen = {str(n): Decision(str(n), 0, recognisable=n == 0) for n in range(49)}
    assert reviewing.residual_risk(found, {0: seen}) == (
        "not measured: 49 of the 50 pictures of the random sample were looked at")
    seen["49"] = Decision("49", 0, recognisable=False)
    said = reviewing.residual_risk(found, {0: seen})
    ends = binomtest(1, 50).proportion_ci(method="exact")
    assert f"95 % interval {100 * ends.low:.2g} to {100 * ends.high:.2g} %" in said
    assert said.startswith("1 of 50 pictures")


def test_the_last_word_counts_and_a_torn_line_is_none(tmp_path):
    (tmp_path / RUN).mkdir()
    for word in ("redact", "reject", ""):
        append(tmp_path, Decision("a", 0, word))
    append(tmp_path, Decision("b", 1, "accept", False))
    with open(file_of(tmp_path), "ab") as file:
        file.write(b'{"key": "c", "un')
    assert read_decisions(tmp_path) == {(0, "a"): Decision("a", 0, ""), (1, "b"): Decision("b", 1, "accept", False)}
    append(tmp_path, Decision("d", 2, "redact"))
    with pytest.raises(CamouflageError, match="line 5 is no decision"):
        read_decisions(tmp_path)  # the torn line stands alone now: somebody must look


@pytest.mark.parametrize("fields", [{"word": "publish"}, {"recognisable": "no"}, {"unit": "0"}, {"key": 1}])
def test_what_is_no_decision_is_refused(fields):
    with pytest.raises(CamouflageError, match="A decision must have"):
        Decision(**{"key": "a", "unit": 0, "word": "", **fields})


# --- the page -------------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(tmp_path):
    """A run over three pictures, the second withheld, and its review being served."""
    at = make_dataset(tmp_path, {f"{n}.png": picture(n) for n in (1, 2, 3)},
                      {2: Result(state="blocked", reason="No face was found")})
    at.worker.work(at.units[0], {})
    entries = reviewing.entries(Accounts(at.output).lines([0]), 0)
    with ReviewServer(Review(at.source, at.units, at.output, entries)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at.server, at.entries = server, entries
        yield at
        server.shutdown()


def ask(at, path: str, method: str = "GET", content: object = None, token: str | None = None, **headers: str):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", at.server.server_port, timeout=10)
    sign = "&" if "?" in path else "?"
    body = None if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    token = at.server.token if token is None else token
    connection.request(method, f"{path}{sign}token={token}", body, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def decided(at, **content: object) -> int:
    return ask(at, "/decide", "POST", content)[0]


def test_it_shows_the_list_the_original_and_the_result(reviewed):
    status, headers, body = ask(reviewed, "/list")
    found = json.loads(body)
    assert status == 200 and [entry["key"] for entry in found["entries"]] == ["2.png", "1.png", "3.png"]
    assert found["risk"] == "not measured" and headers["Cache-Control"] == "no-store"
    assert [entry["result"] for entry in found["entries"]] == [False, True, True]
    status, headers, body = ask(reviewed, "/original?entry=0")
    assert (status, headers["Content-Type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert headers["Cache-Control"] == "no-store"
    status, headers, body = ask(reviewed, "/result?entry=1")
    assert body == (reviewed.output / "1.png").read_bytes() and headers["Content-Type"] == "image/png"
    assert ask(reviewed, "/result?entry=0")[0] == 400, "what was withheld is nowhere"
    for path in ("/", "/page.js", "/page.css"):
        status, headers, body = ask(reviewed, path)
        assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"http://" not in body and b"https://" not in body, "nothing from elsewhere"
    before = {path for path in reviewed.output.rglob("*")}
    assert ask(reviewed, "/original?entry=2")[0] == 200 and before == set(reviewed.output.rglob("*")), "nothing stored"


@pytest.mark.parametrize("path", ["/", "/list", "/original?entry=0", "/result?entry=1", "/decide"])
@pytest.mark.parametrize("intruder", [
    {"token": "wrong"}, {"token": ""}, {"Host": "evil.example"}, {"Origin": "http://evil.example"},
    {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}])
def test_others_are_refused(reviewed, path, intruder):
    method = "POST" if path == "/decide" else "GET"
    content = {"entry": 0, "word": "accept"} if path == "/decide" else None
    status, _, body = ask(reviewed, path, method, content, **intruder)
    assert status == 403 and b"Open the address" in body
    assert not read_decisions(reviewed.output)


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/page/../review_server.py", "/run.json", "//etc/passwd",
                                  "/original?entry=../1", "/original?entry=99", "/result?entry=-1", "/original",
                                  "/%2e%2e/run.json"])
def test_nothing_else_can_be_asked_for(reviewed, path):
    assert ask(reviewed, path)[0] in (400, 404)


def test_decisions_are_noted_and_applied_by_the_next_run(reviewed):
    assert decided(reviewed, entry=1, word="reject", recognisable=True) == 200
    assert decided(reviewed, entry=0, word="accept") == 200
    found = read_decisions(reviewed.output)
    assert found == {(0, "1.png"): Decision("1.png", 0, "reject", True), (0, "2.png"): Decision("2.png", 0, "accept")}
    lines = reviewed.worker.work(reviewed.units[0], {key: one for (_, key), one in found.items()})
    assert [one.state for one in lines] == ["rejected", "accepted", "redacted"]
    assert not (reviewed.output / "1.png").exists() and (reviewed.output / "2.png").exists()


@pytest.mark.parametrize("content", [b"", b"x", b"[]", b"{}", {"entry": "1"}, {"entry": 99, "word": "accept"},
                                     {"entry": 1, "word": "publish"}, {"entry": 1, "recognisable": "no"},
                                     {"entry": 0, "recognisable": False}, b" " * 20_000, {"entry": True, "word": ""}])
def test_what_is_no_decision_is_not_noted(reviewed, content):
    assert ask(reviewed, "/decide", "POST", content)[0] == 400
    assert not read_decisions(reviewed.output)


def test_another_kind_of_content_is_refused(reviewed):
    """A form of another page could send it without asking the browser first."""
    status, _, _ = ask(reviewed, "/decide", "POST", {"entry": 0, "word": "accept"}, Content_Type="text/plain")
    assert status == 400 and not read_decisions(reviewed.output)


# --- the manifest of a run and its overview -------------------------------------------------------------------------

SETTINGS = {"pipeline": "redact", "workflow": "a" * 64, "weights": "b" * 64, "seed": 0, "batch_size": 1,
            "form": "folder", "keep": [], "hash_names": False}


def manifest(units: tuple[str, ...] = ("1", "2"), **settings) -> Manifest:
    return Manifest({**SETTINGS, **settings}, units, "why", {"torch": "2"}, {"form": "folder"})


def test_a_manifest_comes_back_and_is_held_against_the_next_run(tmp_path):
    manifest().write(tmp_path)
    before = read_manifest(tmp_path)
    assert before == manifest()
    manifest().demand_same(before, tmp_path)
    for other, said in ((manifest(seed=7), r"--seed \(7, before 0\)"), (manifest(weights="c" * 64), "the weights"),
                        (manifest(workflow="c" * 64), r"the workflow or a setting in it \(cccccccccccc…, before aaa"),
                        (manifest(("1", "3")), "from part 2 of 2"), (manifest(("1",)), "from part 2 of 2"),
                        (manifest(("1", "2", "3")), "from part 3 of 2")):
        with pytest.raises(CamouflageError, match=said):
            other.demand_same(before, tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "camouflage-run", "version": 2}', "[]"])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / RUN).mkdir()
    (tmp_path / RUN / "run.json").write_text(text)
    with pytest.raises(CamouflageError, match="is no manifest of a run"):
        demand_free(tmp_path)


def test_the_overview_says_all_and_escapes_names():
    lines = [line("<b>john</b>", distance=1.2), line("x", "blocked", reason="<i>", distance=None)]
    page = overview.page(manifest(), lines, 1, 2, 10.0, 2, "not measured")
    assert "&lt;b&gt;john&lt;/b&gt;" in page and "<b>" not in page and "<i>" not in page
    assert "1 of 2" in page and "0.20 pictures a second" in page and "1.200" in page and "not measured" in page


def test_pictures_in_fiftyones_form(tmp_path):
    entry = reviewing.entries([(3, line("a"))], 0)[0]
    found = reviewing.fiftyone(Path("/out"), [entry], {"a.png": record("safe")})
    assert found["data"] == {"000003-000000": "/out/a.png"}
    (label,) = found["labels"]["labels"]["000003-000000"]
    assert label["label"] == "safe" and label["bounding_box"] == [0, 0, 0.5, 0.5]


