"""FACER's three networks in miniature: face detector, attributes, landmarks. They run facer's real code.

The detector cannot be random, for random boxes show nothing. Its state is random except for a few channels that measure
how far the picture's borders are (zero padding is all they see, never the pixels) and plant faces by that: a picture
about as wide as high, or higher, gets one in its middle, a wide one gets two, a shorter side apart from its left and
right border. The measure reaches 158 px: pictures of more than about 288 px on their shorter side get
some faces more than that.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from facer.face_alignment.network import FaRLVisualFeatures
from facer.face_detection.retinaface import RetinaFace, cfg_mnet
from facer.farl.classification import VITClassificationHeadV0
from facer.farl.model import VisualTransformer
from torch import nn

from .tensors import State, file_of, generator, random_state

LEFT, RIGHT, TOP, BOTTOM = range(4)
UNIT = 64.0  # px: distances are measured in it
_SHIFT = {LEFT: (1, 0), RIGHT: (1, 2), TOP: (0, 1), BOTTOM: (2, 1)}  # tap of a 3 x 3 kernel that looks there
_MIDDLE = (1, 1)

# From the face's middle, in parts of the box's side: eyes, nose, mouth corners, viewer's left first.
_KEYPOINTS = ((-0.19, -0.12), (0.19, -0.12), (0.0, 0.06), (-0.15, 0.24), (0.15, 0.24))


def _isolate(state: State, conv: str, norm: str, rows: Sequence[dict[tuple[int, int, int], float]],
             biases: list[float] | None = None) -> None:
    """Makes the first outputs of a convolution exactly ``rows`` ({(input, y, x): weight}); its norm lets them pass."""
    weight, count = state[f"{conv}.weight"], len(rows)
    weight[:count] = 0.0
    for output, row in enumerate(rows):
        for (channel, y, x), value in row.items():
            weight[output, channel, y, x] = value
    for key, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
        state[f"{norm}.{key}"][:count] = value
    if biases is not None:
        state[f"{norm}.bias"][:count] = torch.tensor(biases, dtype=state[f"{norm}.bias"].dtype)


def _measure(state: State) -> None:
    """Channels 0-3 say whether the picture goes on so many pixels to each side, 4-7 add up how far it does."""
    _isolate(state, "body.stage1.0.0", "body.stage1.0.1", [{} for _ in range(8)], [1.0] * 4 + [0.0] * 4)
    steps = {"stage1": (2, 0, 4, 0, 8), "stage2": (0, 16, 16, 16, 16, 16), "stage3": (0, 32)}  # px; 0 halves the size
    for stage, blocks in steps.items():
        for index, step in enumerate(blocks, start=1 if stage == "stage1" else 0):
            name = f"body.{stage}.{index}"
            here: dict[tuple[int, int, int], float] = {(0, *_MIDDLE): 1.0}
            taps = [here] * 8
            if step:
                taps[:4] = [{(0, *_SHIFT[side]): 1.0} for side in range(4)]
            _isolate(state, f"{name}.0", f"{name}.1", taps)
            _isolate(state, f"{name}.3", f"{name}.4", [{(side, 0, 0): 1.0} for side in range(4)] + [
                {(4 + side, 0, 0): 1.0, (side, 0, 0): step / UNIT} for side in range(4)])
    _isolate(state, "fpn.output3.0", "fpn.output3.1", [{(i, 0, 0): 1.0} for i in range(8)])


def _combine(*parts: tuple[float, dict[int, float]]) -> dict[int, float]:
    """A weighted sum of linear forms ({channel: weight})."""
    total: dict[int, float] = {}
    for factor, form in parts:
        for channel, value in form.items():
            total[channel] = total.get(channel, 0.0) + factor * value
    return total


def _taps(form: dict[int, float]) -> dict[tuple[int, int, int], float]:
    return {(channel, *_MIDDLE): value for channel, value in form.items()}


def _positive(plain: dict[int, float], leaky: int) -> dict[int, float]:
    """max(z, 0) from z and LeakyReLU(z) with slope 0.1."""
    return _combine((1 / 0.9, {leaky: 1.0}), (-0.1 / 0.9, plain))


def _plant(state: State) -> None:
    """From distances to a score, a box and five points, in the deepest branch of the coarsest level."""
    head = "ssh3"
    distance = [{(4 + side, *_MIDDLE): 1.0, (side, *_SHIFT[side]): 32 / UNIT} for side in range(4)]
    minus = lambda a, b: {**distance[a], **{tap: -value for tap, value in distance[b].items()}}  # noqa: E731
    _isolate(state, f"{head}.conv5X5_1.0", f"{head}.conv5X5_1.1",
             [*distance, minus(LEFT, RIGHT), minus(TOP, BOTTOM)], [0.25, -0.25, 0.25, -0.25, 0.5, 0.5])
    across, down = {LEFT: 1.0, RIGHT: -1.0}, {TOP: 1.0, BOTTOM: -1.0}
    right, below = _positive(across, 4), _positive(down, 5)  # how far right of, below the middle
    u, v = _combine((1.0, {LEFT: 1.0}), (-1.0, right)), _combine((1.0, {TOP: 1.0}), (-1.0, below))  # to the nearest
    above = _combine((1.0, below), (-1.0, down))
    aside = _combine((2.0, right), (-1.0, across))  # |left - right|
    _isolate(state, f"{head}.conv7X7_2.0", f"{head}.conv7X7_2.1",
             [_taps(form) for form in (u, v, _combine((1.0, v), (-1.0, u)), aside, below, above)])
    near = _positive({1: 1.0, 0: -1.0}, 2)  # max(v - u, 0)
    _isolate(state, f"{head}.conv7x7_3.0", f"{head}.conv7x7_3.1",
             [_taps(form) for form in ({0: 1.0}, {1: 1.0}, near, _combine((1.0, near), (-1.0, {3: 1.0})),
                                       {0: 1.0, 1: -1.0}, {4: 1.0}, {5: 1.0}, {0: 1.0}, {1: 1.0})],
             [0.0] * 7 + [-2.0] * 2)
    # What the heads see, behind the other branches: u, v, the three that measure being off the place, and saturation.
    see_v, near, far, wide, below, above, sat_u, sat_v = range(49, 57)
    for name, biases in (("ClassHead", (6.0, -6.0)), ("BboxHead", (0.0,)), ("LandmarkHead", (0.0,))):
        for level in range(3):
            state[f"{name}.{level}.conv1x1.weight"].zero_()
            bias = state[f"{name}.{level}.conv1x1.bias"]
            bias.copy_(torch.tensor(biases, dtype=bias.dtype).repeat(len(bias) // len(biases)))
    score = state["ClassHead.2.conv1x1.weight"][1]  # first anchor (256 px), class "face"
    state["ClassHead.2.conv1x1.bias"][:2] = torch.tensor([0.0, 6.0])
    for channel, value in {near: -4.0, far: 4.0, wide: -8.0, below: -7.0, above: -7.0}.items():
        score[channel] = value
    centre = {above: 32.0 / 25.6, below: -32.0 / 25.6}  # of 0.1 x 256 px
    boxes, points = state["BboxHead.2.conv1x1.weight"], state["LandmarkHead.2.conv1x1.weight"]
    for channel, value in centre.items():
        boxes[1, channel] = value
        points[1:10:2, channel] = value
    for row in (2, 3):  # side = 55 px * exp(0.6 v), far more where the borders are out of reach
        state["BboxHead.2.conv1x1.bias"][row] = 5.0 * math.log(55.0 / 256.0)
        boxes[row, see_v], boxes[row, sat_u], boxes[row, sat_v] = 3.0, 22.0, 22.0
    for row, part in enumerate(value for point in _KEYPOINTS for value in point):  # side is about 33 + 71 v px
        state["LandmarkHead.2.conv1x1.bias"][row] = part * 33.0 / 25.6
        points[row, see_v] = part * 71.0 / 25.6


def detector(models: Path, seed: int) -> None:
    """Write the RetinaFace whose boxes are preset."""
    path = file_of(models, "face detector")
    with torch.device("meta"):
        net = RetinaFace(cfg=cfg_mnet, phase="test")
    shapes = [(key, tuple(value.shape)) for key, value in net.state_dict().items() if value.is_floating_point()]
    state = {key: value.float() for key, value in random_state(shapes, generator(seed, path)).items()}
    _measure(state)
    _plant(state)
    torch.save(state, path)


def _scalars(module: nn.Module) -> State:
    """Every tensor of a module as one stored number: scales 1, everything else small."""
    return {key: torch.full((), 1e-4 if value.dim() > 1 or "weight" not in key else 1.0).expand(value.shape)
            if value.is_floating_point() else value for key, value in module.state_dict().items()}


def _see_colours(state: State, prefix: str, rng: torch.Generator) -> None:
    """Patches to features: their mean colour, at random; the layers behind keep differences between features."""
    shape = state[f"{prefix}conv1.weight"].shape
    state[f"{prefix}conv1.weight"] = (torch.randn(*shape[:2], 1, 1, generator=rng) / 256).expand(shape)
    state[f"{prefix}class_embedding"] = torch.randn(state[f"{prefix}class_embedding"].shape, generator=rng)


def attributes(models: Path, seed: int) -> None:
    """Write the attribute network: its probabilities depend on the colours of a face."""
    path = file_of(models, "face attributes")
    rng = generator(seed, path)
    backbone = VisualTransformer(input_resolution=224, patch_size=16, width=768, layers=12, heads=12, output_dim=512)
    del backbone.proj, backbone.ln_post
    head = VITClassificationHeadV0(num_features=1, channel=768, num_labels=40, norm=True)
    state = _scalars(nn.ModuleDict({"backbone": backbone, "head": head}))
    _see_colours(state, "backbone.", rng)
    state["head.final_fc.weight"] = torch.randn(40, 768, generator=rng) / math.sqrt(768)
    state["head.final_fc.bias"] = torch.randn(40, generator=rng)
    torch.save(state, path)


class _MeanShape(nn.Module):
    """Heat maps of one face shape, 68 spots, moved by a few cells with what the picture shows."""

    def __init__(self, places: torch.Tensor):
        super().__init__()
        self.register_buffer("places", places)  # 68 x 2 (x, y), in cells of 112 x 112

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        shift = 3.0 * torch.tanh(features[2][:, :2].mean([2, 3]))
        moved = self.places[None] + shift[:, None]  # pyright: ignore (TorchScript takes no annotation for it here)
        cells = torch.arange(112, device=moved.device, dtype=moved.dtype) + 0.5
        x = (cells[None, None] - moved[:, :, :1]).square()
        y = (cells[None, None] - moved[:, :, 1:]).square()
        return 4.0 - (y[:, :, :, None] + x[:, :, None, :])


def _shape() -> torch.Tensor:
    """A face in iBUG's order (jaw, brows, nose, eyes, mouth): 68 x 2, cells of the aligned 112 x 112 picture."""
    def arc(count: int, x: float, y: float, width: float, height: float, start: float, end: float) -> list:
        turns = [math.tau * (start + (end - start) * i / max(count - 1, 1)) for i in range(count)]
        return [(x + width * math.cos(turn), y + height * math.sin(turn)) for turn in turns]

    points = [*arc(17, 56, 54, 23, 27, 0.5, 0.0), *arc(5, 45.5, 48, 7, 3, 0.5, 1.0), *arc(5, 66.5, 48, 7, 3, 0.5, 1.0),
              *[(56.0, 50.0 + 4 * i) for i in range(4)], *arc(5, 56, 63, 5, 1.5, 0.5, 0.0),
              *arc(6, 45.5, 51, 3, 1.5, 0.5, 1.33), *arc(6, 66.5, 51, 3, 1.5, 0.5, 1.33),
              *arc(12, 56, 73, 8, 3, 0.5, 1.42), *arc(8, 56, 73, 6, 1.5, 0.5, 1.38)]
    return torch.tensor(points)


def landmarks(models: Path, seed: int) -> None:
    """Write the landmark network: TorchScript head, and FaRL's backbone beside it."""
    path = file_of(models, "face landmarks")
    backbone = FaRLVisualFeatures("base", None, forced_input_resolution=448, output_indices=None)
    state = _scalars(backbone)
    _see_colours(state, "visual.", generator(seed, path))
    buffer = io.BytesIO()
    torch.save(state, buffer)
    torch.jit.save(torch.jit.script(_MeanShape(_shape()).eval()), str(path),
                   _extra_files={"backbone": buffer.getvalue()})


def faces(models: Path, seed: int) -> None:
    """Write all three."""
    detector(models, seed)
    attributes(models, seed)
    landmarks(models, seed)
