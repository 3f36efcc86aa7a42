"""Finding and decoding photos, and the files beside them: everything that a folder of photos may contain."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import icc
from camouflage import photos
from camouflage.errors import CamouflageError
from camouflage.images import working_size
from camouflage.method.faces import Face, Faces, Picture
from camouflage.photos import Unreadable
from camouflage.training import sidecars
from camouflage.training.photos import FORMATS, find
from testing.drawn_faces import draw
from training_data import drawn

CORNERS = np.zeros((40, 60, 3), np.uint8)  # red at the top left, blue at the top right, green at the bottom left
CORNERS[:20, :30, 0] = CORNERS[:20, 30:, 2] = CORNERS[20:, :30, 1] = 200


@pytest.fixture
def save(tmp_path):
    """save(name, image or array, options of Pillow) -> path"""

    def write(name: str, picture, **options) -> Path:
        (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(tmp_path / name, **options)
        return tmp_path / name

    return write


def decode(path: Path) -> Image.Image:
    return photos.decode(path, FORMATS)


def pixels(path: Path) -> np.ndarray:
    image = decode(path)
    assert image.mode == "RGB"
    return np.asarray(image)


# --- finding ------------------------------------------------------------------------------------------------------


def test_photos_are_found_wherever_they_are(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    names = ["b.JPG", "a.png", "deep/er/c.WebP", "deep/d.jpeg", "Ü ber/1.jpg"]
    others = [".hidden.jpg", ".hidden/e.jpg", "deep/.x/f.png", "notes.txt", "a.faces.json", "jpg", "g.gif"]
    for name in [*names, *others]:
        (one / name).parent.mkdir(parents=True, exist_ok=True)
        (one / name).touch()
    two.mkdir()
    (two / "b.JPG").touch()
    (one / "folder.jpg").mkdir()
    found = find([one, two])
    assert [key for key, _ in found] == [f"0/{name}" for name in sorted(names)] + ["1/b.JPG"]
    assert all(path.is_file() and key.endswith(path.name) for key, path in found)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_links_are_followed_but_not_for_ever(tmp_path):
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "x.jpg").touch()
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "self").symlink_to(".")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "dead.jpg").symlink_to("nowhere")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert [identity for identity, _ in find([folder])] == ["0/linked/x.jpg"]


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(CamouflageError, match="no folder .*nowhere"):
        find([tmp_path, tmp_path / "nowhere"])


# --- decoding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, options, tolerance", [("x.png", {}, 0), ("x.webp", {"lossless": True}, 0),
                                                      ("x.jpg", {"quality": 100, "subsampling": 0}, 4)])
def test_every_format_gives_its_pixels(save, name, options, tolerance):
    assert np.abs(pixels(save(name, CORNERS, **options)).astype(int) - CORNERS).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_photos_are_turned_upright(save, orientation, suffix):
    upright = Image.fromarray(CORNERS)
    stored = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
              5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
              8: Image.Transpose.ROTATE_270}.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(f"x.{suffix}", upright if stored is None else upright.transpose(stored), exif=exif, quality=100)
    assert np.abs(pixels(path)[5::30, 5::20].astype(int) - CORNERS[5::30, 5::20]).max() <= 8


def test_damaged_exif_data_says_nothing(save):
    path = save("x.jpg", CORNERS, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40)
    assert pixels(path).shape == CORNERS.shape


def test_sixteen_bits_are_scaled_not_clipped(save):
    ramp = np.tile(np.array([0, 257, 32896, 65535], np.uint16), (4, 1))
    assert (pixels(save("x.png", ramp)) == np.array([0, 1, 128, 255])[None, :, None]).all()
    older = Image.fromarray(ramp.astype(np.int32))  # as older versions of Pillow open such files
    assert older.mode == "I" and (np.asarray(photos._rgb(older)) == pixels(save("x.png", ramp))).all()


def test_sixteen_bit_colour(tmp_path):
    row = b"\0" + struct.pack(">6H", 65535, 32896, 0, 0, 32896, 65535)  # two pixels
    path = tmp_path / "x.png"
    path.write_bytes(png(2, 1, 16, 2, zlib.compress(row)))
    assert pixels(path).tolist() == [[[255, 128, 0], [0, 128, 255]]]


def test_cmyk(save):
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:] = 255, 0, 255, 0  # cyan and yellow make green, no ink leaves paper
    shown = pixels(save("x.jpg", Image.fromarray(inks, "CMYK"), quality=100))
    assert np.abs(shown[8, 4].astype(int) - 255).max() <= 3
    assert np.abs(shown[8, 28].astype(int) - [0, 255, 0]).max() <= 3


def test_transparency_becomes_white(save):
    clear = np.dstack([CORNERS, np.full((40, 60), 255, np.uint8)])
    clear[:20, :30, 3], clear[20:, :30, 3] = 0, 51
    palette = Image.fromarray(CORNERS).quantize(4)
    index = palette.getpixel((0, 0))
    shades = Image.fromarray(np.dstack([np.full((4, 4), 100, np.uint8), np.full((4, 4), 0, np.uint8)]), "LA")
    for name in ("x.png", "x.webp"):
        shown = pixels(save(name, clear, lossless=True))
        assert shown[5, 5].tolist() == [255] * 3 and shown[5, 45].tolist() == [0, 0, 200]
        assert np.abs(shown[35, 5].astype(int) - [204, 244, 204]).max() <= 1
    shown = pixels(save("p.png", palette, transparency=index))
    assert shown[5, 5].tolist() == [255] * 3 and shown[35, 5].tolist() == [0, 200, 0]
    assert (pixels(save("la.png", shades)) == 255).all()
    grey = np.array([[1000, 40000]], np.uint16)
    assert pixels(save("i.png", grey, transparency=1000))[0, :, 0].tolist() == [255, 156]


def test_palette_grey_and_two_colours(save):
    assert (pixels(save("p.png", Image.fromarray(CORNERS).quantize(4))) == CORNERS).all()
    assert (pixels(save("l.png", CORNERS[..., 2]))[..., 1] == CORNERS[..., 2]).all()
    assert set(np.unique(pixels(save("1.png", Image.fromarray(CORNERS[..., 0] > 0))))) == {0, 255}


@pytest.mark.parametrize("name, form", [("x.png", "PNG"), ("x.webp", "WEBP"), ("x.jpg", "MPO")])
def test_the_first_of_several_pictures_counts(save, name, form):
    others = [Image.fromarray(np.full_like(CORNERS, shade)) for shade in (90, 30)]
    path = save(name, CORNERS, format=form, save_all=True, append_images=others, quality=95,
                **({"lossless": True, "duration": 50} if form != "MPO" else {}))
    with Image.open(path) as image:
        assert image.n_frames == 3
    assert np.abs(pixels(path)[5::30, 5::20].astype(int) - CORNERS[5::30, 5::20]).max() <= 8


def png(width: int, height: int, depth: int, colours: int, data: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_what_is_no_photo_is_said_in_a_few_words(save, tmp_path, recwarn):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    whole = {name: save(name, noise).read_bytes() for name in ("a.png", "a.jpg", "a.webp")}
    files = {"zero.jpg": (b"", "empty"), "text.png": (b"secret words, no picture", "no JPEG, PNG or WebP picture"),
             "gif.jpg": (save("x.gif", CORNERS).read_bytes(), "no JPEG, PNG or WebP picture"),
             "huge.png": (png(30000, 30000, 8, 2, b"x"), "900 megapixels; at most 179 are read"),
             "hidden.png": (png(10, 10, 8, 2, b"secret"), "damaged|cut short")}
    for name, content in whole.items():
        files[f"half {name}"] = content[:len(content) // 2], "cut short|damaged"
        files[f"head {name}"] = content[:20], "no JPEG, PNG or WebP picture|cut short|damaged"
    files["zeros a.png"] = whole["a.png"][:20000] + bytes(len(whole["a.png"]) - 20000), "damaged|cut short"
    for name, (content, reason) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Unreadable, match=f"^({reason})") as caught:
            decode(tmp_path / name)
        assert "secret" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    (tmp_path / "folder.jpg").mkdir()
    for name in ("folder.jpg", "nowhere.jpg"):
        with pytest.raises(Unreadable, match="cannot be opened"):
            decode(tmp_path / name)


def test_a_limit_that_others_lifted_still_holds(save, monkeypatch):
    path = save("x.png", CORNERS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(photos, "MOST_PIXELS", 2399)
    with pytest.raises(Unreadable, match="megapixels"):
        decode(path)
    monkeypatch.setattr(photos, "MOST_PIXELS", 2400)
    assert (pixels(path) == CORNERS).all()


def test_a_text_chunk_that_grows_is_refused(save):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    with pytest.raises(Unreadable):
        decode(save("x.png", CORNERS, pnginfo=text))


# --- colour profiles ----------------------------------------------------------------------------------------------


def by_profile(path: Path) -> np.ndarray:
    return np.asarray(photos.decode(path, profile=True)).astype(float)


RAMP = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 77)], -1).astype(np.uint8)[None]


def test_colours_become_those_of_srgb_where_that_is_asked(save):
    path = save("x.png", RAMP, icc_profile=icc.rgb("grb"))
    assert np.abs(by_profile(path) - icc.in_srgb(RAMP[..., [1, 0, 2]])).max() < 1
    assert (pixels(path) == RAMP).all(), "it is not asked by default"
    assert (by_profile(save("none.png", RAMP)) == RAMP).all()
    stored = Image.fromarray(RAMP).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert (by_profile(save("turned.png", stored, exif=exif, icc_profile=icc.rgb("grb"))) == by_profile(path)).all()
    assert not photos.decode(path, profile=True).info


def test_profiles_of_transparent_and_palette_pictures_count(save):
    clear = np.dstack([RAMP[0, :, None], np.repeat([0, 255], 128)[:, None]]).astype(np.uint8)
    shown, wanted = by_profile(save("rgba.png", clear, icc_profile=icc.rgb())), icc.in_srgb(RAMP[0, :, None])
    assert (shown[:128] == 255).all() and np.abs(shown[128:] - wanted[128:]).max() < 1
    palette = Image.fromarray(CORNERS).quantize(4)
    assert np.abs(by_profile(save("p.png", palette, icc_profile=icc.rgb())) - icc.in_srgb(CORNERS)).max() < 1


def test_grey_has_profiles_of_its_own(save):
    values = np.arange(32, 256, dtype=np.uint16)[None]
    wanted = np.repeat(icc.in_srgb(values)[..., None], 3, axis=-1)
    for name, picture in (("8.png", values.astype(np.uint8)), ("16.png", values * 257)):
        for profile in (icc.grey(), icc.rgb()):
            assert np.abs(by_profile(save(name, picture, icc_profile=profile)) - wanted).max() < 1


@pytest.mark.parametrize("name", ["x.tif", "x.jpg"])
def test_inks_go_through_their_profile(save, name):
    inks = np.zeros((16, 48, 4), np.uint8)
    inks[:, 16:32], inks[:, 32:] = (255, 0, 255, 0), (0, 0, 0, 255)
    shown = by_profile(save(name, Image.fromarray(inks, "CMYK"), icc_profile=icc.inks(), quality=100))
    assert np.abs(shown[8, [4, 24, 44]] - np.array([255, 119, 0])[:, None]).max() <= 2


def test_a_profile_that_does_not_fit_is_left_aside(save):
    whole = icc.rgb()
    inks = Image.fromarray(np.full((8, 8, 4), 90, np.uint8), "CMYK")
    for profile in (b"x", b"secret" * 100, whole[:200], whole[:-30], icc.grey(), icc.inks(),
                    whole.replace(b"rTRC", b"xTRC"), whole.replace(b"RGB XYZ ", b"Lab XYZ ")):
        assert (by_profile(save("x.png", RAMP, icc_profile=profile)) == RAMP).all()
        path = save("x.tif", inks, icc_profile=whole if profile == icc.inks() else profile)
        assert (by_profile(path) == np.asarray(photos.decode(path))).all()


def test_a_profile_with_a_wrong_byte_does_no_harm(save):
    random, whole = np.random.default_rng(0), icc.rgb()
    for _ in range(100):
        spoiled = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            spoiled[place] = random.integers(256)
        assert by_profile(save("x.png", RAMP, icc_profile=bytes(spoiled))).shape == RAMP.shape


# --- beside a photo -----------------------------------------------------------------------------------------------


def test_captions_beside_a_photo(tmp_path):
    photo = tmp_path / "a.b.jpg"
    assert sidecars.read_caption(photo) is None
    (tmp_path / "a.b.txt").write_bytes("﻿ two  wömen\r\nwave \n".encode())
    assert sidecars.read_caption(photo) == "two wömen wave"
    for content in (b"\xff\xfe", b"x" * 10_001, b" " * 100_000):
        (tmp_path / "a.b.txt").write_bytes(content)
        with pytest.raises(Unreadable, match="its .txt"):
            sidecars.read_caption(photo)


def test_faces_beside_a_photo(tmp_path):
    photo, = drawn(tmp_path, 1, size=100)
    _, picture = draw(0, 100, 100, len(sidecars.read_faces(photo, 100, 100).faces))
    assert sidecars.read_faces(photo, 100, 100) == picture and picture.faces
    assert sidecars.read_faces(tmp_path / "other.png", 100, 100) is None
    beside = photo.with_suffix(".faces.json")
    whole = beside.read_text()
    twice = json.loads(whole)
    twice["pictures"] *= 2
    for content in (whole[:-5], "", "[]", "\x00", json.dumps(twice)):
        beside.write_text(content)
        with pytest.raises(Unreadable, match="its .faces.json"):
            sidecars.read_faces(photo, 100, 100)
    beside.write_text(whole)
    with pytest.raises(Unreadable, match="upright size"):
        sidecars.read_faces(photo, 100, 101)


def test_faces_move_as_the_picture_does(host):
    """Drawn dots land where their coordinates do, whatever is cut off and however it is scaled."""
    prepare = host.module("camouflage.comfy.prepare").prepare
    torch = pytest.importorskip("torch")
    for height, width in ((301, 407), (640, 270), (333, 1000), (128, 128), (1001, 517), (100, 135)):
        points = [(width * u, height * v) for u, v in ((0.4, 0.4), (0.6, 0.4), (0.5, 0.5), (0.45, 0.6), (0.55, 0.6))]
        face = Face((width * 0.3, 0.0, width * 0.7, float(height)), 0.9, tuple(points), tuple(points[:1] * 68))
        y, x = np.mgrid[:height, :width] + 0.5  # middles of the pixels
        spread = max(2.0, 2 * max(height, width) / 256)
        for fit, size in (("crop", working_size(height, width, 256)), ("square", (256, 256))):
            moved, = sidecars.scale_and_crop(Picture(height, width, (face,)), *size, fit).faces
            for before, after in zip(points, moved.keypoints, strict=True):
                dot = np.exp(-((x - before[0]) ** 2 + (y - before[1]) ** 2) / 2 / spread ** 2)
                image = torch.tensor(dot, dtype=torch.float32)[None, :, :, None].expand(-1, -1, -1, 3)
                shown = prepare(image, 256, fit)[0, :, :, 0].numpy()
                assert shown.shape == size
                rows, columns = np.mgrid[:size[0], :size[1]] + 0.5
                middle = (shown * columns).sum() / shown.sum(), (shown * rows).sum() / shown.sum()
                assert np.abs(np.array(middle) - after).max() < 0.15
            assert moved.landmarks == (moved.keypoints[0],) * 68 and moved.attributes == face.attributes
            assert moved.box_ltrb[1] == 0 and moved.box_ltrb[3] == size[0]


def test_faces_that_were_cut_off_are_dropped():
    points = ((0.0, 0.0),) * 5
    faces = tuple(Face(box, 1, points) for box in ((0, 0, 30, 60), (0, 0, 20, 60), (400, 10, 480, 60)))
    moved = sidecars.scale_and_crop(Picture(64, 500, faces), 64, 448)  # 26 px are cut off on both sides
    assert [face.box_ltrb for face in moved.faces] == [(0, 0, 4, 60), (374, 10, 448, 60)]
    assert Faces((moved,)).count == 2 and moved.faces[0].keypoints == ((-26.0, 0.0),) * 5
