"""OpenPose's three networks with weights that find a stick figure in every picture.

Random weights find either nothing or thousands of joints, which the detector's Python loops take minutes to sort.
These weights are wired instead: a trunk of random averaging kernels sees blurred brightness, which has one or a few
smooth peaks; the last stage moves that map by each joint's place in a figure and says which way each limb points.
So the figure stands where the picture is bright, and its size follows the picture's.

Layout: the published flat names (``conv1_1.weight``, ``Mconv7_stage6_L2.bias``, ...), half precision. Layers whose
kernels all hold one number are stored as an expanded scalar, which makes the files a tenth of the published ones.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from controlnet_aux.open_pose.face import FaceNet
from controlnet_aux.open_pose.model import bodypose_model, handpose_model

from .tensors import Shapes, State, file_of, generator

BODY_PLACES = (
    (-5, 0), (-3, 0), (-3, -2), (-1, -3), (1, -4), (-3, 2), (-1, 3), (1, 4), (1, -1),
    (3, -1), (5, -1), (1, 1), (3, 1), (5, 1), (-6, -1), (-6, 1), (-5, -2), (-5, 2),
)  # fmt: skip
"""Joint -> (down, right) from the figure's centre, in cells of 8 network pixels; COCO's 18 joints in their order."""

RIGHT_WRIST = 4
"""Never found: the detector then looks for one hand a person only, which takes six seconds as it is."""

LIMBS = (
    (1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0), (8, 9, 2), (9, 10, 4),
    (1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30), (14, 16, 34), (0, 15, 32), (15, 17, 36),
    (2, 16, 18), (5, 17, 26),
)  # fmt: skip
"""(joint, joint, first of two affinity channels: right, down), as the detector's body.py reads them."""

_BRIGHT, _HEAT, _AFFINITY = 1.5, 1.2, 0.8
_FLOOR = 0.7


def _trunk(shapes: Shapes, rng: torch.Generator) -> State:
    """Averaging kernels: never negative, each sums to one. Random in the first stage, flat in the others.

    The first layer adds ``_BRIGHT``, so that even a black picture is brighter than the zeros that the later layers
    see beyond the border: every map is a dome with a peak inside.
    """
    state = {}
    for key, shape in shapes:
        if len(shape) == 1:
            state[key] = torch.zeros(1).half().expand(shape)
        elif "stage" in key:
            state[key] = torch.full((1,), 1 / shape[1:].numel()).half().expand(shape)
        else:
            kernel = torch.rand(shape, generator=rng)
            state[key] = (kernel / kernel.sum(dim=(1, 2, 3), keepdim=True)).half()
    state["conv1_1.bias"] = torch.full_like(state["conv1_1.bias"], _BRIGHT)
    return state


def _shift(state: State, stage: str, places: list[tuple[int, int]]) -> None:
    """Wire a last stage: two averages, three layers that move channel n by ``places[n]``, and a pick of channel n.

    A layer with 7x7 kernels moves by at most 3 cells, hence three of them for places within 9 cells.
    """
    state[f"Mconv2_{stage}.bias"] = torch.full_like(state[f"Mconv2_{stage}.bias"], -_FLOOR)
    for step, layer in enumerate((3, 4, 5)):
        key = f"Mconv{layer}_{stage}.weight"
        kernel = torch.zeros(state[key].shape, dtype=torch.float16)
        for channel, place in enumerate(places):
            down, right = ((coordinate + step) // 3 for coordinate in place)
            kernel[channel, channel, 3 - down, 3 - right] = 1
        state[key] = kernel
    for layer, gain in ((6, 1.0), (7, _HEAT)):
        key = f"Mconv{layer}_{stage}.weight"
        kernel = torch.zeros(state[key].shape, dtype=torch.float16)
        for channel in range(len(places)):
            kernel[channel, channel] = gain
        state[key] = kernel


def _flat_names(net: torch.nn.Module) -> Shapes:
    """Names without the network's own block name, as in the published body and hand files."""
    return [(re.sub(r"^model\w+\.", "", key), value.shape) for key, value in net.state_dict().items()]


def _body(rng: torch.Generator) -> State:
    with torch.device("meta"):
        net = bodypose_model()
    state = _trunk(_flat_names(net), rng)
    _shift(state, "stage6_L2", list(BODY_PLACES))
    state["Mconv7_stage6_L2.weight"][RIGHT_WRIST] = 0
    affinity = torch.zeros(38)
    for start, end, channel in LIMBS:
        down, right = (b - a for a, b in zip(BODY_PLACES[start], BODY_PLACES[end], strict=True))
        direction = torch.tensor([right, down], dtype=torch.float32)
        affinity[channel : channel + 2] = _AFFINITY * direction / direction.norm()
    state["Mconv7_stage6_L1.weight"] = state["Mconv7_stage6_L1.weight"] * 0.05
    state["Mconv7_stage6_L1.bias"] = affinity.half()
    return state


def _scattered(shapes: Shapes, rng: torch.Generator, points: int) -> State:
    """Hand or face: every point has a random place of its own around the crop's bright spot."""
    state = _trunk(shapes, rng)
    places = torch.randint(-6, 7, (points, 2), generator=rng).tolist()
    _shift(state, "stage6", [(down, right) for down, right in places])
    return state


def pose(models: Path, seed: int) -> None:
    """Write the body, hand and face networks of OpenPose."""
    with torch.device("meta"):
        hand, face = handpose_model(), FaceNet()
    path = file_of(models, "pose", "body_pose_model.pth")
    torch.save(_body(generator(seed, path)), path)
    path = file_of(models, "pose", "hand_pose_model.pth")
    torch.save(_scattered(_flat_names(hand), generator(seed, path), 22), path)
    path = file_of(models, "pose", "facenet.pth")
    shapes = [(key, value.shape) for key, value in face.state_dict().items()]
    torch.save(_scattered(shapes, generator(seed, path), 71), path)
