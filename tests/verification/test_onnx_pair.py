"""YuNet and SFace on real OpenCV: against its own calls, painted "faces", views, odd arrays, places, bad files."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import upright_eyes
from camouflage.method.faces import clip_box
from camouflage.verification.detection import find_faces
from camouflage.verification.onnx_pair import SFace, YuNet, brought_back
from camouflage.verification.verify import Verifier
from camouflage.verification.views import View, resized
from camouflage.weights import of_role

DETECTOR, RECOGNISER = (of_role(role)[0] for role in ("face detector (YuNet)", "face recogniser (SFace)"))
MEAN_FACE = [0.265, 0.375, 0.735, 0.375, 0.5, 0.57, 0.3, 0.73, 0.7, 0.73]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> SimpleNamespace:
    """The stand-ins, in a folder whose name is not ASCII."""
    from testing.miniature import recognition

    models = tmp_path_factory.mktemp("modèles")
    recognition.recognition(models, 0)
    return SimpleNamespace(yunet=models / DETECTOR.path, sface=models / RECOGNISER.path)


@pytest.fixture(scope="module")
def yunet(files) -> YuNet:
    return YuNet(files.yunet)


@pytest.fixture(scope="module")
def sface(files, yunet) -> SFace:
    return SFace(files.sface, yunet)


def scene(height: int, width: int, *faces: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
    """A smooth picture with a magenta "face" in every box; what each shows hangs on the seed."""
    rng = np.random.default_rng(seed)
    pixels = cv2.resize(rng.integers(60, 120, (6, 6, 3), np.uint8), (width, height))
    for left, top, right, bottom in faces:
        pixels[top:bottom, left:right] = 255
        texture = cv2.resize(rng.integers(0, 100, (10, 10), np.uint8), (right - left, bottom - top))
        pixels[top:bottom, left:right, 1] = texture
    return pixels


def found(yunet: YuNet, pixels: np.ndarray) -> list[tuple[int, ...]]:
    """Boxes of the faces, whole px."""
    return [tuple(round(value) for value in face.box_ltrb) for face in find_faces([yunet], pixels)]


def one_look(files, pixels: np.ndarray) -> np.ndarray:
    """OpenCV's own detections."""
    net = cv2.FaceDetectorYN.create(str(files.yunet), "", (pixels.shape[1], pixels.shape[0]), 0.3)
    faces = net.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
    return np.zeros((0, 15), np.float32) if faces is None else faces


# --- YuNet --------------------------------------------------------------------------------------------------------


def test_detections_are_opencvs_of_every_sweep_and_orientation(files, yunet):
    pixels = scene(480, 640, (50, 60, 90, 110), (400, 200, 520, 340))
    expected, turns = [], []
    for side in (320, 640, 1280):
        for quarters in range(4):
            seen = np.ascontiguousarray(np.rot90(resized(pixels, side)[0], -quarters))
            for left, top, width, height, *_, score in one_look(files, seen).tolist():
                x, y, length = left + width / 2, top + height / 2, seen.shape[1]
                for _ in range(quarters):  # a quarter back each
                    x, y, length = y, length - x, side * 480 // 640 + side - length
                box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * 640 / side
                expected.append([*box, score - (0.1 if quarters else 0)])
                turns.append((0, 90, 180, -90)[quarters])
    ours = yunet.detect(pixels)
    assert len(ours) >= 20 and [face.turn for face in ours] == turns and len(set(turns)) == 4
    assert np.allclose([[*face.box_ltrb, face.score] for face in ours], expected, atol=1e-3)


def test_boxes_are_where_the_faces_are_and_may_be_none(yunet):
    boxes = [(50, 60, 90, 110), (330, 300, 346, 320), (400, 80, 520, 220)]
    assert found(yunet, scene(480, 640, *boxes)) == boxes
    assert yunet.detect(scene(480, 640)) == []


@pytest.mark.parametrize(("height", "width", "box", "green", "sides"), [
    (1400, 1000, (200, 300, 900, 1200), 0, [320]), (1500, 2400, (2000, 1000, 2004, 1004), 130, [2400]),
    (64, 900, (400, 20, 440, 60), 0, [320, 640, 1280]), (64, 64, (20, 18, 44, 44), 0, [320])])
def test_faces_of_every_size_in_pictures_of_every_shape(files, yunet, height, width, box, green, sides):
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[box[1]:box[3], box[0]:box[2]] = 255, green, 255
    looks = (320, 640, 1280, *([2400] if width == 2400 else []))
    assert sides == [side for side in looks if len(one_look(files, resized(pixels, side)[0]))]
    face, = find_faces([yunet], pixels)
    assert np.abs(np.subtract(face.box_ltrb, box)).max() < 4


class Spy:
    """A network that notes what it is shown, and finds heads whose eyes are about level."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, yunet: YuNet, score: float = 0.9, seconds: float = 0.0):
        self.shapes, self.score, self.seconds = [], score, seconds
        monkeypatch.setattr(yunet, "_run", self.run)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.flags.c_contiguous
        self.shapes.append(pixels.shape[:2])
        time.sleep(self.seconds)
        rows = [[left, top, right - left, bottom - top, *np.ravel(points), score]
                for (left, top, right, bottom), points, score in upright_eyes.see(pixels, self.score)]
        return np.array(rows, np.float32).reshape(-1, 15)


@pytest.fixture
def own(files) -> YuNet:
    """One that a test may spoil."""
    return YuNet(files.yunet)


def test_it_looks_in_three_sizes_and_four_orientations_and_in_tiles_where_the_picture_is_large(own, monkeypatch):
    spy = Spy(monkeypatch, own)
    assert own.detect(np.zeros((600, 1600, 3), np.uint8)) == []
    small = [shape for height, width in ((120, 320), (240, 640), (480, 1280))
             for shape in [(height, width), (width, height)] * 2]
    assert spy.shapes == small
    spy.shapes.clear()
    own.detect(np.zeros((600, 2400, 3), np.uint8))
    tile = 600, 1296  # half of it, and half of the 192 px that both share
    assert spy.shapes[8:] == [(320, 1280), (1280, 320)] * 2 + [tile, tile[::-1]] * 4
    spy.shapes.clear()
    own.detect(np.zeros((100, 6000, 3), np.uint8))
    assert {max(shape) for shape in spy.shapes[12:]} == {1354, 1096}, "at full size, and 2000 px long at a third"


@pytest.mark.parametrize("turn", [0, 20, 30, 45, 60, 90, 120, 135, 160, 180, -170, -135, -90, -50, -30])
def test_a_head_comes_back_at_its_place_however_it_is_turned(own, monkeypatch, turn):
    Spy(monkeypatch, own)
    found = own.detect(upright_eyes.picture(600, 900, (312, 207), 80, turn))
    assert len(found) >= 3
    assert np.allclose([face.box_ltrb for face in found], [232, 107, 392, 307], atol=3)
    # Up to 25 degrees off level counts as level in a view.
    off = np.array([(face.turn - turn + 180) % 360 - 180 for face in found])
    assert all(-180 < face.turn <= 180 for face in found) and np.abs(off).max() <= 25
    level = [face.turn % 90 == 0 for face in found]
    assert np.abs(off[~np.array(level)]).max(initial=0) < 2 and all(level) == (abs((turn + 45) % 90 - 45) <= 25)
    best, = find_faces([own], upright_eyes.picture(600, 900, (312, 207), 80, turn))
    assert abs((best.turn - turn + 180) % 360 - 180) <= 25 and best.confident == ("YuNet",)


@pytest.mark.parametrize("x", [60, 1070, 1140, 1260, 1330, 2340])
def test_a_head_in_one_tile_or_in_two_comes_back_at_its_place(own, monkeypatch, x):
    Spy(monkeypatch, own)
    for turn in (0, -90):
        found = own.detect(upright_eyes.picture(700, 2400, (x, 401), 40, turn))
        # The tiles share the columns 1104 to 1295.
        assert len(found) == 3 + (2 if 1104 < x < 1296 else 1) and {face.turn for face in found} == {turn}
        assert np.allclose([face.box_ltrb for face in found], [x - 40, 351, x + 40, 451], atol=5)


def test_where_the_picture_was_turned_a_tenth_more_is_asked(own, monkeypatch):
    for score, turned in ((0.45, 3), (0.39, 0)):
        Spy(monkeypatch, own, score)
        upright, upside_down = (own.detect(upright_eyes.picture(300, 300, (150, 150), 60, turn)) for turn in (0, 180))
        assert (len(upright), len(upside_down)) == (3, turned)
        assert [face.score for face in upright] == pytest.approx([score] * 3)
        assert [face.score for face in upside_down] == pytest.approx([score - 0.1] * turned)
    view = View(300, np.zeros((300, 300, 3), np.uint8), 0, 0, 1.0, 1)
    eyes = ((10.0, 10.0), (20.0, 10.0))
    assert [face.score for face in brought_back(view, [((0, 0, 9, 9), eyes, score) for score in (0.6, 0.7, 0.8)], 0.55)
            ] == pytest.approx([0.6, 0.7])


def test_eyes_in_one_place_say_nothing_of_a_turn():
    view = View(300, np.zeros((300, 300, 3), np.uint8), 0, 0, 1.0, 3)
    for eyes in (((5.0, 5.0), (5.0, 5.0)), ((float("nan"), 5.0), (5.0, 5.0))):
        face, = brought_back(view, [((0.0, 0.0, 9.0, 9.0), eyes, 0.9)], 0.3)
        assert face.turn == -90


def test_its_steps_may_run_at_the_same_time_and_stop_between(own, yunet, monkeypatch):
    pixels = scene(480, 640, (50, 60, 90, 110), (400, 200, 520, 340))
    sequential = own.detect(pixels)
    assert len(own.steps(pixels)) == 12 and own.joined(pixels, [step() for step in own.steps(pixels)]) == sequential

    class Stateful:
        """Fails where it is used by two at once."""

        size = None

        def setInputSize(self, size):
            self.size = size

        def detect(self, pixels):
            size = self.size
            time.sleep(0.01)
            assert (pixels.shape[1], pixels.shape[0]) == size == self.size
            return 1, None

    real = own._net
    monkeypatch.setattr(own, "_net", Stateful())
    assert find_faces([own], pixels) == ()
    monkeypatch.setattr(own, "_net", real)
    assert find_faces([own], pixels) == find_faces([own], pixels)
    assert {face.box_ltrb for face in find_faces([own], pixels)} <= {face.box_ltrb for face in sequential}

    spy, looks = Spy(monkeypatch, own, seconds=0.2), []

    def pause() -> None:
        looks.append(len(spy.shapes))
        if len(looks) > 2:
            raise InterruptedError

    before = time.monotonic()
    with pytest.raises(InterruptedError):
        find_faces([own], pixels, pause)
    assert time.monotonic() - before < 1 and 0 < len(spy.shapes) < 12
    time.sleep(0.5)
    assert len(spy.shapes) <= looks[-1] + 2, "nothing begins afterwards"


def test_the_score_is_opencvs_of_the_right_colours_and_says_who_is_sure(yunet):
    pixels = np.full((320, 640, 3), 90, np.uint8)
    for left, colour in ((40, (255, 0, 255)), (200, (0, 0, 255)), (360, (255, 0, 0))):  # only magenta is 1 in BGR too
        pixels[100:150, left:left + 40] = colour
    best = [max(face.score for face in yunet.detect(pixels) if left <= face.box_ltrb[0] + 5 < left + 40)
            for left in (40, 200, 360)]
    assert np.allclose(best, [1.0, 0.6, 0.4], atol=0.01)
    assert [face.confident for face in find_faces([yunet], pixels)][::2] == [("YuNet",), ()]
    assert yunet.confident == 0.6


def test_views_of_a_picture_are_as_good_as_copies(yunet, sface):
    pixels = scene(480, 640, (50, 60, 90, 110), (400, 80, 520, 220))
    for view in (pixels[:, ::-1], pixels[::2, ::2], np.asfortranarray(pixels), pixels[..., ::-1]):
        assert yunet.detect(view) == yunet.detect(view.copy()) != []
        boxes = [face.box_ltrb for face in find_faces([yunet], view)]
        assert np.array_equal(sface.embed(view, boxes), sface.embed(view.copy(), boxes))
    frozen = pixels.copy()
    frozen.setflags(write=False)
    assert yunet.detect(frozen) == yunet.detect(pixels) and np.array_equal(frozen, pixels)


def test_a_face_is_looked_for_at_its_place(yunet):
    box = (100, 120, 180, 220)
    pixels = scene(900, 1200, box, (500, 120, 580, 220))
    face = yunet.face_at(pixels, (90.5, 110, 175, 230))
    assert face is not None and face.shape == (15,)
    assert np.allclose(face[:4], [100, 120, 80, 100], atol=1)
    assert np.allclose(face[4:14], np.array([100, 120] * 5) + np.array(MEAN_FACE) * ([80, 100] * 5), atol=1)
    for nowhere in ((300, 500, 380, 600), (170, 120, 250, 220), (-90, -90, -10, -10), (1300, 100, 1400, 200)):
        assert yunet.face_at(pixels, nowhere) is None


def test_of_several_faces_the_one_that_overlaps_best_is_taken(files, monkeypatch):
    yunet = YuNet(files.yunet)
    surer, nearer = [20, 20, 60, 60, *[0] * 10, 0.99], [12, 10, 62, 60, *[0] * 10, 0.4]
    monkeypatch.setattr(yunet, "_faces", lambda *_: np.array([surer, nearer], np.float32))
    assert yunet.face_at(scene(200, 200), (10, 10, 70, 70))[14] == np.float32(0.4)


# --- SFace --------------------------------------------------------------------------------------------------------


def test_embeddings_and_distances_are_opencvs(files, yunet, sface):
    boxes = [(60.0, 70.0, 140.0, 170.0), (400.0, 80.0, 520.0, 220.0)]
    pixels = scene(480, 640, *(tuple(map(int, box)) for box in boxes))
    net = cv2.FaceRecognizerSF.create(str(files.sface), "")
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    expected = [net.feature(net.alignCrop(bgr, yunet.face_at(pixels, box)[None])).copy() for box in boxes]
    ours = sface.embed(pixels, boxes)
    assert ours.shape == (2, 128) and ours.dtype == np.float32
    assert np.allclose(ours, np.concatenate(expected), atol=1e-5)
    cosines = [[net.match(a.copy(), b.copy(), cv2.FaceRecognizerSF_FR_COSINE) for b in expected] for a in expected]
    assert np.allclose(sface.distances(ours, ours), 1 - np.array(cosines), atol=1e-5)
    assert sface.distances(ours, ours[:1]).shape == (2, 1) and sface.distances(ours, ours)[0, 1] > 0.5
    assert (sface.metric, sface.threshold.distance, sface.threshold.false_accept_rate) == ("cosine", 1 - 0.363, None)


@pytest.mark.parametrize("box", [(300, 250, 360, 330), (-40, 400, 60, 520), (620, -30, 700, 40)])
def test_a_place_without_a_face_is_embedded_by_the_mean_face(files, sface, box):
    pixels = scene(480, 640)
    left, top, right, bottom = box
    size = right - left, bottom - top
    points = np.array([left, top] * 5) + np.array(MEAN_FACE) * (size * 5)
    net = cv2.FaceRecognizerSF.create(str(files.sface), "")
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    aligned = net.alignCrop(bgr, np.array([[left, top, *size, *points, 0]], np.float32))
    assert np.allclose(sface.embed(pixels, [box]), net.feature(aligned), atol=1e-5)
    assert clip_box(box, 480, 640) is not None


def test_no_boxes_and_what_cannot_be_compared(sface):
    assert sface.embed(scene(480, 640), []).shape == (0, 128)
    some = np.ones((1, 128), np.float32)
    assert np.isnan(sface.distances(np.zeros_like(some), some)).all()
    assert np.allclose(sface.distances(some, -some), 2)


def test_they_verify_a_picture(yunet, sface):
    boxes = [(60, 70, 140, 170), (400, 80, 520, 220)]
    original = scene(480, 640, *boxes)
    other = scene(480, 640, *boxes, seed=6)
    half = original.copy()
    half[:, 320:] = other[:, 320:]
    verifier = Verifier((yunet,), sface, sface.threshold)
    originals = verifier.originals(original)
    assert len(originals.faces) == 2
    for picture, verdicts in ((original, ["recognisable"] * 2), (other, ["safe"] * 2), (half, ["recognisable", "safe"]),
                              (scene(480, 640, seed=6), ["unverifiable"] * 2)):
        assert [person.verdict.value for person in verifier.verify(originals, picture).persons] == verdicts


# --- files --------------------------------------------------------------------------------------------------------


def test_models_name_files_versions_and_licences(files, yunet, sface):
    assert yunet.info.name == "YuNet" and yunet.info.licence == "MIT" and len(yunet.info.sha256) == 1
    assert sface.info.name == "SFace" and sface.info.licence == "Apache-2.0"
    assert sface.info.sha256[1:] == yunet.info.sha256 != sface.info.sha256[:1]
    assert files.yunet.name in yunet.info.version and cv2.__version__ in sface.info.version


def opened(kind: str, path: Path, yunet: YuNet) -> object:
    return YuNet(path) if kind == "yunet" else SFace(path, yunet)


@pytest.mark.parametrize("kind", ["yunet", "sface"])
@pytest.mark.parametrize("content", ["empty", "noise", "truncated", "pointer", "other"])
def test_a_damaged_or_other_file(files, yunet, tmp_path, kind, content):
    right, wrong = (files.yunet, files.sface) if kind == "yunet" else (files.sface, files.yunet)
    data = right.read_bytes()
    path = tmp_path / right.name
    path.write_bytes({"empty": b"", "noise": np.random.default_rng(0).bytes(5000), "truncated": data[:len(data) // 2],
                      "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
                      "other": wrong.read_bytes()}[content])
    with pytest.raises(ValueError, match=r"could not be loaded as .* is another model.*https://") as error:
        opened(kind, path, yunet)
    assert str(path) in str(error.value) and ("Git LFS" in str(error.value)) == (content == "pointer")


@pytest.mark.parametrize("kind", ["yunet", "sface"])
def test_a_missing_file(yunet, tmp_path, kind):
    with pytest.raises(ValueError, match=r"missing: there is no file .*nowhere\.onnx.*https://.*licence"):
        opened(kind, tmp_path / "nowhere.onnx", yunet)


def test_a_recogniser_of_another_width_is_refused(tmp_path, yunet):
    from testing.miniature import recognition

    net = recognition._Graph()
    net("Flatten", net("AveragePool", "data", kernel_shape=[16, 16], strides=[16, 16]), axis=1, output="fc1")
    net.save(tmp_path / RECOGNISER.file.split("/")[1], "data", (1, 3, 112, 112), {"fc1": (1, 147)})
    with pytest.raises(ValueError, match="returns 1 x 147 numbers instead of 1 x 128"):
        SFace(tmp_path / RECOGNISER.file.split("/")[1], yunet)


@pytest.mark.parametrize("channels", [9, 11])
def test_outputs_of_another_size_are_refused_before_opencv_reads_beyond_them(tmp_path, monkeypatch, channels):
    from testing.miniature import recognition

    detect = recognition._detect

    def spoiled(net, *inputs):
        outputs = detect(net, *inputs)
        outputs["kps"] = net.conv(outputs["kps"], np.eye(10)[:channels] if channels < 10 else np.eye(11, 10))
        return outputs

    monkeypatch.setattr(recognition, "_detect", spoiled)
    monkeypatch.setattr(recognition, "_CHANNELS", {"cls": 1, "obj": 1, "bbox": 4, "kps": channels})
    recognition.yunet(tmp_path, 0)
    with pytest.raises(ValueError, match=f"output kps_8 has {96 * channels} numbers instead of 960"):
        YuNet(tmp_path / DETECTOR.path)
