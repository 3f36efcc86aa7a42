"""Saving on a disk: names, never outside the folder, never over a file, whole or not at all, many at the same time."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from camouflage.errors import CamouflageError
from camouflage.output import publishing
from savers import child, heard, hidden, note, visible

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [
    "../../x", "/etc/x", "C:\\x", "C:/x", "a/../b", "..", ".", "./x", "a/./b", "a\\b", "\\\\server\\x", "", "/", "a/",
    "a//b", ".x", "a/.x", "~/x\0", "a\nb", "x\u202egnp", "x\ud800", "x\u200b", "x.", "x ", " x", "a /b", "a./b", "con",
    "NUL", "aux.txt", "COM1", "a/lpt9/b", "com¹", "nul .a", "x" * 101, "ü" * 101, "\U0001f600" * 60, "a<b", "a>b",
    'a"b', "a|b", "a?b", "a*b", "%date%", "100%", None, 5, Path("x")])
def test_bad_prefixes_are_refused(tmp_path, prefix):
    with pytest.raises(CamouflageError, match="'filename_prefix' must be a name"):
        publishing.save(tmp_path / "output", prefix, ".png", b"data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["camouflage", "a/b/c", "Ünïcode 人", "x" * 100, "console", "a.b", "x-1_2", "~x"])
def test_good_prefixes(tmp_path, prefix):
    path = publishing.save(tmp_path / "output", prefix, ".png", b"data", note)
    assert path == (tmp_path / "output").resolve() / f"{prefix}_00001.png" and path.read_bytes() == b"data"
    assert json.loads(path.with_suffix(".json").read_text()) == {"file": path.name}
    assert hidden(tmp_path) == []


def test_links_cannot_lead_out(tmp_path):
    output, outside = tmp_path / "output", tmp_path / "outside"
    (output / "real").mkdir(parents=True)
    outside.mkdir()
    (output / "out").symlink_to(outside, target_is_directory=True)
    (output / "real" / "up").symlink_to("../..", target_is_directory=True)
    (output / "circle").symlink_to("circle")
    for prefix in ("out/x", "out/new/x", "real/up/x", "real/up/outside/x", "circle/x"):
        with pytest.raises(CamouflageError):
            publishing.save(output, prefix, ".png", b"data")
    assert visible(outside) == [] and visible(output / "real") == ["up"]
    (output / "in").symlink_to("real", target_is_directory=True)
    assert publishing.save(output, "in/x", ".png", b"data") == output.resolve() / "real" / "x_00001.png"
    (tmp_path / "link").symlink_to(output, target_is_directory=True)
    assert publishing.save(tmp_path / "link", "x", ".png", b"data") == output.resolve() / "x_00001.png"


def test_a_number_belongs_to_one_picture(tmp_path):
    names = [publishing.save(tmp_path, "x", end, b"data", manifest).name
             for end, manifest in ((".png", note), (".jpg", None), (".webp", note), (".png", None))]
    assert names == ["x_00001.png", "x_00002.jpg", "x_00003.webp", "x_00004.png"]
    (tmp_path / "x_00005.json").write_text("{}")
    (tmp_path / "x_99999.jpg").symlink_to("nowhere")
    (tmp_path / "xy_777777.png").write_bytes(b"")
    (tmp_path / "x_12345678_.png").write_bytes(b"")
    assert publishing.save(tmp_path, "x", ".png", b"data").name == "x_100000.png"
    assert publishing.save(tmp_path, "xy", ".png", b"data").name == "xy_777778.png"
    (tmp_path / "Y_00050.JPG").write_bytes(b"")  # one name with y_00050.jpg on some file systems
    assert publishing.save(tmp_path, "y", ".png", b"data").name == "y_00051.png"
    assert (tmp_path / "x_00005.json").read_text() == "{}" and (tmp_path / "x_99999.jpg").is_symlink()


# --- at the same time -------------------------------------------------------------------------------------------


def without_links(monkeypatch) -> None:
    def link(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("links", [True, False])
def test_threads_never_share_a_number(tmp_path, monkeypatch, links):
    if not links:
        without_links(monkeypatch)
    monkeypatch.setattr(publishing, "_next_number", lambda *_: 1)  # all begin with the same number
    contents = [bytes([i]) * 5000 for i in range(48)]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda i: publishing.save(tmp_path, "x", (".png", ".jpg", ".webp")[i % 3], contents[i],
                                                    note if i % 2 else None), range(48)))
    assert [path.read_bytes() for path in paths] == contents
    assert len({path.stem for path in paths}) == 48 and hidden(tmp_path) == []
    assert all(path.with_suffix(".json").exists() == bool(i % 2) for i, path in enumerate(paths))


@pytest.mark.parametrize("links", [True, False])
def test_a_name_taken_at_the_last_moment_stays_what_it_is(tmp_path, monkeypatch, links):
    if not links:
        without_links(monkeypatch)
    link = os.link

    def taken_first(source, target):
        if Path(target).name == "x_00001.png":
            Path(target).write_bytes(b"a stranger's")
        link(source, target)

    monkeypatch.setattr(os, "link", taken_first)
    assert publishing.save(tmp_path, "x", ".png", b"data", note).name == "x_00002.png"
    assert visible(tmp_path) == ["x_00001.png", "x_00002.json", "x_00002.png"]
    assert (tmp_path / "x_00001.png").read_bytes() == b"a stranger's" and hidden(tmp_path) == []
    assert json.loads((tmp_path / "x_00002.json").read_text()) == {"file": "x_00002.png"}


def test_two_processes_save_forty_files(tmp_path):
    code = """
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    publishing.save(folder, "x", ".png", f"{task}{i:02d}".encode() * 50000, lambda name: {"by": f"{task}{i:02d}"})
"""
    running = [child(tmp_path, task, code) for task in "ab"]
    for one in running:
        assert heard(one) == "ready\n"
    for one in running:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in running:
        one.communicate(timeout=120)
        assert one.returncode == 0
    found = {path: path.read_bytes() for path in tmp_path.glob("x_*.png")}
    assert sorted(found.values()) == [f"{task}{i:02d}".encode() * 50000 for task in "ab" for i in range(20)]
    for path, content in found.items():
        assert json.loads(path.with_suffix(".json").read_text()) == {"by": content[:3].decode()}
    assert len(visible(tmp_path)) == 80 and hidden(tmp_path) == []


# --- whole or not at all ----------------------------------------------------------------------------------------


@posix
def test_a_full_disk(tmp_path):
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
publishing.save(folder, "x", ".png", b"d" * 20000)
try:
    publishing.save(folder, "x", ".png", b"d" * 20001, lambda name: {})
except CamouflageError as error:
    print(error, flush=True)
"""
    said, _ = child(tmp_path, "full", code).communicate(timeout=60)
    assert "prefix 'x' could not be saved in the output folder (File too large)" in said
    assert visible(tmp_path) == ["x_00001.png"] and hidden(tmp_path) == []


@pytest.mark.parametrize("call", ["open", "fsync", "link"])
@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("manifest", [note, None])
def test_every_failure_leaves_nothing(tmp_path, monkeypatch, call, good, manifest):
    calls = []

    def fails(works):
        def wrapped(*arguments, **options):
            calls.append(arguments)
            if len(calls) > good:
                raise OSError(errno.ENOSPC, "No space left on device")
            return works(*arguments, **options)

        return wrapped

    if call == "open":
        monkeypatch.setattr(publishing, "open", fails(open), raising=False)
    else:
        monkeypatch.setattr(os, call, fails(getattr(os, call)))
        monkeypatch.setattr(os, "rename", fails(os.rename))
    if manifest is None and good and call != "open":  # a picture alone is written and linked once
        publishing.save(tmp_path, "x", ".png", b"data", manifest)
        assert visible(tmp_path) == ["x_00001.png"]
    else:
        with pytest.raises(CamouflageError, match="No space left on device"):
            publishing.save(tmp_path, "x", ".png", b"data", manifest)
        assert visible(tmp_path) == []
    assert hidden(tmp_path) == [] and calls


def test_a_stopped_saving_leaves_nothing(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", stopped)
    with pytest.raises(KeyboardInterrupt):
        publishing.save(tmp_path, "x", ".png", b"data", note)
    assert list(tmp_path.iterdir()) == []
