"""Faces on real pyfacer: its own results, crops, memory, zero and many faces, Cancel."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import pytest
import torch

from in_host import FACE_FILES, difference, host_folder, pictures
from sampled import everything, long, sampled

ROOT = Path(__file__).resolve().parents[2]


def plant(host, monkeypatch, boxes: list[tuple[float, float, float, float]]) -> None:
    """The detector finds exactly these boxes (left, top, right, bottom), scores falling."""
    retinaface = importlib.import_module("facer.face_detection.retinaface")

    def found(net, images, threshold):
        parts = torch.tensor([[.31, .38], [.69, .38], [.5, .56], [.35, .74], [.65, .74]])
        rects = torch.tensor(boxes)
        points = rects[:, None, :2] + parts * (rects[:, None, 2:] - rects[:, None, :2])
        return {"rects": rects, "points": points, "scores": torch.linspace(0.99, 0.6, len(boxes)),
                "image_ids": torch.zeros(len(boxes), dtype=torch.long)}

    monkeypatch.setattr(retinaface, "batch_detect", found)


@pytest.fixture(scope="module")
def facers(miniature_models, shallow) -> Callable[[str], Callable]:
    """pyfacer's own detector, attributes and landmarks; each is loaded once."""
    import facer

    kinds = {"detector": lambda **file: facer.face_detector("retinaface/mobilenet", threshold=0.5, **file),
             "attributes": lambda **file: facer.face_attr("farl/celeba/224", **file),
             "landmarks": lambda **file: facer.face_aligner("farl/ibug300w/448", **file)}
    return functools.cache(lambda kind: kinds[kind](
        device="cpu", model_path=str(miniature_models / "camouflage" / FACE_FILES[kind])))


@pytest.fixture
def direct(facers, monkeypatch):
    """pyfacer called as its README does: pixels -> its dictionary of results, whole picture, all faces at once."""

    def call(image: torch.Tensor, align: bool = False, attributes: bool = True, detected: dict | None = None) -> dict:
        pixels = (image.movedim(-1, 1) * 255).round().to(torch.uint8)
        with torch.inference_mode(), monkeypatch.context() as patch:
            patch.setattr(torch.nn.Module, "cuda", lambda self, device=None: self)  # what pyfacer cannot do on a CPU
            found = detected or facers("detector")(pixels)
            if attributes:
                found = facers("attributes")(pixels, found)
            if align:
                found = facers("landmarks")(pixels, found)
        return found

    return call


# --- against pyfacer itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "count"), [(256, 256, 1), (128, 256, 2), (256, 192, 1)])
def test_boxes_keypoints_and_probabilities_are_pyfacers(run, direct, height, width, count):
    image = pictures(4, 1, height, width)
    faces = run("FaceAttributes", image=image)[0].pictures[0].faces
    theirs = direct(image)
    assert len(faces) == count == len(theirs["rects"])
    limits = torch.tensor([width, height, width, height])
    assert torch.equal(torch.tensor([face.box_ltrb for face in faces]), theirs["rects"].clamp(min=0).minimum(limits))
    assert torch.equal(torch.tensor([face.keypoints for face in faces]), theirs["points"])
    assert torch.equal(torch.tensor([face.score for face in faces]), theirs["scores"])
    assert difference(torch.tensor([face.attributes for face in faces]), theirs["attrs"]) < 1e-6
    assert all(face.landmarks is None for face in faces)


def test_probabilities_hang_on_the_face_and_are_in_pyfacers_order(run, host):
    from facer.face_attribute.farl import pretrain_settings

    names = host.module("camouflage.method.faces").ATTRIBUTES
    assert list(names) == pretrain_settings["celeba/224"]["classes"]
    left, right = run("FaceAttributes", image=pictures(4, 1, 128, 256))[0].pictures[0].faces
    assert max(abs(a - b) for a, b in zip(left.attributes, right.attributes, strict=True)) > 0.01


@pytest.mark.parametrize("boxes", sampled([
    [(60.0, 50.0, 160.0, 170.0), (200.0, 20.0, 260.0, 90.0)],
    [(-3.0, -2.0, 90.0, 98.0), (230.0, 142.0, 323.0, 242.0)],  # over the corners
    [(100.3, 80.7, 150.1, 130.2)], [(5.0, 5.0, 300.0, 220.0)]], 1))
def test_landmarks_by_crops_are_those_of_the_whole_picture(host, run, direct, monkeypatch, boxes):
    image = pictures(4, 1, 240, 320)
    plant(host, monkeypatch, boxes)
    ours = run("FaceAttributes", image=image, landmarks=True)[0].pictures[0].faces
    retinaface = importlib.import_module("facer.face_detection.retinaface")
    theirs = direct(image, align=True, attributes=False, detected=retinaface.batch_detect(None, None, 0))["alignment"]
    mine = torch.tensor([face.landmarks for face in ours]) - 0.5  # our pixels start at their edge
    assert difference(mine, theirs) < 0.01
    assert mine.std() > 1


def test_a_tilted_face_with_landmarks(host, run, direct, monkeypatch):
    retinaface = importlib.import_module("facer.face_detection.retinaface")
    points = torch.tensor([[[120., 90.], [150., 120.], [118., 118.], [95., 112.], [120., 137.]]])
    found = {"rects": torch.tensor([[80., 70., 170., 160.]]), "points": points, "scores": torch.tensor([0.9]),
             "image_ids": torch.tensor([0])}
    monkeypatch.setattr(retinaface, "batch_detect", lambda *_, **__: dict(found))
    image = pictures(4, 1, 240, 320)
    face, = run("FaceAttributes", image=image, landmarks=True)[0].pictures[0].faces
    theirs = direct(image, align=True, attributes=False, detected=dict(found))["alignment"][0]
    assert difference(torch.tensor(face.landmarks) - 0.5, theirs) < 0.01


def test_a_large_face_is_aligned_at_a_smaller_scale(host, run, direct, monkeypatch):
    plant(host, monkeypatch, [(300.0, 250.0, 1300.0, 1250.0)])
    image = pictures(4, 1, 1500, 1600)
    retinaface = importlib.import_module("facer.face_detection.retinaface")
    face, = run("FaceAttributes", image=image, landmarks=True)[0].pictures[0].faces
    theirs = direct(image, align=True, attributes=False, detected=retinaface.batch_detect(None, None, 0))["alignment"]
    assert difference(torch.tensor(face.landmarks) - 0.5, theirs[0]) < 0.5  # of 1000 px


@long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_six_faces_take_less_than_two_gigabytes(miniature_models):
    code = """
import sys
sys.path[:0] = sys.argv[1:3]
sys.path.append(sys.argv[3])
import comfy.cli_args
comfy.cli_args.args.cpu = True
import folder_paths, torch, facer
from camouflage.comfy import faces, weights
weights.register_folder()
folder_paths.folder_names_and_paths["camouflage"] = ([sys.argv[4]], {".pt", ".pth"})
from facer.face_detection import retinaface
def peak():  # not ru_maxrss: that begins with the parent's
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6
places = [(x, y) for y in (100, 600) for x in (80, 580, 1080)]
rects = torch.tensor([[x, y, x + 200.0, y + 200.0] for x, y in places])
parts = torch.tensor([[.31, .38], [.69, .38], [.5, .56], [.35, .74], [.65, .74]])
points = rects[:, None, :2] + parts * 200
found = {"rects": rects, "points": points, "scores": torch.full((6,), 0.9), "image_ids": torch.zeros(6).long()}
retinaface.batch_detect = lambda *_, **__: found
image = torch.rand(1, 1024, 1408, 3)
baseline = peak()
with torch.inference_mode():
    result = faces.read_faces(image, landmarks=True)
assert all(face.landmarks for face in result.pictures[0].faces) and result.count == 6
print(baseline, peak())
"""
    done = subprocess.run([sys.executable, "-c", code, str(host_folder()), str(ROOT / "tests/support"), str(ROOT),
                           str(miniature_models / "camouflage")], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    baseline, peak = (float(value) for value in done.stdout.split()[-2:])
    print(f"six faces: {peak - baseline:.2f} GB above the baseline of {baseline:.2f} GB")
    assert 0.1 < peak - baseline < 2.0


# --- how many, how small, which pictures ------------------------------------------------------------------------


def test_no_face_is_a_valid_result_that_is_said(run, said):
    faces, = run("FaceAttributes", image=pictures(4, 1, 256, 256), threshold=0.99, landmarks=True)
    assert faces.count == 0 and (faces.pictures[0].height, faces.pictures[0].width) == (256, 256)
    assert any("No face found" in text for text in said)
    preview, = run("FacePreview", image=pictures(4, 1, 256, 256), faces=faces)
    assert difference(preview, pictures(4, 1, 256, 256)) < 1 / 250
    assert not run("AttributeMap", faces=faces, width=256, height=256)[0].values.any()


@pytest.mark.parametrize("rows", [6 if everything else 1])
def test_sixty_faces(host, run, monkeypatch, rows):
    """Sixty with ``--all``: each takes as long as the other."""
    plant(host, monkeypatch, [(10.0 + 40 * x, 10.0 + 40 * y, 40.0 + 40 * x, 40.0 + 40 * y)
                              for y in range(rows) for x in range(10)])
    faces, = run("FaceAttributes", image=pictures(4, 1, 256, 416))
    assert faces.count == 10 * rows and all(None not in face.attributes for face in faces.pictures[0].faces)
    assert run("FacePreview", image=pictures(4, 1, 256, 416), faces=faces)[0].shape == (1, 256, 416, 3)
    assert run("AttributeMap", faces=faces, width=416, height=256)[0].values.shape == (1, 41, 32, 52)


def test_a_face_of_eight_pixels_and_the_smallest_face(host, run, monkeypatch):
    plant(host, monkeypatch, [(20.0, 20.0, 100.0, 110.0), (120.0, 30.0, 128.0, 38.0), (-50.0, -50.0, -10.0, -10.0)])
    image = pictures(4, 1, 128, 160)
    both = run("FaceAttributes", image=image, landmarks=True)[0].pictures[0].faces  # the third is outside
    assert [face.box_ltrb for face in both] == [(20, 20, 100, 110), (120, 30, 128, 38)]
    assert all(face.landmarks and None not in face.attributes for face in both)
    assert len(run("FaceAttributes", image=image, smallest_face=8)[0].pictures[0].faces) == 2
    assert len(run("FaceAttributes", image=image, smallest_face=9)[0].pictures[0].faces) == 1


def test_keypoints_in_one_spot_tell_nothing(run, monkeypatch):
    retinaface = importlib.import_module("facer.face_detection.retinaface")
    monkeypatch.setattr(retinaface, "batch_detect", lambda *_, **__: {
        "rects": torch.tensor([[20., 20., 60., 60.]]), "points": torch.full((1, 5, 2), 40.0),
        "scores": torch.tensor([0.9]), "image_ids": torch.tensor([0])})
    face, = run("FaceAttributes", image=pictures(4), landmarks=True)[0].pictures[0].faces
    assert face.landmarks is None and set(face.attributes) == {None}


@pytest.mark.parametrize(("height", "width", "faces", "landmarks"), [(128, 256, 2, False), (192, 128, 1, True)])
def test_every_picture_of_a_batch_is_read_on_its_own(run, said, height, width, faces, landmarks):
    batch = pictures(4, 2, height, width)
    together, = run("FaceAttributes", image=batch, landmarks=landmarks)
    alone = [run("FaceAttributes", image=image, landmarks=landmarks)[0].pictures[0] for image in batch.split(1)]
    assert list(together.pictures) == alone and together.count == 2 * faces
    assert alone[0] != alone[1] and all(bool(face.landmarks) == landmarks for face in alone[0].faces)
    assert said[0] == f"Faces: {faces}, {faces}"


def test_rgba_nan_and_bad_settings(run):
    image = pictures(4, 1, 256, 256)
    opaque = torch.cat([image, torch.ones_like(image[..., :1])], dim=-1)
    assert run("FaceAttributes", image=opaque) == run("FaceAttributes", image=image)
    broken = image.clone()
    broken[0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite pixels in picture 0"):
        run("FaceAttributes", image=broken)
    for bad, text in (({"threshold": 0.0}, "'threshold' is 0.0"), ({"threshold": float("nan")}, "'threshold' is nan"),
                      ({"smallest_face": -1}, "'smallest_face' is -1"),
                      ({"image": pictures(0, 1, 32, 32)}, "32 x 32 px")):
        with pytest.raises(ValueError, match=text):
            run("FaceAttributes", **{"image": image, **bad})


# --- networks: once, without traces, Cancel ---------------------------------------------------------------------


def test_reading_leaves_no_trace_in_the_process(host, run):
    host.module("camouflage.comfy.networks").clear()
    before = torch.nn.Module.cuda, torch.backends.cudnn.benchmark
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run("FaceAttributes", image=pictures(4, 1, 128, 256), landmarks=True)
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers changed"
    assert (torch.nn.Module.cuda, torch.backends.cudnn.benchmark) == before
    from facer import transform

    assert transform._meshgrid.cache_info().currsize == 0
    assert sum("ModuleList" in type(patcher.model).__name__ for patcher in mm.loaded_models()) >= 3


@pytest.mark.parametrize("after", [1, 2, 3])
def test_cancel_between_faces_and_pictures(run, monkeypatch, after):
    seen = []

    def hook(value, total, preview, node_id=None):
        seen.append(value / total)
        if len(seen) == after:
            mm.interrupt_current_processing()
            mm.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    with pytest.raises(mm.InterruptProcessingException):
        run("FaceAttributes", image=pictures(4, 2, 128, 256))
    assert len(seen) == after and seen == sorted(seen) and seen[-1] <= 0.5
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    assert run("FaceAttributes", image=pictures(4, 1, 128, 256))[0].count == 2
