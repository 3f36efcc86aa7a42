"""YuNet and SFace in miniature: ONNX files in the published layouts, which OpenCV's own classes run.

The detector "finds" magenta rectangles (red and blue high, green low) that a test paints; a photo has next to none. A
rectangle's score is its colour, 0.4 red + 0.6 blue - green with white at 1, from 0.35 on; its box is exact to a pixel;
its landmarks lie at preset places of the box. It is measured in a window of 9 x 9 cells of 8, 16 or 32 px, of which it
may cover 7 x 7, and in which nothing else may be magenta.

The recogniser embeds the differences between the mean colours of neighbouring cells of 8 px in the middle of the face,
at random: equal faces embed equal, others differ, an even area embeds as a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .tensors import file_of, generator

WINDOW, INNER = 9, 7  # cells: where a rectangle is measured, and what it may cover of that
_CHANNELS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # of the outputs, for every cell
# Parts of the box: right eye, left eye, nose, right and left corner of the mouth, as the person has them.
LANDMARKS = ((0.265, 0.375), (0.735, 0.375), (0.5, 0.57), (0.3, 0.73), (0.7, 0.73))


class _Graph:
    """Collects nodes and weights; every method adds one operation and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(value, f"weight{len(self.weights)}"))
        return self.weights[-1].name

    def __call__(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def conv(self, x: str, kernel: Sequence | np.ndarray, bias: Sequence[float] = (), **attributes: Any) -> str:
        kernel = np.asarray(kernel, np.float32)
        if kernel.ndim == 2:  # a matrix works on every pixel by itself
            kernel = kernel[:, :, None, None]
        return self("Conv", x, self.weight(kernel), self.weight(np.array(bias or [0] * len(kernel), np.float32)),
                    kernel_shape=kernel.shape[2:], **attributes)

    def clip(self, x: str, low: float, high: float) -> str:
        return self("Clip", x, self.weight(np.array(low, np.float32)), self.weight(np.array(high, np.float32)))

    def divide(self, x: str, by: str, least: float = 1e-6) -> str:
        """Clipped before: OpenCV 5 computes with up to eight channels more than there are, and these hold zeros."""
        return self("Div", x, self.clip(by, least, 1e6))

    def save(self, path: Path, name: str, shape: Sequence[int], outputs: dict[str, Sequence[int]]) -> None:
        """Writes the file; the same bytes every time."""
        tensor, values = helper.make_tensor_value_info, TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, path.stem, [tensor(name, values, shape)],
                                  [tensor(key, values, size) for key, size in outputs.items()], self.weights)
        model: ModelProto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
        path.write_bytes(model.SerializeToString(deterministic=True))


def _moments(stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernels that measure mass, its means and its means of squares (x, x*x, y, y*y; in cells) around every cell.

    Returns:
        Within each cell, 5 x 1 x stride x stride, and from there over the window, 5 x 5 x 9 x 9.
    """
    inside = (np.arange(stride) + 0.5) / stride - 0.5
    one, x, y = np.ones((stride, stride)), np.tile(inside, (stride, 1)), np.tile(inside[:, None], (1, stride))
    within = np.stack([one, x, x * x, y, y * y])[:, None] / stride**2
    offset = np.arange(WINDOW) - WINDOW // 2.0
    over = np.zeros((5, 5, WINDOW, WINDOW))
    over[range(5), range(5)] = 1.0
    for first, place in ((1, np.tile(offset, (WINDOW, 1))), (3, np.tile(offset[:, None], (1, WINDOW)))):
        over[first, 0] = place
        over[first + 1, first], over[first + 1, 0] = 2 * place, place * place
    return within, over


def _detect(net: _Graph, mask: str, strength: str, stride: int) -> dict[str, str]:
    """One level of the detector: its four outputs, as values 1 x n x h x w."""
    within, over = _moments(stride)
    step = {"strides": [stride, stride]}
    window = {"pads": [WINDOW // 2] * 4}
    cells = net.conv(mask, within, **step)
    every, inner = np.zeros((1, 5, WINDOW, WINDOW)), np.zeros((1, 5, WINDOW, WINDOW))
    every[:, 0] = 1.0
    border = (WINDOW - INNER) // 2
    inner[:, 0, border:-border, border:-border] = 1.0
    mass = net.conv(cells, np.repeat(every, 4, 0), **window)
    means = net.divide(net.conv(cells, over[1:], **window), mass)
    centre = net.conv(means, [[1, 0, 0, 0], [0, 0, 1, 0]])
    spread = net("Sub", net.conv(means, [[0, 1, 0, 0], [0, 0, 0, 1]]), net("Mul", centre, centre))
    # A side of n pixels has the variance (n^2 - 1) / 12.
    size = net("Sqrt", net.clip(net.conv(spread, 12 * np.eye(2), [stride**-2] * 2), 1e-4, 1e4))
    area = net("Mul", net.conv(size, [[1, 0]]), net.conv(size, [[0, 1]]))
    mass = net.conv(mass, [[1, 0, 0, 0]])
    full = net.divide(mass, area)  # 1 for a rectangle, less for several together
    outside = net.conv(cells, every - inner, **window)
    colour = net.conv(net.conv(strength, np.full((1, 1, stride, stride), stride**-2), **step), every[:, :1], **window)
    colour = net.divide(colour, mass, least=0.1)  # less is the corner of something larger
    fits = net("Mul", net.clip(net.conv(full, [[10]], [-8.5]), 0, 1), net.clip(net.conv(outside, [[-50]], [1]), 0, 1))
    score = net("Mul", colour, fits)
    box = net("Concat", net.conv(centre, np.eye(2), [0.5] * 2), net("Log", size), axis=1)
    points = np.zeros((10, 4))
    for row, part in enumerate(np.ravel(LANDMARKS)):
        points[row, row % 2], points[row, 2 + row % 2] = 1.0, part - 0.5
    landmarks = net.conv(net("Concat", centre, size, axis=1), points, [0.5] * 10)
    return {"cls": score, "obj": score, "bbox": box, "kps": landmarks}


def yunet(models: Path, seed: int) -> None:
    """Write the detector; it needs no random numbers."""
    path = file_of(models, "face detector (YuNet)")
    net = _Graph()
    colour = net.conv("input", [[0.6 / 255, -1 / 255, 0.4 / 255]])  # blue, green, red
    mask = net.clip(net.conv(colour, [[20]], [-6]), 0, 1)
    strength = net("Mul", colour, mask)
    outputs = {}
    levels = {stride: _detect(net, mask, strength, stride) for stride in (8, 16, 32)}
    for kind, channels in _CHANNELS.items():
        for stride, level in levels.items():
            rows = net("Transpose", level[kind], perm=[0, 2, 3, 1])
            net("Reshape", rows, net.weight(np.array([1, -1, channels], np.int64)), output=f"{kind}_{stride}")
            outputs[f"{kind}_{stride}"] = (1, (640 // stride) ** 2, channels)
    net.save(path, "input", (1, 3, 640, 640), outputs)


def sface(models: Path, seed: int) -> None:
    """Write the recogniser."""
    path = file_of(models, "face recogniser (SFace)")
    rng = generator(seed, path)
    net = _Graph()
    middle = net("Slice", net.conv("data", np.eye(3) / 128), *(net.weight(np.array(ends, np.int64)) for ends in
                                                               ([24, 24], [88, 88], [2, 3])))
    cells = net("AveragePool", middle, kernel_shape=[8, 8], strides=[8, 8])
    kernel = torch.randn(8, 3, 3, 3, generator=rng).numpy()
    kernel -= kernel.mean((2, 3), keepdims=True)  # blind to an even colour
    features = net("Flatten", net.conv(cells, kernel), axis=1)
    matrix = torch.randn(128, 288, generator=rng).numpy() / 288**0.5
    bias = 0.1 * torch.randn(128, generator=rng).numpy()
    net("Gemm", features, net.weight(matrix), net.weight(bias), transB=1, output="fc1")
    net.save(path, "data", (1, 3, 112, 112), {"fc1": (1, 128)})


def recognition(models: Path, seed: int) -> None:
    """Write both."""
    yunet(models, seed)
    sface(models, seed)
