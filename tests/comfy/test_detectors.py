"""Optional detectors and recogniser in the host: FACER's own boxes, YuNet and SFace by file, what is installed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management as mm
import folder_paths
import numpy as np
import pytest
import torch

import upright_eyes
from in_host import only_folder, pictures, vouch_for

RETINAFACE = "faces/mobilenet0.25_Final.pth"
YUNET, SFACE = "faces/face_detection_yunet_2023mar.onnx", "faces/face_recognition_sface_2021dec.onnx"
FILES = {"RetinaFace": RETINAFACE, "YuNet": YUNET, "SFace": SFACE}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """A `models/camouflage` with the stand-ins for all three files, and SHA256SUMS that vouches for them."""
    from testing.miniature import faces, recognition

    models = tmp_path_factory.mktemp("detectors") / "models"
    faces.detector(models, 0)
    recognition.recognition(models, 0)
    vouch_for(models / "camouflage", *FILES.values())
    return models / "camouflage"


@pytest.fixture
def weights_folder(tmp_path, host, stand_ins, monkeypatch) -> Path:
    """A copy of the stand-ins that a test may spoil; the only one the host sees."""
    folder = tmp_path / "camouflage"
    shutil.copytree(stand_ins, folder)
    only_folder(folder, monkeypatch)
    return folder


@pytest.fixture
def detectors(host, weights_folder):
    return host.module("camouflage.comfy.detectors")


def load(detectors, name: str) -> object:
    return (detectors.LOAD_RECOGNISER if name == "SFace" else detectors.LOAD_DETECTOR)[name]()


def to_pixels(seed: int, height: int, width: int) -> np.ndarray:
    return (pictures(seed, 1, height, width)[0] * 255).round().to(torch.uint8).numpy()


# --- RetinaFace ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "counts"), [(256, 256, (1, 1, 1, 1)), (128, 256, (2, 1, 2, 1)),
                                                         (96, 160, (3, 1, 2, 1))])
def test_retinafaces_boxes_are_facers_in_every_orientation(detectors, stand_ins, height, width, counts):
    import facer

    pixels = to_pixels(4, height, width)
    net = facer.face_detector("retinaface/mobilenet", device="cpu", threshold=0.3,
                              model_path=str(stand_ins / RETINAFACE))
    ours = detectors.RetinaFace().detect(pixels)
    assert len(ours) == sum(counts)
    for quarters, count in enumerate(counts):
        seen = np.ascontiguousarray(np.rot90(pixels, -quarters))
        with torch.inference_mode():
            theirs = net(facer.hwc2bchw(torch.tensor(seen)))
        here, ours = ours[:count], ours[count:]
        loss = 0.1 if quarters else 0
        scores = [score - loss for score in theirs["scores"].tolist() if score - loss >= 0.3]  # the best come first
        assert len(scores) == count and [face.score for face in here] == pytest.approx(scores, abs=1e-6)
        assert {face.turn for face in here} == {(0, 90, 180, -90)[quarters]}
        for face, (left, top, right, bottom) in zip(here, theirs["rects"].tolist()[:count], strict=True):
            x, y, length = (left + right) / 2, (top + bottom) / 2, seen.shape[1]
            for _ in range(quarters):  # a quarter back each
                x, y, length = y, length - x, height + width - length
            size = right - left, bottom - top
            assert face.box_ltrb == pytest.approx((x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2))
            assert 0.3 <= face.score <= 1


class Spy:
    """Stands for FACER: notes what it is shown, and finds heads whose eyes are about level."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host, score: float = 0.9):
        self.shapes, self.score = [], score
        monkeypatch.setattr(host.module("camouflage.comfy.faces"), "boxes_and_points", self.see)

    def see(self, pixels: np.ndarray, threshold: float) -> list[upright_eyes.Seen]:
        assert pixels.dtype == np.uint8
        self.shapes.append(pixels.shape[:2])
        return [seen for seen in upright_eyes.see(pixels, self.score) if seen[2] >= threshold]


@pytest.mark.parametrize("turn", [0, 20, 30, 45, 90, 135, 160, 180, -135, -90, -50])
def test_retinaface_finds_a_head_at_its_place_however_it_is_turned(detectors, host, monkeypatch, turn):
    Spy(monkeypatch, host)
    found = detectors.RetinaFace().detect(upright_eyes.picture(600, 900, (312, 207), 80, turn))
    assert found and np.allclose([face.box_ltrb for face in found], [232, 107, 392, 307], atol=2)
    off = np.array([(face.turn - turn + 180) % 360 - 180 for face in found])
    slanted = np.array([face.turn % 90 != 0 for face in found])
    assert np.abs(off).max() <= 25 and np.abs(off[slanted]).max(initial=0) < 2
    assert slanted.all() == slanted.any() == (abs((turn + 45) % 90 - 45) > 25)


def test_retinaface_looks_at_large_pictures_in_tiles_at_full_size(detectors, host, monkeypatch):
    spy = Spy(monkeypatch, host)
    detector = detectors.RetinaFace()
    assert detector.detect(np.zeros((700, 1600, 3), np.uint8)) == []
    assert spy.shapes == [(700, 1600), (1600, 700)] * 2
    spy.shapes.clear()
    detector.detect(np.zeros((600, 2400, 3), np.uint8))
    assert spy.shapes == [(320, 1280), (1280, 320)] * 2 + [(600, 1296), (1296, 600)] * 4
    for x, count in ((60, 2), (1200, 3), (2340, 2)):  # the tiles share the columns 1104 to 1295
        found = detector.detect(upright_eyes.picture(600, 2400, (x, 401), 40, 180))
        assert len(found) == count and {face.turn for face in found} == {180}
        assert np.allclose([face.box_ltrb for face in found], [x - 40, 351, x + 40, 451], atol=2)


def test_retinaface_asks_a_tenth_more_where_the_picture_was_turned(detectors, host, monkeypatch):
    upright, upside_down = (upright_eyes.picture(300, 300, (150, 150), 60, turn) for turn in (0, 180))
    for score, turned in ((0.45, [0.35]), (0.39, [])):
        Spy(monkeypatch, host, score)
        assert [face.score for face in detectors.RetinaFace().detect(upright)] == [score]
        assert [face.score for face in detectors.RetinaFace().detect(upside_down)] == pytest.approx(turned)


def test_retinaface_obeys_cancel_between_its_looks(detectors, host, monkeypatch):
    spy = Spy(monkeypatch, host)
    detector = detectors.RetinaFace()
    pixels = np.zeros((64, 64, 3), np.uint8)

    def see(pixels: np.ndarray, threshold: float) -> list[upright_eyes.Seen]:
        mm.interrupt_current_processing()
        return spy.see(pixels, threshold)

    monkeypatch.setattr(host.module("camouflage.comfy.faces"), "boxes_and_points", see)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            detector.detect(pixels)
    finally:
        mm.interrupt_current_processing(False)
    assert len(spy.shapes) == 1


def test_retinaface_finds_what_face_attributes_finds(detectors, host):
    image = pictures(4, 1, 128, 256)
    faces = host.module("camouflage.comfy.faces")
    found = faces.boxes_and_points((image[0] * 255).round().to(torch.uint8).numpy(), threshold=0.5)
    clipped = [host.module("camouflage.method.faces").clip_box(box, 128, 256) for box, _, _ in found]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces, "_attributes", lambda: _Constant())
        read = faces.read_faces(image).pictures[0].faces
    assert [face.box_ltrb for face in read] == clipped and len(clipped) == 2
    assert [face.score for face in read] == [score for _, _, score in found]
    assert [face.keypoints for face in read] == [points for _, points, _ in found]


class _Constant:
    """An attribute network that says the same of every face."""

    def on_device(self, activation_bytes: int = 0) -> torch.device:
        return torch.device("cpu")

    def tool(self, pixels: torch.Tensor, faces: dict) -> dict:
        return {"attrs": torch.full((1, 40), 0.5)}


def test_retinaface_is_under_the_hosts_memory_management(detectors, host):
    host.module("camouflage.comfy.networks").clear()
    mm.unload_all_models()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    detector = detectors.RetinaFace()
    assert not mm.loaded_models()
    first = detector.detect(to_pixels(4, 256, 256))
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers changed"
    assert len(mm.loaded_models()) == 1
    mm.unload_all_models()
    assert detector.detect(to_pixels(4, 256, 256)) == first and len(mm.loaded_models()) == 1


def test_retinaface_takes_any_array_and_says_what_it_is(detectors, host):
    detector = detectors.RetinaFace()
    pixels = to_pixels(4, 128, 256)
    view = pixels[:, ::-1]
    view.setflags(write=False)
    assert detector.detect(view) == detector.detect(view.copy()) != []
    assert detector.info.name == "RetinaFace" and detector.info.licence == "MIT" and detector.confident == 0.5
    assert detector.info.version == "pyfacer 0.0.5"
    assert list(detector.info.sha256) == [host.module("camouflage.comfy.weights").digest_of(
        Path(folder_paths.get_full_path("camouflage", RETINAFACE)))]


def test_centerface_and_retinaface_find_one_face_once(detectors, host):
    from skimage import data

    detection = host.module("camouflage.verification.detection")
    centerface = host.module("camouflage.verification.centerface").CenterFace()
    retinaface = detectors.RetinaFace()
    photo = data.astronaut()[:256, 96:352]  # the face is in the middle, where RetinaFace's stand-in sees one
    alone, = detection.find_faces([centerface], photo)
    face, = detection.find_faces([centerface, retinaface], photo)
    assert face.box_ltrb == alone.box_ltrb and face.detectors == ("CenterFace", "RetinaFace") == face.confident
    face, = detection.find_faces([retinaface, centerface], photo)
    assert face.box_ltrb == max(retinaface.detect(photo), key=lambda found: found.score).box_ltrb != alone.box_ltrb
    nobody = np.full((64, 64, 3), 90, np.uint8)
    assert {name for face in detection.find_faces([centerface, retinaface], nobody) for name in face.detectors} == {
        "RetinaFace"}  # each counts alone: the stand-in sees a face everywhere


# --- the same pixels once -----------------------------------------------------------------------------------------


class Looking:
    """A detector of two steps that finds one face, as wide as the picture, and counts how often it looks."""

    info, confident = SimpleNamespace(name="Looking"), 0.5

    def __init__(self, module):
        self.looks, self._detection = 0, module.Detection

    def steps(self, pixels):
        return [lambda: self._look(pixels)] * 2

    def _look(self, pixels):
        self.looks += 1
        return [self._detection((0.0, 0.0, float(pixels.shape[1]), 9.0), 0.9)]

    def joined(self, pixels, found, pause=None):
        assert len(found) == 2, "it looked"
        return found[0]


@pytest.fixture
def looking(host) -> Looking:
    return Looking(host.module("camouflage.verification.detection"))


def test_the_same_pixels_are_looked_at_once(detectors, host, looking):
    find = host.module("camouflage.verification.detection").find_faces
    remembering = detectors.Remembering(looking)
    picture = to_pixels(4, 32, 64)
    first = remembering.detect(picture)
    looks = looking.looks
    assert len(first) == 1 and looks == 2
    first.clear()  # what was given belongs to the caller
    assert len(remembering.detect(picture.copy())) == 1 and looking.looks == looks
    changed = picture.copy()
    changed[3, 5, 1] ^= 1
    for other in (changed, picture.reshape(64, 32, 3), picture[:, ::-1]):
        looks = looking.looks
        assert len(remembering.detect(other)) == 1 and looking.looks == looks + 2
    assert find([remembering], picture.reshape(64, 32, 3))[0].box_ltrb[2] == 32


def test_what_was_forgotten_is_looked_at_again_and_nobody_is_lost(detectors, looking):
    remembering = detectors.Remembering(looking, most=2)
    pictures = [to_pixels(seed, 32, 32) for seed in range(3)]
    for picture in pictures:
        remembering.detect(picture)
    assert remembering.steps(pictures[0]) and remembering.steps(pictures[1]) == []
    remembering.detect(pictures[1])
    remembering.detect(pictures[0])
    assert remembering.steps(pictures[2]), "asked for longest ago"
    nothing_to_do = remembering.steps(pictures[1])
    for picture in (to_pixels(5, 32, 32), to_pixels(6, 32, 32)):  # as another thread may, between steps and joined
        remembering.detect(picture)
    assert len(remembering.joined(pictures[1], [step() for step in nothing_to_do])) == 1


def test_what_centerface_finds_is_remembered_as_it_found_it(detectors, host):
    from skimage import data

    photo = data.astronaut()[:256, 96:352]
    ours = load(detectors, "CenterFace")
    direct = host.module("camouflage.verification.centerface").CenterFace()
    assert ours is load(detectors, "CenterFace") and ours.info == direct.info and ours.confident == direct.confident
    assert ours.detect(photo) == direct.detect(photo) == ours.detect(photo)
    assert ours.steps(photo) == []


# --- what is there ------------------------------------------------------------------------------------------------


def test_installed_is_what_has_its_files_and_nothing_is_loaded(detectors, weights_folder, monkeypatch):
    for name in FILES:
        (weights_folder / FILES[name]).write_bytes(b"not read")
    assert detectors.installed() == ["CenterFace", "dlib", "RetinaFace", "YuNet"] == list(detectors.LOAD_DETECTOR)
    (weights_folder / YUNET).unlink()
    assert detectors.installed() == ["CenterFace", "dlib", "RetinaFace"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert detectors.installed() == ["CenterFace", "dlib"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_another_file_is_named(detectors, weights_folder, name):
    path = weights_folder / FILES[name]
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="is not the published file.*https://"):
        load(detectors, name)
    vouch_for(weights_folder, FILES[name])
    with pytest.raises(ValueError, match="could not be loaded"):
        load(detectors, name)
    path.unlink()
    with pytest.raises(ValueError, match="missing") as error:
        load(detectors, name)
    assert str(path) in str(error.value) and "licence:" in str(error.value)


def test_yunet_and_sface_are_loaded_once_a_file(detectors, weights_folder):
    yunet, sface = load(detectors, "YuNet"), load(detectors, "SFace")
    assert load(detectors, "YuNet") is yunet and load(detectors, "SFace") is sface
    assert sface._yunet is yunet._detector and sface.info.sha256[1:] == yunet.info.sha256
    from testing.miniature import recognition

    recognition.sface(weights_folder.parent, 1)
    vouch_for(weights_folder, SFACE)
    other = load(detectors, "SFace")
    assert other is not sface and other.info.sha256 != sface.info.sha256 and load(detectors, "YuNet") is yunet
