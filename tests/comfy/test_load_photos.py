"""Load Photos in the real host: which photos, in which batches, their pixels, refusals, what has changed, Cancel."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
import numpy as np
import pytest
import torch
from PIL import Image

import icc
from in_host import pictures

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and names of POSIX")


@pytest.fixture
def home(tmp_path, host, monkeypatch) -> Path:
    """An empty input folder, the only one that the host sees; beside it lies `outside` with a photo."""
    for name in ("input", "outside"):
        (tmp_path / name).mkdir()
    photo(tmp_path / "outside" / "secret.png")
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    return tmp_path / "input"


@pytest.fixture
def load(host, home) -> Callable[..., tuple[list[torch.Tensor], list[str]]]:
    """load(photos, ...) -> images and names."""
    return lambda photos, **inputs: host.run("CamouflageLoadPhotos", photos=photos, **inputs)


@pytest.fixture
def names(load) -> Callable[[str], list[str]]:
    """names(photos) -> the paths of what is loaded."""
    return lambda photos: load(photos)[1]


@pytest.fixture
def shown(host, monkeypatch) -> list[str]:
    """What the node shows."""
    texts: list[str] = []
    monkeypatch.setattr(host.module("nodes.load"), "show", texts.append)
    return texts


def photo(path: Path, seed: int = 0, height: int = 20, width: int = 30, **options: object) -> np.ndarray:
    """Saves smooth colours; H x W x 3, uint8."""
    pixels = (pictures(seed, 1, height, width)[0] * 255).to(torch.uint8).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def refused(load, text: str, photos: str, **inputs: object) -> str:
    with pytest.raises(ValueError, match=text) as refusal:
        load(photos, **inputs)
    assert str(refusal.value).startswith("Load Photos: ") and str(refusal.value).endswith(".")
    return str(refusal.value)


# --- pixels -----------------------------------------------------------------------------------------------------


def read(path: Path) -> torch.Tensor:
    """As Pillow has it, by itself."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))[None] / 255


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.JPEG", "x.webp", "x.bmp", "x.gif", "x.tif", "x.TIFF", "x.jfif"])
def test_every_kind_of_picture_gives_its_pixels(load, home, name):
    photo(home / "a" / name, 1)
    (images,), (called,) = load("a")
    assert images.dtype == torch.float32 and images.shape == (1, 20, 30, 3) and called == f"a/{name}"
    assert torch.equal(images, read(home / "a" / name))


def test_it_is_what_load_image_gives(host, load, home, monkeypatch):
    photo(home / "x.jpg", 2, quality=80)
    assert torch.equal(load("x.jpg")[0][0], host.run("LoadImage", image="x.jpg")[0])
    monkeypatch.setattr(mm, "intermediate_device", lambda: torch.device("meta"))
    assert load("x.jpg")[0][0].is_meta, "where the host keeps its pictures"


def test_photos_are_upright_opaque_and_of_eight_bits(load, home):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = photo(home / "turned.png", 3)
    Image.fromarray(np.rot90(upright)).save(home / "turned.png", exif=exif)
    Image.fromarray(np.dstack([upright, np.zeros((20, 30), np.uint8)])).save(home / "clear.png")
    Image.fromarray(np.full((20, 30), 32896, np.uint16)).save(home / "deep.png")
    Image.fromarray(np.full((20, 30, 4), (255, 0, 255, 0), np.uint8), "CMYK").save(home / "inks.tif")
    (images,), _ = load("turned.png\nclear.png\ndeep.png\ninks.tif", batch_size=4)
    assert torch.equal(images[0], torch.from_numpy(upright) / 255)
    assert (images[1] == 1).all() and (images[2] == 128 / 255).all()
    assert (images[3] == torch.tensor([0.0, 1.0, 0.0])).all()


def test_colours_are_converted_by_the_profile_in_the_file(load, home):
    values = photo(home / "x.png", 4, icc_profile=icc.rgb("grb"))
    wanted = torch.from_numpy(icc.in_srgb(values[..., [1, 0, 2]])) / 255
    assert (load("x.png")[0][0][0] - wanted).abs().max() < 1 / 255


# --- which photos, in which batches -----------------------------------------------------------------------------


def test_a_folder_is_taken_with_its_sub_folders_in_order(names, home):
    wanted = ["a/1.jpg", "a/10.png", "a/2.jpg", "a/B.PNG", "a/b/3.webp", "a/b.c/1.png", "a/Ü ber/木.jpg",
              "a/ümläut 😀.png"]
    for name in wanted:
        photo(home / name)
    for name in ("a/.hidden.png", "a/.hidden/x.png", "b/other.png"):
        photo(home / name)
    for name in ("a/notes.txt", "a/png", "a/x.png.json"):
        (home / name).write_bytes((home / "a" / "10.png").read_bytes())
    (home / "a" / "folder.png").mkdir()
    assert names("a") == sorted(wanted) == names("./a/ ")
    assert names("a/b") == ["a/b/3.webp"]
    assert names(".") == [*sorted(wanted), "b/other.png"]


def test_a_list_is_taken_in_its_order_and_each_photo_once(names, home):
    for name in ("a/1.png", "a/2.png", "b/1.png", "Ü 木.png"):
        photo(home / name)
    assert names("b/1.png\r\n\n  a/2.png \nÜ 木.png\na\nb") == ["b/1.png", "a/2.png", "Ü 木.png", "a/1.png"]


def test_batches_have_one_size_and_stand_in_the_order_of_their_first_pictures(load, home, shown):
    sizes = {"1": (20, 30), "2": (30, 20), "3": (30, 20), "4": (20, 30), "5": (30, 20), "6": (10, 10), "7": (20, 30)}
    saved = {name: photo(home / "a" / f"{name}.png", int(name), *size) for name, size in sizes.items()}
    for batch_size, wanted in ((1, [*"1234567"]), (2, ["14", "23", "5", "6", "7"]), (3, ["147", "235", "6"]),
                               (64, ["147", "235", "6"])):
        images, names = load("a", batch_size=batch_size)
        assert names == ["\n".join(f"a/{name}.png" for name in batch) for batch in wanted]
        for batch, numbers in zip(images, wanted, strict=True):
            assert torch.equal(batch, torch.from_numpy(np.stack([saved[name] for name in numbers])) / 255)
        assert shown.pop() == f"Photos: 7, batches: {len(wanted)}." and not shown
    assert load("a")[1] == [f"a/{name}.png" for name in sizes], "one picture at a time by default"


def test_the_host_runs_what_follows_once_for_every_batch(host):
    schema = host.nodes["CamouflageLoadPhotos"].GET_SCHEMA()
    assert host.nodes["CamouflageLoadPhotos"].OUTPUT_IS_LIST == [True, True]
    assert [socket.io_type for socket in schema.outputs] == ["IMAGE", "STRING"]
    assert [socket.id for socket in schema.inputs] == ["photos", "batch_size", "unreadable"]
    assert "dynamicPrompts" not in schema.inputs[0].as_dict(), "braces in a name stay what they are"


# --- what leads out, and what is not there ----------------------------------------------------------------------


@pytest.mark.parametrize("line", ["../outside", "..", "a/../../outside/secret.png", "a/..", "/etc",
                                  "//host/share/x.png", "C:/x.png", "C:x.png", "C:\\x.png", "\\x.png", "a\\x.png",
                                  "a\0.png", "a\tb.png", "\ud800.png", "{outside}", "{outside}/secret.png"])
def test_a_line_that_leads_out_is_refused(load, home, line):
    photo(home / "a" / "x.png")
    said = refused(load, "'photos' must name a folder", f"a\n{line.format(outside=home.parent / 'outside')}")
    assert "There is no" not in said
    assert load("a")[1] == ["a/x.png"]


@posix
@pytest.mark.parametrize("link", ["a/link", "a/link.png", "a/deep/link"])
def test_a_link_that_leads_out_is_refused(load, home, link):
    photo(home / "a" / "x.png")
    (home / link).parent.mkdir(exist_ok=True)
    (home / link).symlink_to(home.parent / "outside" / ("secret.png" if link.endswith("png") else ""))
    for line in ("a", ".", link, *([] if link.endswith("png") else [f"{link}/secret.png"])):
        refused(load, f"'{link}[^']*' of 'photos' is a link that leads out", line, unreadable="skip")
    (home / link).unlink()
    (home / link).symlink_to("../" * link.count("/") + "a/x.png" if link.endswith("png") else home / "a")
    assert "a/x.png" in load("a")[1]


@posix
def test_links_inside_are_followed_but_not_for_ever(names, home):
    photo(home / "a" / "z" / "1.png")
    photo(home / "b" / "2.png")
    (home / "a" / "b").symlink_to(home / "b")
    (home / "a" / "again").symlink_to("z")
    (home / "a" / "self").symlink_to(".")
    (home / "a" / "z" / "up").symlink_to(home)
    (home / "a" / "3.png").symlink_to("../b/2.png")
    (home / "a" / "round").symlink_to("round")
    assert names("a") == ["a/3.png", "a/b/2.png", "a/z/1.png"]
    for i in range(40):  # every way through them would be longer than a life
        (home / "many" / str(i)).mkdir(parents=True)
        for j in range(40):
            (home / "many" / str(i) / f"to {j}").symlink_to(home / "many" / str(j))
    photo(home / "many" / "7" / "x.png")
    assert names("many") == ["many/7/x.png"]


@posix
def test_the_input_folder_itself_may_be_a_link(load, home, monkeypatch):
    photo(home / "a" / "x.png")
    (home.parent / "elsewhere").symlink_to(home)
    monkeypatch.setattr(folder_paths, "input_directory", str(home.parent / "elsewhere"))
    assert load("a")[1] == ["a/x.png"]


def test_what_is_not_there_is_said(load, home):
    photo(home / "a" / "x.png")
    (home / "a" / "x.txt").touch()
    (home / "empty").mkdir()
    for photos in ("", " \n\n"):
        refused(load, "'photos' must name a folder, .* It is empty", photos)
    for line in ("b", "a/y.png", "x" * 5000):
        refused(load, f"There is no '{line[:100]}", f"a\n{line}", unreadable="skip")
    refused(load, "'a/x.txt' of 'photos' is no photo", "a/x.txt", unreadable="skip")
    refused(load, "The folder 'empty' of 'photos' has no photos in it", "a\nempty", unreadable="skip")


def test_a_folder_that_cannot_be_read_is_said(load, home, monkeypatch):
    photo(home / "a" / "b" / "x.png")
    listdir = os.listdir

    def forbidden(folder):  # nothing is, to an administrator
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied")
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", forbidden)
    refused(load, r"The folder 'a/b' of 'photos' cannot be read \(Permission denied\)", "a", unreadable="skip")


# --- what cannot be read ----------------------------------------------------------------------------------------


@pytest.fixture
def broken(home) -> dict[str, str]:
    """Files in the folder `a` that cannot be read, with the reason; 1.png and 9.png can be."""
    photo(home / "a" / "1.png")
    photo(home / "a" / "9.png", 9)
    photo(home / "a" / "half.png", 2, 200, 200)
    data = (home / "a" / "half.png").read_bytes()
    (home / "a" / "half.png").write_bytes(data[:len(data) // 2])
    (home / "a" / "empty.jpg").touch()
    (home / "a" / "text.jpg").write_text("secret words")
    (home / "a" / "program.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    parts = (b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0), b"IDATx", b"IEND")
    (home / "a" / "vast.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts))
    reasons = {"empty.jpg": "empty", "half.png": "cut short", "program.jpg": "no .*picture",
               "text.jpg": "no .*picture", "vast.png": "900 megapixels"}
    if os.name == "posix":
        (home / "a" / "lost.jpg").symlink_to("nowhere.jpg")
        os.mkfifo(home / "a" / "pipe.jpg")
        reasons |= {"lost.jpg": "no file", "pipe.jpg": "no file"}
    return reasons


def test_files_that_cannot_be_read_stop_the_run_and_are_all_named(load, broken):
    said = refused(load, rf"{len(broken)} of {len(broken) + 2} photos cannot be read: .*'unreadable' to 'skip'", "a")
    for name, reason in broken.items():
        refused(load, rf"a/{name} \([^)]*{reason}", "a")
    assert "1.png" not in said and "secret" not in said


def test_or_are_left_out_and_named_on_the_node_but_not_in_the_log(load, broken, shown, caplog):
    images, names = load("a", unreadable="skip", batch_size=2)
    assert names == ["a/1.png\na/9.png"] and [batch.shape[0] for batch in images] == [2]
    assert shown[0].startswith("Photos: 2, batches: 1. Left out, because they cannot be read: ")
    assert all(f"a/{name} (" in shown[0] for name in broken)
    assert f"{len(broken)} photos" in caplog.text and not any(name in caplog.text for name in (*broken, "1.png"))


def test_without_any_that_can_be_read_skip_stops_too(load, home, broken):
    (home / "a" / "1.png").unlink()
    (home / "a" / "9.png").unlink()
    assert "'skip'" not in refused(load, f"{len(broken)} of {len(broken)} photos cannot be read", "a",
                                   unreadable="skip")


def test_of_many_the_first_are_named(load, home):
    (home / "a").mkdir()
    for number in range(25):
        (home / "a" / f"{number:02}.png").touch()
    assert "a/20.png" not in refused(load, r"a/19\.png \(empty\) and 5 more\.", "a")


@posix
def test_a_name_that_is_no_text_can_be_shown(load, home):
    photo(home / "a" / "x.png")
    for name in (b"\xff.png", b"two\nlines.png"):
        os.link(home / "a" / "x.png", os.fsencode(home / "a") + b"/" + name)
    _, names = load("a", batch_size=9)
    assert sorted(names[0].split("\n")) == ["a/two�lines.png", "a/x.png", "a/�.png"]
    assert json.loads(json.dumps(names)) == names and names[0].encode()


# --- what has changed, progress, Cancel -------------------------------------------------------------------------


@pytest.fixture
def fingerprint(host, home) -> Callable[..., object]:
    """fingerprint(photos) -> what the host's own cache makes of the node, for a new prompt each time."""
    from comfy_execution.graph import DynamicPrompt
    from execution import IsChangedCache

    async def ask(inputs: dict) -> object:
        prompt = {"1": {"class_type": "CamouflageLoadPhotos", "inputs": inputs}}
        return await IsChangedCache("prompt", DynamicPrompt(prompt), None).get("1")

    return lambda photos: asyncio.run(ask({"photos": photos, "batch_size": 1, "unreadable": "stop"}))


def test_a_changed_folder_has_another_fingerprint(fingerprint, home):
    photo(home / "a" / "1.png", 1)
    photo(home / "b.png", 1)
    if os.name == "posix":  # what cannot be read hides no change of the others
        (home / "a" / "lost.png").symlink_to("nowhere.png")
    first = fingerprint("a")
    assert isinstance(first[0], str) and len(first[0]) == 64
    seen = [first]

    def changed() -> bool:
        seen.append(fingerprint("a"))
        return seen[-1] == fingerprint("a") and seen.count(seen[-1]) == 1

    photo(home / "b.png", 2)
    (home / "a" / "notes.txt").touch()
    assert fingerprint("a") == first, "what is not loaded does not count"
    photo(home / "a" / "2.png", 2)
    assert changed()
    (home / "a" / "2.png").rename(home / "a" / "3.png")
    assert changed()
    there = (home / "a" / "1.png").stat()
    os.utime(home / "a" / "1.png", ns=(there.st_atime_ns, there.st_mtime_ns + 2_000_000_000))
    assert changed()
    there = (home / "a" / "1.png").stat()
    with open(home / "a" / "1.png", "ab") as file:
        file.write(b"more")
    os.utime(home / "a" / "1.png", ns=(there.st_atime_ns, there.st_mtime_ns))
    assert changed(), "another size at the same time"
    (home / "a" / "3.png").unlink()
    assert changed()


@pytest.mark.parametrize("photos", ["", "nowhere", "../outside", "/etc", "a\0b", "\ud800", "x" * 5000, "a/lost.png"])
def test_bad_input_has_a_fingerprint_without_a_warning(fingerprint, home, caplog, photos):
    (home / "a").mkdir()
    if os.name == "posix":
        (home / "a" / "lost.png").symlink_to("nowhere.png")
    assert isinstance(fingerprint(photos)[0], str) and not caplog.records


def test_what_comes_over_a_wire_runs_every_time(fingerprint, home, caplog):
    (value,) = fingerprint(["2", 0])
    assert value != value and not caplog.records


@pytest.mark.parametrize("after", [1, 2])
def test_progress_and_cancel(load, home, monkeypatch, after):
    for number in range(3):
        photo(home / "a" / f"{number}.png", number)
    seen: list[tuple[int, int]] = []

    def hook(value, total, preview, node_id=None):
        seen.append((value, total))
        if len(seen) == after:
            mm.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            load("a")
    finally:
        mm.interrupt_current_processing(False)
    assert seen == [(number + 1, 3) for number in range(after)]
    after, seen[:] = 9, []
    assert len(load("a")[0]) == 3 and seen == [(1, 3), (2, 3), (3, 3)]
