"""Units of work: what goes through together, in which order, and that every picture is accounted for."""

from __future__ import annotations

import errno
import hashlib
import os
from functools import partial
from pathlib import Path

import pytest

from camouflage.batch import folders
from camouflage.batch.accounts import STATES, Accounts, Outcome, counts, quarantine
from camouflage.batch.client import NodeFailed, ServerDied
from camouflage.batch.decisions import Decision
from camouflage.batch.host import Host, Result, ServerOptions, Stopped, refused
from camouflage.batch.worker import WINDOW
from camouflage.errors import CamouflageError
from small_datasets import GRAPH, StandIn, make_dataset, picture, record


@pytest.fixture
def dataset(tmp_path):
    return partial(make_dataset, tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file()}


def names_of(lines: list[Outcome]) -> list[str]:
    return [line.name for line in lines]


def test_a_picture_gets_its_result_its_record_and_a_line(dataset):
    at = dataset({"a.jpg": picture(3)})
    (line,) = at.worker.work(at.units[0], {})
    assert at.pixels("a.png") == 252 and at.record("a.json")["file"]["name"] == "a.png"
    digest = hashlib.sha256((at.output / "a.png").read_bytes()).hexdigest()
    assert line == Outcome("a.jpg", "a.png", "redacted", sha256=digest, distance=0.9 / 0.6, persons=("redacted",))
    assert Accounts(at.output).read(0) == [line]


def test_what_becomes_of_pictures_is_said_in_their_order(dataset):
    blocked = Result(state="blocked", reason="No face was found")
    at = dataset({"1.png": picture(1), "2.png": b"broken", "3.png": picture(3), "4.png": picture(4, 40, 64),
                  "5.png": picture(5)}, {1: blocked, 3: Result(state="failed", reason="a node: why")})
    lines = at.worker.work(at.units[0], {})
    assert [line.state for line in lines] == ["blocked", "unreadable", "failed", "unreadable", "redacted"]
    assert "40 x 64 px" in lines[3].reason
    assert set(files(at.output)) == {"5.png", "5.json", "_camouflage/accounts/000000.jsonl"}
    assert quarantine(lines).splitlines()[:2] == ["key,state,reason", "1.png,blocked,No face was found"]
    assert counts(lines) == {"blocked": 1, "unreadable": 2, "failed": 1, "redacted": 1}


def test_pictures_of_one_size_go_through_together_in_order(dataset):
    sizes = {1: (64, 64), 2: (80, 64), 3: (64, 64), 4: (80, 64), 5: (64, 64), 6: (96, 64)}
    at = dataset({f"{n}.png": picture(n, *size) for n, size in sizes.items()}, batch_size=2)
    lines = at.worker.work(at.units[0], {})
    assert at.host.together == [[1, 3], [2, 4], [5], [6]]
    assert names_of(lines) == [f"{n}.png" for n in range(1, 7)], "in the order of the source"


def test_none_waits_for_long(dataset):
    photos = {"00.png": picture(200, 96, 64)} | {f"{n:02d}.png": picture(n) for n in range(1, 2 * WINDOW + 3)}
    at = dataset(photos, batch_size=2)
    at.worker.work(at.units[0], {})
    assert at.host.together.index([200]) == WINDOW, "after 2 x WINDOW pictures"


def test_a_batch_in_which_something_happens_is_run_one_by_one(dataset):
    at = dataset({f"{n}.png": picture(n) for n in (1, 2, 3)}, {2: Result(state="blocked", reason="no")}, batch_size=3)
    lines = at.worker.work(at.units[0], {})
    assert at.host.together == [[1, 2, 3], [1], [2], [3]]
    assert [line.state for line in lines] == ["redacted", "blocked", "redacted"]


def test_seeds_follow_from_the_keys_and_the_runs_seed(dataset):
    at = dataset({"1.png": picture(1), "2.png": picture(2), "3.png": picture(3)}, batch_size=2)
    at.worker.work(at.units[0], {})
    assert at.host.seeds == [at.plan.picture_seed(["1.png", "2.png"]), at.plan.picture_seed(["3.png"])]
    text = '[0, "1.png", "2.png"]'
    assert at.host.seeds[0] == int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    other = dataset({}, seed=1, output="other")
    assert other.plan.picture_seed(["3.png"]) != at.host.seeds[1]


def test_a_full_disk_leaves_nothing_of_the_unit_and_a_sentence(dataset, monkeypatch):
    at = dataset({"1.png": picture(1), "2.png": picture(2)})
    write = os.fsync

    def full(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("2.png"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "2.png")
        write(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Stopped, match=r"No space left on device.*run the same command again"):
        at.worker.work(at.units[0], {})
    assert not files(at.output) and not Accounts(at.output).done(0)
    monkeypatch.undo()
    assert len(at.worker.work(at.units[0], {})) == 2


def test_what_a_killed_run_left_is_cleared_away(dataset):
    at = dataset({"1.png": picture(1)})
    for torn in (at.output / "_camouflage" / folders.STAGING / "000000-dead" / "1.png",
                 at.output / "_camouflage" / "accounts" / ".000000.jsonl-x"):
        torn.parent.mkdir(parents=True)
        torn.write_bytes(b"half")
    at.worker.work(at.units[0], {})
    assert set(files(at.output)) == {"1.png", "1.json", "_camouflage/accounts/000000.jsonl"}


# --- decisions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(dataset):
    """Three pictures that are done, the second withheld."""
    at = dataset({f"{n}.png": picture(n) for n in (1, 2, 3)}, {2: Result(state="blocked", reason="No face")})
    at.worker.work(at.units[0], {})
    at.host.together.clear()
    return at


def again(at, **words: str) -> list[Outcome]:
    return at.worker.work(at.units[0], {f"{key[1:]}.png": Decision(f"{key[1:]}.png", 0, word)
                                        for key, word in words.items()})


def test_pictures_without_a_decision_are_taken_over_as_they_are(reviewed):
    before = files(reviewed.output)
    lines = again(reviewed, _1="redact")
    assert reviewed.host.together == [[1]]
    after = files(reviewed.output)
    assert {name for name in after if after[name] != before.get(name)} == {"_camouflage/accounts/000000.jsonl"}
    assert [line.decision for line in lines] == ["redact", "", ""]


def test_a_rejected_picture_is_taken_out_and_comes_back(reviewed):
    lines = again(reviewed, _3="reject")
    assert [line.state for line in lines] == ["redacted", "blocked", "rejected"]
    assert not (reviewed.output / "3.png").exists() and not (reviewed.output / "3.json").exists()
    assert reviewed.host.together == [], "nothing is computed for it"
    assert again(reviewed, _3="")[2].state == "redacted" and reviewed.pixels("3.png") == 252


def test_accepting_what_was_saved_keeps_it_as_it_is(reviewed):
    """On a GPU it might be painted otherwise the next time, and the reviewer has seen this one."""
    before = files(reviewed.output)
    line = again(reviewed, _3="accept")[2]
    assert (line.state, line.decision) == ("redacted", "accept") and reviewed.host.together == []
    assert files(reviewed.output)["3.png"] == before["3.png"]


def test_an_accepted_picture_is_never_called_safe(reviewed):
    line = again(reviewed, _2="accept")[1]
    assert line.state == "accepted" and line.decision == "accept" and (reviewed.output / "2.png").is_file()


# --- what ComfyUI says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("node", "kind", "said", "state"), [
    ("CamouflageVerify", "x.verify.Blocked", "No face was found", "blocked"),
    ("CamouflageRedact", "x.verify.Blocked", "No face was found", "blocked"),
    ("CamouflageSaveImage", "x.errors.CamouflageError", "Save Anonymized: Nothing was saved. JPEG ...", "blocked"),
    ("CamouflageVerify", "x.errors.CamouflageError", "'original' must ...", "failed"),
    ("SomebodysNode", "x.Blocked", "?", "failed"),
    ("KSampler", "torch.OutOfMemoryError", "out of memory", "failed"),
])
def test_withheld_is_told_from_failed(node, kind, said, state):
    result = refused(NodeFailed("", {"node_type": node, "exception_type": kind, "exception_message": said}))
    assert result.state == state in STATES and said.split(":")[0] in result.reason and result.data is None


class Dying(Host):
    """Dies of the pictures in ``deaths``, so many times each."""

    def __init__(self, deaths: int) -> None:
        super().__init__(ServerOptions(Path()))
        self.deaths, self.calls = deaths, 0

    def saved(self, graph, images, seed):
        self.calls += 1
        if self.deaths:
            self.deaths -= 1
            raise ServerDied("gone")
        return [Result(b"x", record())]


@pytest.mark.parametrize(("deaths", "state", "calls"), [(0, "", 1), (1, "", 2), (2, "failed", 2)])
def test_a_picture_that_ends_comfyui_is_tried_once_more(deaths, state, calls):
    from PIL import Image

    host = Dying(deaths)
    result = host.alone(GRAPH, Image.new("RGB", (64, 64)), 0)
    assert result.state == state and host.calls == calls


def test_an_account_that_was_changed_is_refused(dataset):
    at = dataset({"1.png": picture(1)})
    at.worker.work(at.units[0], {})
    file = Accounts(at.output).file(0)
    for text in ('{"key": 1}\n', file.read_text().replace("redacted", "fine"), "x\n"):
        file.write_text(text)
        with pytest.raises(CamouflageError, match="delete it"):
            Accounts(at.output).read(0)


def test_the_stand_in_closes():
    host = StandIn()
    host.close()
    assert host.closed
