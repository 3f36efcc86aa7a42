"""Recognisers from ONNX files, made here: what they are given, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skimage.transform import SimilarityTransform

import photos
from camouflage.errors import CamouflageError
from camouflage.evaluation.recognisers import KINDS, OnnxRecogniser, aligned, similarity

TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
                     [70.7299, 92.2041]])


def network(path: Path, side: int, width: int = 64, channels: int = 3) -> Path:
    """Mean colours of the picture's parts, mixed: one convolution as large as its stride."""
    cell = side // 4
    kernel = np.random.default_rng(0).normal(size=(width // 16, channels, cell, cell)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["face", "kernel"], ["parts"], strides=[cell, cell], kernel_shape=[cell, cell]),
         helper.make_node("Flatten", ["parts"], ["embedding"])], "recogniser",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, [1, channels, side, side])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, width])],
        [numpy_helper.from_array(kernel, "kernel")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def by_hand(path: Path, face: np.ndarray, bgr: bool, scale: float) -> np.ndarray:
    """The network's answer, computed here."""
    kernel = numpy_helper.to_array(onnx.load(path).graph.initializer[0]).astype(np.float64)
    values = ((face[..., ::-1] if bgr else face).astype(np.float64) - 127.5) / scale
    cell = kernel.shape[-1]
    parts = values.reshape(4, cell, 4, cell, 3)
    found = np.einsum("aibjc,kcij->kab", parts, kernel).ravel()
    return found / np.linalg.norm(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_face_is_prepared_as_its_family_has_it(kind, tmp_path):
    of = KINDS[kind]
    recogniser = OnnxRecogniser(kind, network(tmp_path / "net.onnx", of.side))
    face = np.random.default_rng(1).integers(0, 256, (of.side, of.side, 3), np.uint8)
    found = recogniser._forward(face)
    assert found / np.linalg.norm(found) == pytest.approx(by_hand(tmp_path / "net.onnx", face, of.bgr, of.scale),
                                                          abs=1e-4)
    assert recogniser.info.name == f"{kind} net" and len(recogniser.info.sha256[0]) == 64


def test_embeddings_are_unit_vectors_and_their_distance_the_cosines(tmp_path):
    recogniser = OnnxRecogniser("arcface", network(tmp_path / "net.onnx", 112))
    picture = photos.load("astronaut")
    found = recogniser.embed(picture, [(180.0, 60.0, 270.0, 180.0), (0.0, 0.0, 60.0, 60.0)])
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1])
    assert recogniser.distances(found, found) == pytest.approx(np.maximum(1 - found @ found.T, 0), abs=1e-6)
    assert recogniser.embed(picture, []).shape == (0, 64)


def test_the_template_is_met_after_turn_scale_and_shift():
    move = SimilarityTransform(scale=2.5, rotation=0.3, translation=(40, 10))
    points = move(TEMPLATE)
    assert similarity(points, TEMPLATE) == pytest.approx(move.inverse.params[:2], abs=1e-9)
    noisy = points + np.random.default_rng(0).normal(0, 3, points.shape)
    theirs = SimilarityTransform.from_estimate(noisy, TEMPLATE)
    assert similarity(noisy, TEMPLATE) == pytest.approx(theirs.params[:2], abs=1e-6), "Umeyama's"


def test_points_land_where_the_template_has_them():
    picture = np.zeros((300, 300, 3), np.uint8)
    points = SimilarityTransform(scale=2, rotation=-0.2, translation=(20, 60))(TEMPLATE)
    for x, y in points.round().astype(int):
        picture[y - 2:y + 3, x - 2:x + 3] = 255
    face = aligned(picture, points, 160)
    for x, y in (TEMPLATE * 160 / 112).round().astype(int):
        assert face[y, x, 0] > 150


@pytest.mark.parametrize(("kind", "change", "said"), [
    ("resnet", lambda path: network(path, 112), "kind must be arcface"),
    ("arcface", lambda path: path.write_bytes(b"no network"), "is no ONNX file"),
    ("arcface", lambda path: path.write_bytes(b""), "takes nothing as its input"),
    ("arcface", lambda path: network(path, 112, channels=1), "one picture of 3 x 112 x 112"),
    ("facenet", lambda path: network(path, 112), "one picture of 3 x 160 x 160"),
    ("arcface", lambda path: network(path, 112, width=16), "gives 16 numbers"),
    ("arcface", lambda path: None, "There is no recogniser")])
def test_another_file_is_refused_in_a_sentence(kind, change, said, tmp_path):
    path = tmp_path / "net.onnx"
    change(path)
    with pytest.raises(CamouflageError, match=said):
        OnnxRecogniser(kind, path)
