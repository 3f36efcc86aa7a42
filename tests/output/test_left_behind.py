"""What savers that were killed leave behind, and what the next one does with it: nothing half written, nothing lost."""

import errno
import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camouflage.output import encoding, publishing
from camouflage.verification import report as reports
from saved import report_of
from savers import child, heard, hidden, note, visible

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")
KILLED = {
    "half of the picture": """
class Half(io.FileIO):
    def write(self, data):
        super().write(data[:len(data) // 2])
        stop()
publishing.open = Half
""",
    "half of the manifest": """
class Half(io.FileIO):
    def write(self, data):
        super().write(data if data[:1] == b"d" else data[:len(data) // 2])
        if data[:1] != b"d":
            stop()
publishing.open = Half
""",
    "manifest but no picture": """
link = os.link
os.link = lambda source, target: stop() if str(target).endswith(".png") else link(source, target)
"""}
LEFT = ".camouflage-x_00001.tmp"


def real(name: str) -> dict[str, Any]:
    """A manifest as our node writes it."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    made = report_of(reports, [pixels])
    return encoding.manifest(made, 0, encoding.encoded(made, 0, pixels, "PNG", 95), name)


def aged(seconds: float, *files: Path) -> None:
    for file in files:
        found = file.lstat()
        os.utime(file, (found.st_atime - seconds, found.st_mtime - seconds), follow_symlinks=False)


def stopped_before_the_picture(folder: Path) -> subprocess.Popen:
    """A process that has published its manifest, and not its picture yet."""
    text = folder.parent / "manifest"
    text.write_text(json.dumps(real("x_00001.png")))
    running = child(folder, str(text), KILLED["manifest but no picture"] + "import json\n" "publishing.save("
                    "folder, 'x', '.png', b'd' * 100000, lambda name: json.load(open(task)))")
    assert heard(running) == "now\n"
    assert visible(folder) == ["x_00001.json"] and folder / LEFT in hidden(folder)
    return running


@posix
def test_the_manifest_that_a_kill_leaves_without_its_picture_goes_with_the_next_saving(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    running = stopped_before_the_picture(folder)
    try:
        aged(7200, *hidden(folder), folder / "x_00001.json")
        assert publishing.save(folder, "x", ".png", b"data").name == "x_00002.png"
        assert visible(folder) == ["x_00001.json", "x_00002.png"], "who reserved it lives, however long it takes"
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=60)
    (folder / "x_00002.png").unlink()
    path = publishing.save(folder, "x", ".png", b"data", real)
    assert path.name == "x_00001.png" and path.read_bytes() == b"data"
    assert json.loads(path.with_suffix(".json").read_text())["file"]["name"] == path.name
    assert visible(folder) == ["x_00001.json", "x_00001.png"] and hidden(folder) == []


@posix
def test_a_reservation_of_a_moment_ago_is_left_alone(tmp_path):
    """Also where its lock is free: on some network disks a lock ends at the machine."""
    folder = tmp_path / "output"
    folder.mkdir()
    running = stopped_before_the_picture(folder)
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=60)
    assert publishing.save(folder, "x", ".png", b"data").name == "x_00002.png"
    assert visible(folder) == ["x_00001.json", "x_00002.png"] and folder / LEFT in hidden(folder)
    aged(11, folder / LEFT)
    assert publishing.save(folder, "y", ".png", b"data").name == "y_00001.png", "whatever the next one is called"
    assert visible(folder) == ["x_00002.png", "y_00001.png"] and folder / LEFT not in hidden(folder)


def left_behind(folder: Path, manifest: object, seconds: float = 60) -> None:
    """What a killed process leaves: a reservation, and then a manifest."""
    (folder / LEFT).touch()
    (folder / "x_00001.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    aged(seconds, folder / LEFT, folder / "x_00001.json")


@pytest.mark.parametrize("theirs", [
    "", "{}", "[" * 5000, json.dumps({"format": "camouflage-manifest", "file": {"name": "x_00001.png"}}),
    json.dumps(real("x_00002.png")), json.dumps({**real("x_00001.png"), "version": 99}), '{"file": "x_00001.png"}'])
def test_what_is_no_manifest_of_this_number_is_never_removed(tmp_path, theirs):
    left_behind(tmp_path, theirs)
    assert publishing.save(tmp_path, "x", ".png", b"data").name == "x_00002.png"
    assert (tmp_path / "x_00001.json").read_text() == theirs and hidden(tmp_path) == []


@pytest.mark.parametrize("kept", ["a picture", "a picture in another format", "a link to nowhere", "older",
                                  "no reservation", "a link", "a reservation that is a link", "no locks"])
def test_a_manifest_is_kept_unless_all_of_it_says_that_it_was_left_behind(tmp_path, monkeypatch, kept):
    left_behind(tmp_path, real("x_00001.png"))
    manifest, reservation = tmp_path / "x_00001.json", tmp_path / LEFT
    if kept == "older":
        aged(60, manifest)
    elif kept == "no reservation":
        reservation.unlink()
    elif kept == "a link":
        manifest.rename(tmp_path / "elsewhere")
        manifest.symlink_to("elsewhere")
    elif kept == "a reservation that is a link":
        reservation.unlink()
        reservation.symlink_to("x_00001.json")
        aged(60, reservation)
    elif kept == "no locks":
        def fails(_):
            raise OSError(errno.ENOLCK, "No locks available")
        monkeypatch.setattr(publishing, "try_lock", fails)
    elif kept == "a link to nowhere":
        (tmp_path / "x_00001.webp").symlink_to("nowhere")
    else:
        (tmp_path / ("x_00001.png" if kept == "a picture" else "x_00001.jpg")).write_bytes(b"data")
    assert publishing.save(tmp_path, "x", ".png", b"data").name == "x_00002.png"
    assert json.loads(manifest.read_text()) == real("x_00001.png")
    if kept == "no locks":
        aged(3600, manifest, reservation)
        publishing.save(tmp_path, "x", ".png", b"data")
        assert not manifest.exists() and hidden(tmp_path) == []


def test_many_savers_clear_up_what_was_left_behind_and_share_no_number(tmp_path):
    for _ in range(5):
        left_behind(tmp_path, real("x_00001.png"))
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(lambda i: publishing.save(tmp_path, "x", ".png", b"%d" % i, real), range(16)))
        assert [path.read_bytes() for path in paths] == [b"%d" % i for i in range(16)]
        assert len(set(paths)) == 16 and hidden(tmp_path) == []
        assert {path.with_suffix(".json") for path in paths} == set(tmp_path.glob("*.json"))
        for path in tmp_path.iterdir():
            path.unlink()


@posix
@pytest.mark.parametrize("moment", KILLED)
def test_a_killed_process_leaves_nothing_half_written(tmp_path, moment):
    killed = child(tmp_path, moment, KILLED[moment] + "publishing.save(folder, 'x', '.png', b'd' * 100000, "
                                                      "lambda name: {'file': name})")
    assert heard(killed) == "now\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=60)
    left = ["x_00001.json"] if moment == "manifest but no picture" else []
    assert visible(tmp_path) == left and hidden(tmp_path), "killed where it should be"
    assert all(json.loads((tmp_path / name).read_text()) == {"file": "x_00001.png"} for name in left)

    path = publishing.save(tmp_path, "x", ".png", b"data", note)
    assert path.read_bytes() == b"data" and path.with_suffix(".json").exists()
    young = hidden(tmp_path)
    assert young, "they may still belong to somebody"
    mine = tmp_path / ".mine.tmp"
    mine.write_bytes(b"of another program")
    aged(3700, *young, mine)
    publishing.save(tmp_path, "x", ".png", b"data", note)
    assert hidden(tmp_path) == [mine]
