"""Faces on real pyfacer: its own results, crops, memory, zero and many faces, bad files, Cancel, and the nodes."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
import pytest
import torch

from in_host import difference, host_folder, pictures, vouch_for

FILES = {"detector": "faces/mobilenet0.25_Final.pth", "attributes": "faces/face_attribute.farl.celeba.pt",
         "landmarks": "faces/face_alignment.farl.ibug300w.main_ema_jit.pt"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def face_weights(tmp_path_factory) -> Path:
    """A `models` folder with the stand-ins for FACER's weights, and SHA256SUMS that vouches for them."""
    from testing.miniature import faces

    models = tmp_path_factory.mktemp("faces") / "models"
    faces.faces(models, 0)
    vouch_for(models / "camouflage", *FILES.values())
    return models


@pytest.fixture
def weights_folder(tmp_path, own_networks, face_weights, monkeypatch) -> Path:
    """A copy of the stand-ins that a test may spoil; the only one the host sees."""
    folder = tmp_path / "camouflage"
    shutil.copytree(face_weights / "camouflage", folder)
    _, extensions = folder_paths.folder_names_and_paths["camouflage"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "camouflage", ([str(folder)], extensions))
    return folder


@pytest.fixture
def run(host, weights_folder):
    """run(node's name, **inputs) -> its outputs, also before the node is registered."""
    nodes = host.module("nodes.faces")

    def call(name: str, **inputs: object) -> tuple:
        node = getattr(nodes, f"Camouflage{name}")
        values = {socket.id: socket.default for socket in node.GET_SCHEMA().inputs
                  if getattr(socket, "default", None) is not None}
        with torch.inference_mode():
            return tuple(node.EXECUTE_NORMALIZED(**{**values, **inputs}).result)

    return call


@pytest.fixture
def said(host, monkeypatch) -> list[str]:
    """What the nodes say to the person at the screen."""
    texts: list[str] = []
    nodes = host.module("nodes.faces")
    monkeypatch.setattr(nodes, "warn", texts.append)
    monkeypatch.setattr(nodes, "show", texts.append)
    return texts


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


@pytest.fixture
def direct(face_weights, monkeypatch):
    """pyfacer called as its README does: pixels -> its dictionary of results, whole picture, all faces at once."""
    import facer

    folder = face_weights / "camouflage"

    def call(image: torch.Tensor, align: bool = False, attributes: bool = True, detected: dict | None = None) -> dict:
        pixels = (image.movedim(-1, 1) * 255).round().to(torch.uint8)
        with torch.inference_mode(), monkeypatch.context() as patch:
            patch.setattr(torch.nn.Module, "cuda", lambda self, device=None: self)  # what pyfacer cannot do on a CPU
            found = detected or facer.face_detector("retinaface/mobilenet", device="cpu", threshold=0.5,
                                                    model_path=str(folder / FILES["detector"]))(pixels)
            if attributes:
                found = facer.face_attr("farl/celeba/224", device="cpu",
                                        model_path=str(folder / FILES["attributes"]))(pixels, found)
            if align:
                found = facer.face_aligner("farl/ibug300w/448", device="cpu",
                                           model_path=str(folder / FILES["landmarks"]))(pixels, found)
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


@pytest.mark.parametrize("boxes", [
    [(60.0, 50.0, 160.0, 170.0), (200.0, 20.0, 260.0, 90.0)],
    [(-3.0, -2.0, 90.0, 98.0), (230.0, 142.0, 323.0, 242.0)],  # over the corners
    [(100.3, 80.7, 150.1, 130.2)], [(5.0, 5.0, 300.0, 220.0)]])
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_six_faces_take_less_than_two_gigabytes(face_weights):
    code = """
import sys
sys.path[:0] = sys.argv[1:3]
sys.path.append(sys.argv[3])
import comfy.cli_args
comfy.cli_args.args.cpu = True
import folder_paths, types, torch, facer
pack = types.ModuleType("pack"); pack.__path__ = [sys.argv[3]]; sys.modules["pack"] = pack
from pack.host import faces, weights
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
                           str(face_weights / "camouflage")], capture_output=True, text=True,
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
    assert not run("AttributeMap", faces=faces, width=256, height=256)[0].any()


def test_sixty_faces(host, run, monkeypatch):
    plant(host, monkeypatch, [(10.0 + 40 * x, 10.0 + 40 * y, 40.0 + 40 * x, 40.0 + 40 * y)
                              for y in range(6) for x in range(10)])
    faces, = run("FaceAttributes", image=pictures(4, 1, 256, 416))
    assert faces.count == 60 and all(None not in face.attributes for face in faces.pictures[0].faces)
    assert run("FacePreview", image=pictures(4, 1, 256, 416), faces=faces)[0].shape == (1, 256, 416, 3)
    assert run("AttributeMap", faces=faces, width=416, height=256)[0].shape == (1, 41, 32, 52)


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


def test_every_picture_of_a_batch_is_read_on_its_own(run, said):
    batch = pictures(4, 3, 128, 256)
    together, = run("FaceAttributes", image=batch, landmarks=True)
    alone = [run("FaceAttributes", image=image, landmarks=True)[0].pictures[0] for image in batch.split(1)]
    assert list(together.pictures) == alone and together.count == 6
    assert alone[0] != alone[1]
    assert said[0] == "Faces: 2, 2, 2"


def test_rgba_nan_and_bad_settings(run):
    image = pictures(4, 1, 256, 256)
    opaque = torch.cat([image, torch.ones_like(image[..., :1])], dim=-1)
    assert run("FaceAttributes", image=opaque) == run("FaceAttributes", image=image)
    broken = image.clone()
    broken[0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite pixels in picture 0"):
        run("FaceAttributes", image=broken)
    for bad, text in (({"threshold": 0.0}, "'threshold' is 0.0"), ({"threshold": float("nan")}, "'threshold' is nan"),
                      ({"smallest_face": -1}, "'smallest' is -1"), ({"image": pictures(0, 1, 32, 32)}, "32 x 32 px")):
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


# --- missing, damaged, hostile and untrusted files --------------------------------------------------------------


@pytest.mark.parametrize("kind", FILES)
def test_a_missing_file_is_named(run, weights_folder, kind):
    (weights_folder / FILES[kind]).unlink()
    if kind == "landmarks":
        assert run("FaceAttributes", image=pictures(4, 1, 256, 256))[0].count == 1
    with pytest.raises(ValueError, match="missing") as error:
        run("FaceAttributes", image=pictures(4), landmarks=True)
    text = str(error.value)
    assert str(weights_folder / FILES[kind]) in text and "https://" in text and "licence:" in text


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("content", ["truncated", "noise", "other"])
def test_a_damaged_file(run, weights_folder, kind, content, tmp_path):
    path = weights_folder / FILES[kind]
    data = path.read_bytes()
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other")
    path.write_bytes({"truncated": data[: len(data) // 2], "noise": b"\x13\x37" * 5000,
                      "other": (tmp_path / "other").read_bytes()}[content])
    if kind != "attributes":  # whose digest nobody knows
        with pytest.raises(ValueError, match=r"(?s)not the published file|is not run unasked.*SHA256SUMS"):
            run("FaceAttributes", image=pictures(4), landmarks=True)
    vouch_for(weights_folder, FILES[kind])
    with pytest.raises(ValueError, match=r"could not be loaded.*download it again"):
        run("FaceAttributes", image=pictures(4), landmarks=True)


def test_a_detector_with_missing_tensors_is_refused(run, weights_folder):
    path = weights_folder / FILES["detector"]
    state = torch.load(path, weights_only=True)
    del state["fpn.merge1.0.weight"]
    torch.save(state, path)
    vouch_for(weights_folder, FILES["detector"])
    with pytest.raises(ValueError, match="1 of .* tensors are missing, fpn.merge1.0.weight"):
        run("FaceAttributes", image=pictures(4))


@pytest.mark.parametrize("kind", FILES)
def test_code_in_a_pickle_is_never_executed(run, weights_folder, tmp_path, kind):
    victim = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(victim),)

    path = weights_folder / FILES[kind]
    if kind == "landmarks":  # hidden where pyfacer unpickles it
        head = torch.jit.load(str(path))
        torch.jit.save(head, str(path), _extra_files={"backbone": pickle.dumps(Bomb())})
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    vouch_for(weights_folder, FILES[kind])
    with pytest.raises(ValueError, match="could not be loaded"):
        run("FaceAttributes", image=pictures(4), landmarks=True)
    assert not victim.exists()


def test_torchscript_is_not_run_unless_vouched_for(run, weights_folder, monkeypatch):
    image = pictures(4, 1, 256, 256)
    (weights_folder / "SHA256SUMS").unlink()
    vouch_for(weights_folder, FILES["detector"])
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("opened"))
    assert run("FaceAttributes", image=image)[0].count == 1
    with pytest.raises(ValueError, match="is not run unasked") as error:
        run("FaceAttributes", image=image, landmarks=True)
    monkeypatch.undo()
    line = next(line for line in str(error.value).splitlines() if line.endswith(FILES["landmarks"]))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "camouflage", ([str(weights_folder)], {".pt", ".pth"}))
    with open(weights_folder / "SHA256SUMS", "a") as sums:
        sums.write(line + "\n")
    assert run("FaceAttributes", image=image, landmarks=True)[0].pictures[0].faces[0].landmarks


# --- the other nodes --------------------------------------------------------------------------------------------


def test_edits_presets_and_their_conflicts(run, host):
    faces, = run("FaceAttributes", image=pictures(4, 1, 128, 256))
    edit = host.module("camouflage.method.attributes").edit
    assert run("EditAttributes", faces=faces)[0] == faces
    text = '{"persons": {"1": {"Male": 0.25}, "all": {"Young": "forget"}}}'
    ours, = run("EditAttributes", faces=faces, preset="no demographics", edits=text)
    assert ours == edit(faces, json.dumps({"preset": "no demographics", **json.loads(text)})) != faces
    written = '{"preset": "expression only"}'
    assert run("EditAttributes", faces=faces, preset="as in the edits", edits=written)[0] == edit(faces, written)
    for inputs, error in (({"edits": written}, "'preset' is 'paper', but 'edits' names 'expression only'"),
                          ({"preset": "none"}, "'preset' is 'none'"), ({"edits": "{"}, "no valid JSON"),
                          ({"edits": "[]"}, "must be an object")):
        with pytest.raises(ValueError, match=error):
            run("EditAttributes", faces=faces, **inputs)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 256), (1024, 768)])
def test_preview_draws_every_box(run, host, height, width):
    types = host.module("camouflage.method.faces")
    box = (width * 0.25, height * 0.2, width * 0.75, height * 0.6)
    points = tuple((width * x, height * y) for x, y in ((.4, .3), (.6, .3), (.5, .4), (.42, .5), (.58, .5)))
    faces = types.Faces((types.Picture(height, width, (types.Face(box, 0.9, points, None, (0.9,) * 40),)),))
    image = torch.zeros(1, height, width, 3)
    drawn, = run("FacePreview", image=image, faces=faces)
    plain, = run("FacePreview", image=image, faces=faces, attributes=0)
    assert drawn.shape == image.shape and drawn.max() <= 1 and not image.any()
    for x, y in points:
        assert drawn[0, int(y), int(x)].max() > 0.5
    assert drawn[0, int(box[1]), int(width / 2)].max() > 0.5
    assert drawn[0, int(height * .45), int(box[0])].max() > 0.5
    assert (drawn > 0.5).sum() > (plain > 0.5).sum()
    for images, error in ((torch.zeros(2, height, width, 3), "has 2 pictures"),
                          (torch.zeros(1, height, width + 1, 3), "were read from")):
        with pytest.raises(ValueError, match=error):
            run("FacePreview", image=images, faces=faces)


def test_the_map_has_the_latents_size(run, host):
    faces, = run("FaceAttributes", image=pictures(4, 2, 128, 256))
    expected = host.module("camouflage.method.attribute_map").attribute_map(faces, 16, 32)
    assert torch.equal(run("AttributeMap", faces=faces, width=256, height=128)[0], expected) and expected.any()
    drawn, shown = run("AttributeMap", faces=faces, latent={"samples": torch.zeros(2, 4, 24, 48)})
    assert drawn.shape == (2, 41, 24, 48) and shown.shape == (2, 192, 384, 3) and shown.any()
    with pytest.raises(ValueError, match="256 x 128 px, but the map is for 320 x 192 px: another shape"):
        run("AttributeMap", faces=faces, latent={"samples": torch.zeros(2, 4, 24, 40)})
    with pytest.raises(ValueError, match="multiples of 8"):
        run("AttributeMap", faces=faces, width=255, height=128)


def test_every_socket_explains_itself(host):
    for node in host.module("nodes.faces").NODES:
        schema = node.GET_SCHEMA()
        assert schema.description and schema.node_id.startswith("Camouflage")
        assert all(socket.tooltip for socket in [*schema.inputs, *schema.outputs])


# --- the stand-ins ----------------------------------------------------------------------------------------------


def test_stand_ins_are_the_same_bytes_for_the_same_seed(face_weights, tmp_path):
    from testing.miniature import faces

    faces.faces(tmp_path / "same", 0)
    faces.detector(tmp_path / "other", 1)
    for file in FILES.values():
        assert (tmp_path / "same/camouflage" / file).read_bytes() == (face_weights / "camouflage" / file).read_bytes()
    assert (tmp_path / "other/camouflage" / FILES["detector"]).read_bytes() != (
        face_weights / "camouflage" / FILES["detector"]).read_bytes()
