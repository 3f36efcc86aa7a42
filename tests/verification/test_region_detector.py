"""Detectors of regions from ONNX files that are made here: layouts, letterbox, tiles, and files that are refused."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper, save

from camouflage.errors import CamouflageError
from camouflage.verification import regions
from camouflage.verification.regions import RegionDetector, letterboxed, read_output, wanted_classes

SIDE = 64
CELLS = 8 * 8 + 4 * 4 + 2 * 2
PLANTED = [(10.0, 20.0, 30.0, 28.0, 0.9, 1), (40.0, 40.0, 60.0, 50.0, 0.6, 0)]  # left, top, right, bottom, score, class


def network(path: Path, values: np.ndarray, *, notes=None, element=TensorProto.FLOAT, shape=(1, 3, SIDE, SIDE),
            outputs=1, operation="Mul", domain="") -> Path:
    """A network that gives these values whatever it sees."""
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
             helper.make_node(operation, ["mean", "zero"], ["nothing"], domain=domain),
             *(helper.make_node("Add", ["values", "nothing"], [f"output{i}"]) for i in range(outputs))]
    weights = [numpy_helper.from_array(np.asarray(values, np.float32), "values"),
               numpy_helper.from_array(np.zeros((), np.float32), "zero")]
    graph = helper.make_graph(
        nodes, "detector", [helper.make_tensor_value_info("images", element, shape)],
        [helper.make_tensor_value_info(f"output{i}", TensorProto.FLOAT, np.shape(values)) for i in range(outputs)],
        weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("ours", 1)],
                              ir_version=8)
    helper.set_model_props(model, notes or {})
    save(model, path)
    return path


def planted(layout: str, classes: int = 2) -> np.ndarray:
    """The planted boxes in a layout."""
    if layout == "end to end":
        values = np.zeros((1, 100, 6), np.float32)
        values[0, :len(PLANTED)] = PLANTED
        return values
    columns = 4 + (layout == "v5") + classes
    values = np.zeros((CELLS * (3 if layout == "v5" else 1), columns), np.float32)
    for row, (left, top, right, bottom, score, number) in enumerate(PLANTED):
        values[7 * row, :4] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        values[7 * row, columns - classes + number] = score if layout == "v8" else 1.0
        if layout == "v5":
            values[7 * row, 4] = score
    return values[None] if layout == "v5" else values.T[None]


@pytest.mark.parametrize("layout", ["v8", "v5", "end to end"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 256), (150, 90)])
def test_every_layout_gives_the_planted_boxes(tmp_path, layout, height, width) -> None:
    detector = RegionDetector(network(tmp_path / "net.onnx", planted(layout)))
    found = detector.find(np.zeros((height, width, 3), np.uint8), 0.5, tiles=False)
    assert [(one.number, pytest.approx(one.score)) for one in found] == [(1, 0.9), (0, 0.6)]
    factor = min(SIDE / height, SIDE / width)
    margins = [(SIDE - round(side * factor)) // 2 for side in (width, height)]
    for one, (*box, _, _) in zip(found, PLANTED, strict=True):
        wanted = [(value - margins[i % 2]) * (width, height)[i % 2] / round((width, height)[i % 2] * factor)
                  for i, value in enumerate(box)]
        limits = [width, height, width, height]
        assert one.box_ltrb == pytest.approx([min(max(value, 0), limit)
                                              for value, limit in zip(wanted, limits, strict=True)], abs=1e-4)


def test_threshold_and_classes(tmp_path) -> None:
    notes = {"names": "{0: 'car', 1: 'licence plate'}", "task": "detect"}
    detector, empty = RegionDetector(network(tmp_path / "net.onnx", planted("v8"), notes=notes)), np.zeros(
        (64, 64, 3), np.uint8)
    assert detector.names == {0: "car", 1: "licence plate"}
    assert len(detector.find(empty, 0.61)) == 1 and not detector.find(empty, 0.91)
    for text, numbers in (("", [1, 0]), ("Licence Plate", [1]), ("0", [0]), ("1, car", [1, 0])):
        wanted = wanted_classes(text, detector.names)
        assert [one.number for one in detector.find(empty, 0.5, wanted)] == numbers
    with pytest.raises(CamouflageError, match="'labels' has 'plate', .* It has 0: car, 1: licence plate"):
        wanted_classes("plate", detector.names)
    with pytest.raises(CamouflageError, match="'labels' has '2'"):
        wanted_classes("2", detector.names)
    assert wanted_classes("7", {}) == {7}
    with pytest.raises(CamouflageError, match="no names: write the numbers"):
        wanted_classes("plate", {})


def test_doubles_of_one_class_go_and_those_of_two_stay(tmp_path) -> None:
    values = np.zeros((1, 100, 6), np.float32)
    values[0, :4] = [(10, 10, 30, 20, 0.9, 0), (11, 10, 31, 20, 0.8, 0), (10, 11, 30, 21, 0.7, 1),
                     (10, 30, 30, 40, 0.6, 0)]
    found = RegionDetector(network(tmp_path / "net.onnx", values)).find(np.zeros((64, 64, 3), np.uint8), 0.3)
    assert [(one.number, round(one.score, 1)) for one in found] == [(0, 0.9), (1, 0.7), (0, 0.6)]


def red_squares(path: Path) -> Path:
    """A detector of v8's layout that sees cells of 8 px which are red and nothing else."""
    grid = np.array([(8 * column + 4, 8 * row + 4, 8, 8) for row in range(8) for column in range(8)], np.float32).T
    kernel = np.ones((1, 3, 8, 8), np.float32) / 64 * np.array([1, -1, -1], np.float32)[None, :, None, None]
    weights = {"kernel": kernel, "grid": grid[None], "rest": np.zeros((1, 5, CELLS - 64), np.float32),
               "low": np.float32(0), "high": np.float32(1)}
    nodes = [helper.make_node("Conv", ["images", "kernel"], ["red"], kernel_shape=[8, 8], strides=[8, 8]),
             helper.make_node("Clip", ["red", "low", "high"], ["score"]),
             helper.make_node("Reshape", ["score", "shape"], ["scores"]),
             helper.make_node("Concat", ["grid", "scores"], ["fine"], axis=1),
             helper.make_node("Concat", ["fine", "rest"], ["output"], axis=2)]
    graph = helper.make_graph(
        nodes, "red", [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, SIDE, SIDE))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, 5, CELLS))],
        [*(numpy_helper.from_array(value, name) for name, value in weights.items()),
         numpy_helper.from_array(np.array([1, 1, 64], np.int64), "shape")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_it_sees_red_green_and_blue_in_that_order_between_0_and_1(tmp_path) -> None:
    pixels = np.zeros((128, 64, 3), np.uint8)
    pixels[32:48, 16:32] = 255, 0, 0
    pixels[64:80, 16:32] = 0, 0, 255
    pixels[96:112, 32:48] = 153, 0, 0
    found = RegionDetector(red_squares(tmp_path / "red.onnx")).find(pixels, 0.5)
    # Seen at half the size, with 16 px of margin at left and right.
    assert [(one.box_ltrb, round(one.score, 2)) for one in found] == [((16, 32, 32, 48), 1.0), ((32, 96, 48, 112), 0.6)]


def test_tiles_find_what_the_whole_picture_does_not_show(tmp_path) -> None:
    detector = RegionDetector(red_squares(tmp_path / "red.onnx"))
    pixels = np.zeros((300, 512, 3), np.uint8)
    left, top = 384, 300 - 128  # where a tile begins: of 128 px, each at half its size
    pixels[top + 16:top + 32, left + 32:left + 48] = 255, 0, 0
    assert not detector.find(pixels, 0.5, tiles=False)
    looks = []
    found = detector.find(pixels, 0.9, pause=lambda: looks.append(1))
    assert [one.box_ltrb for one in found] == [(left + 32, top + 16, left + 48, top + 32)]
    assert len(looks) == 1 + 3 * 5


def test_the_letterbox_keeps_the_aspect_and_brings_boxes_back() -> None:
    pixels = np.full((100, 50, 3), 255, np.uint8)
    seen, back = letterboxed(pixels, 64, 96)
    assert seen.shape == (1, 3, 64, 96) and seen.dtype == np.float32
    assert (seen[..., 32:64] == 1).all() and np.allclose(seen[..., :32], 114 / 255) and seen[..., 64:].max() < 0.5
    assert np.allclose(back(np.array([[32, 0, 64, 64]])), [[0, 0, 50, 100]])


@pytest.mark.parametrize(("values", "message"), [
    (np.zeros((1, 7, CELLS - 1)), r"its output is 1 x 7 x 83, .* 1 x \(4 \+ classes\) x 84"),
    (np.zeros((7, CELLS)), "its output is 7 x 84"),
    (np.zeros((1, CELLS, 7)), "its output is 1 x 84 x 7"),
    (np.full((1, 6, CELLS), 3.0), "scores run from 3 to 3"),
    (np.full((1, 3 * CELLS, 7), -1.0), "scores run from -1"),
    (np.full((1, 50, 6), 0.5), "must be numbers of classes"),
    (np.full((1, 6, CELLS), np.nan), "NaN"),
])
def test_other_outputs_are_refused(tmp_path, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_output(values, SIDE, SIDE)


def test_boxes_as_parts_of_the_picture_and_further_columns_are_refused(tmp_path) -> None:
    values = np.zeros((1, 100, 6), np.float32)
    values[0, 0] = 0.1, 0.2, 0.5, 0.4, 0.9, 0
    with pytest.raises(CamouflageError, match="boxes as parts of the picture"):
        RegionDetector(network(tmp_path / "parts.onnx", values)).find(np.zeros((64, 64, 3), np.uint8), 0.5)
    turned = network(tmp_path / "turned.onnx", planted("v8"), notes={"names": "{0: 'plate'}"})
    with pytest.raises(CamouflageError, match="names 1 classes, but gives scores of 2"):
        RegionDetector(turned)


def test_wrong_files_are_told_apart(tmp_path, monkeypatch) -> None:
    right, path = network(tmp_path / "right.onnx", planted("v8")).read_bytes(), tmp_path / "wrong.onnx"
    for content, message in ((b"", "It is empty"), (b"<!doctype html><html>", "web page"), (b"\x80\x04}q.", "pickled"),
                             (b"PK\x03\x04rest", "pickled"), (b"hello" * 99, "no ONNX file"),
                             (right[:len(right) // 2], "no ONNX file|end is missing"), (b"\x08\x08", "no network")):
        path.write_bytes(content)
        with pytest.raises(CamouflageError, match=rf"wrong\.onnx .*({message})") as caught:
            RegionDetector(path)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(CamouflageError, match="There is no file nowhere"):
        RegionDetector(tmp_path / "nowhere.onnx")
    monkeypatch.setattr(regions, "LARGEST_FILE", 100)
    with pytest.raises(CamouflageError, match="at most"):
        RegionDetector(tmp_path / "right.onnx")


@pytest.mark.parametrize(("settings", "message"), [
    ({"element": TensorProto.UINT8}, "must take 32-bit floats"), ({"outputs": 2}, "must have one output, but has 2"),
    ({"shape": (1, 1, SIDE, SIDE)}, "must have one input, .* but has 1 x 1 x 64 x 64"),
    ({"shape": (1, 3, 50, SIDE)}, "multiples of 32"), ({"notes": {"task": "segment"}}, "made for 'segment'"),
])
def test_networks_of_another_kind_are_refused_before_they_run(tmp_path, settings, message) -> None:
    path = network(tmp_path / "net.onnx", planted("v8"), **settings)
    with pytest.raises(CamouflageError, match=message):
        RegionDetector(path)


def test_weights_in_another_file_are_not_opened(tmp_path) -> None:
    import onnx

    model = onnx.load(network(tmp_path / "net.onnx", planted("v8")))
    external_data_helper.convert_model_to_external_data(model, location="../secret.bin", size_threshold=0)
    (tmp_path / "apart.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CamouflageError, match="weights in another file"):
        RegionDetector(tmp_path / "apart.onnx")


def test_open_sides_take_the_resolution(tmp_path) -> None:
    values = np.zeros((1, 5, 144 + 36 + 9), np.float32)
    path = network(tmp_path / "net.onnx", values, shape=("batch", 3, "height", "width"))
    assert RegionDetector(path, 96).size == (96, 96)
    with pytest.raises(CamouflageError, match="its output is 1 x 5 x 189"):
        RegionDetector(path, 64)


def test_what_opencv_cannot_run_goes_to_onnxruntime_where_that_is_installed(tmp_path, monkeypatch) -> None:
    path = network(tmp_path / "net.onnx", planted("v8"), operation="Strange", domain="ours")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(regions.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CamouflageError, match="cannot be run by OpenCV .*pip install onnxruntime"):
        RegionDetector(path)

    class Session:
        def __init__(self, data, providers):
            assert data == path.read_bytes() and providers == ["CPUExecutionProvider"]

        def run(self, outputs, inputs):
            assert inputs["images"].shape == (1, 3, SIDE, SIDE)
            return [planted("v8")]

    stub = types.ModuleType("onnxruntime")
    stub.__spec__ = importlib.machinery.ModuleSpec("onnxruntime", None)
    stub.InferenceSession = Session
    monkeypatch.setitem(sys.modules, "onnxruntime", stub)
    monkeypatch.setattr(regions.importlib.util, "find_spec", lambda name: stub.__spec__)
    found = RegionDetector(path).find(np.zeros((64, 64, 3), np.uint8), 0.5)
    assert [one.number for one in found] == [1, 0]
