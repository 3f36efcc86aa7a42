"""Reading faces with FACER (pyfacer): where they are, their attributes, their landmarks.

Source: paper section 3.2 (FACER: RetinaFace, FaRL). The networks and the way from pixels to numbers are pyfacer's own;
what it gets wrong on an ordinary machine is handled here, without patching it:

* its attribute network insists on CUDA: it is put together here from pyfacer's parts, without that step;
* attributes and landmarks crash without faces, and copy the whole picture (landmarks: 68 heat maps of its size) for
  every face at once: they are read a face at a time, landmarks in the part of the picture that the aligner sees;
* it fills in what the detector's file lacks with random numbers: every tensor is demanded here.

What the workflow knows of persons is looked at closer: a box that somebody drew, a person in whom no face was found.

The landmark file is TorchScript, a program by its nature, and no digest of it is known to us: it is not opened unless
the administrator vouches for it in ``models/camouflage/SHA256SUMS``. Boxes and attributes do not need it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import CamouflageError
from ..images import as_rgb, check_sides
from ..method.faces import ATTRIBUTES, FORGOTTEN, Box, Face, Faces, Picture, Point
from ..method.known import boxes_of, person_areas
from ..packages import require
from . import weights
from .known_faces import PlacedFace, faces_in_boxes, faces_in_picture
from .networks import GIGABYTE, Network, loaded
from .weights import checked, find

DETECTOR, ATTRIBUTE, LANDMARK = "face detector", "face attributes", "face landmarks"
_LONGEST_CROP = 1024  # px; the aligner looks at 448


def read_faces(images: torch.Tensor, threshold: float = 0.5, smallest: int = 0, landmarks: bool = False,
               boxes: object = None, person_mask: object = None) -> Faces:
    """Finds the faces of every picture and reads them.

    Args:
        images: B x H x W x C, 0..1, sides 64..4096 px; FACER gets them as 8-bit RGB, which it expects.
        threshold: least score of a face, 0.05..0.99. FACER's own default is 0.8; 0.5 is our choice, for a false
            face costs little, a missed one is not in the map.
        smallest: px; faces whose box, before it is clipped to the picture, has a shorter side are left out. 0: none.
        landmarks: also read the 68 landmarks.
        boxes: of faces that somebody knows of, see :func:`camouflage.method.known.boxes_of`; they only add faces. A box
            that overlaps with a face already there by 0.3 or more adds nothing. How the others are read, see
            :func:`.known_faces.faces_in_boxes`.
        person_mask: of persons, see :func:`..method.known.person_areas`; it only adds faces. Each part without a
            face is looked at again, enlarged, with the same threshold.

    Returns:
        One picture for each of the batch: its faces in the detector's order (by score), then those found in persons,
        then those of boxes, from left to right. Boxes are clipped to the picture. Landmarks are FACER's plus half a
        pixel, for FACER counts from the middle of the first pixel there, and from its edge in boxes and keypoints;
        those of a face whose window exceeds 1024 px are read at a smaller scale (our choice). Attributes are None
        where the five keypoints coincide, which no network can read, and where no network placed them.

    Raises:
        CamouflageError: bad pictures, settings, boxes or masks; a box outside its picture; missing, damaged or
            untrusted weights; pyfacer not installed.
    """
    if not 0.05 <= threshold <= 0.99:
        raise CamouflageError(f"'threshold' is {threshold}, but must lie between 0.05 and 0.99.")
    if not 0 <= smallest <= 4096:
        raise CamouflageError(f"'smallest' is {smallest} px, but must lie between 0 and 4096.")
    images = as_rgb(images, "image")
    check_sides(images, "image")
    boxes_ltrb = boxes_of(boxes, len(images), "boxes")
    height, width = images.shape[1:3]
    areas = person_areas(person_mask, len(images), [(height, width)] * len(images), "person_mask")
    detect, attributes = functools.partial(_detect, detector=load_detector()), _attributes()
    aligner = _aligner() if landmarks else None
    progress = _Progress(len(images), 2 if landmarks else 1)
    pictures = []
    with torch.no_grad():
        for i, image in enumerate(images.split(1)):
            mm.throw_exception_if_processing_interrupted()
            pixels = (image.movedim(-1, 1) * 255.0).round().to(torch.uint8)
            pixels, found = faces_in_picture(pixels, threshold, smallest, detect, areas[i])
            found += faces_in_boxes(pixels, boxes_ltrb[i], found, threshold, detect, i)
            pictures.append(_read(pixels, found, attributes, aligner, progress))
            progress.picture_done()
    return Faces(tuple(pictures))


def boxes_and_points(pixels: np.ndarray, threshold: float) -> list[tuple[Box, tuple[Point, ...], float]]:
    """Where FACER finds faces, and nothing else of them.

    Args:
        pixels: H x W x 3, uint8.
        threshold: least score, 0..1.

    Returns:
        Boxes (left, top, right, bottom; pixels; may leave the picture), five keypoints (x, y; pixels; the viewer's
        left eye first, then the right one) and scores 0..1, in the detector's order.

    Raises:
        CamouflageError: missing or damaged weights; pyfacer not installed.
    """
    picture = torch.tensor(np.ascontiguousarray(pixels)).movedim(-1, 0)[None]
    with torch.no_grad():
        return _detect(picture, threshold, load_detector())[1]


class _Progress:
    """The host's progress bar, a thousand steps a picture, moved on by every face; obeys Cancel."""

    def __init__(self, pictures: int, passes: int):
        self._bar = comfy.utils.ProgressBar(1000 * pictures)
        self._picture, self._passes, self._steps = 0, passes, 0

    def face_done(self, count: int) -> None:
        self._steps += 1
        self._bar.update_absolute(1000 * self._picture + 999 * self._steps // (self._passes * count))
        mm.throw_exception_if_processing_interrupted()

    def picture_done(self) -> None:
        self._picture, self._steps = self._picture + 1, 0
        self._bar.update_absolute(1000 * self._picture)


def _read(pixels: torch.Tensor, kept: list[PlacedFace], attributes: Network[Any], aligner: Network[Any] | None,
          progress: _Progress) -> Picture:
    """One picture, 1 x 3 x H x W, 8 bit."""
    height, width = pixels.shape[2:]
    if not kept:
        return Picture(height, width)
    every = [torch.tensor(face.points, device=pixels.device) if face.placed else None for face in kept]

    probabilities: list[tuple[float | None, ...]] = []
    shapes: list[tuple[Point, ...] | None] = [None] * len(kept)
    attributes.on_device(activation_bytes=GIGABYTE // 2 + 32 * height * width)
    for points in every:
        probabilities.append(FORGOTTEN if points is None else _probabilities(attributes.tool, pixels, points))
        progress.face_done(len(kept))
    if aligner is not None:
        aligner.on_device(activation_bytes=2 * GIGABYTE)
        for i, points in enumerate(every):
            shapes[i] = None if points is None else _landmarks(aligner.tool, pixels, points)
            progress.face_done(len(kept))
        _forget_grids()
    return Picture(height, width, tuple(
        Face(face.box, face.score, face.points, shape, values)
        for face, values, shape in zip(kept, probabilities, shapes, strict=True)))


def _detect(pixels: torch.Tensor, threshold: float,
            detector: Network[Any]) -> tuple[torch.Tensor, list[tuple[Box, tuple[Point, ...], float]]]:
    """One picture, 1 x 3 x H x W, 8 bit: on the host's device; box, 5 keypoints and score (0..1) of every face."""
    from facer.face_detection.retinaface import batch_detect

    height, width = pixels.shape[2:]
    pixels = pixels.to(detector.on_device(activation_bytes=256 * height * width))
    with _cudnn_as_it_is():
        found = batch_detect(detector.tool.net, pixels.clone(), threshold=threshold)
    rects, points, scores = (found[name].tolist() for name in ("rects", "points", "scores"))
    return pixels, [(tuple(rect), tuple(map(tuple, five)), min(max(score, 0.0), 1.0))
                    for rect, five, score in zip(rects, points, scores, strict=True)]


def _faces_data(points: torch.Tensor) -> dict[str, torch.Tensor]:
    """One face, 5 x 2, as pyfacer hands faces on."""
    return {"points": points[None], "image_ids": torch.zeros(1, dtype=torch.long, device=points.device)}


def _spread(points: torch.Tensor) -> float:
    return float((points - points.mean(0)).abs().max())


def _probabilities(tool: Any, pixels: torch.Tensor, points: torch.Tensor) -> tuple[float | None, ...]:
    """40 probabilities of the face with these keypoints (5 x 2, px)."""
    if not _spread(points) > 1e-3:
        return FORGOTTEN
    values = tool(pixels, _faces_data(points))["attrs"][0].float().cpu()
    if not torch.isfinite(values).all():
        raise CamouflageError("The face attribute network returned NaN or infinite numbers: its weights are damaged. "
                              "Download face_attribute.farl.celeba.pt again.")
    return tuple(values.tolist())


def _landmarks(tool: Any, pixels: torch.Tensor, points: torch.Tensor) -> tuple[Point, ...] | None:
    """68 landmarks of the face with these keypoints (5 x 2, px); None where the keypoints say nothing.

    The aligner looks at a window around the face and sums heat maps that are zero outside of it. Given only the
    window's bounding box it sees the same numbers, at a cost that does not depend on the picture's size.
    Landmarks whose heat map falls outside the picture or between its pixels (faces of some ten px) mean nothing,
    from pyfacer as from here.
    """
    if not _spread(points) > 1e-3:
        return None
    box = _window(tool, points, *pixels.shape[2:])
    if box is None:
        return None
    left, top, right, bottom = box
    crop = pixels[:, :, top:bottom, left:right].float()
    height, width = crop.shape[2:]
    scale = min(1.0, _LONGEST_CROP / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if scale < 1.0:
        crop = F.interpolate(crop, size, mode="bilinear", antialias=True, align_corners=False)
    factor = torch.tensor([size[1] / width, size[0] / height], device=points.device)
    origin = torch.tensor([left, top], device=points.device, dtype=points.dtype)
    found = tool(crop, _faces_data((points - origin) * factor))["alignment"][0].float()
    found = ((found + 0.5) / factor).cpu().double() + origin.cpu().double()
    if not torch.isfinite(found).all():
        raise CamouflageError("The face landmark network returned NaN or infinite numbers: its weights are damaged. "
                              "Download face_alignment.farl.ibug300w.main_ema_jit.pt again.")
    return tuple((x, y) for x, y in found.tolist())


def _window(tool: Any, points: torch.Tensor, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Bounding box (left, top, right, bottom; whole px) of what the aligner looks at; None outside the picture."""
    from facer.face_alignment.farl import pretrain_settings

    setting = pretrain_settings[tool.conf_name]
    matrix = setting["get_matrix_fn"](points[None].double().cpu())[0]
    h, w = setting["get_grid_fn"].keywords["warped_shape"]
    corners = torch.tensor([[-1, -1, 1], [w + 1, -1, 1], [-1, h + 1, 1], [w + 1, h + 1, 1]], dtype=torch.float64)
    seen = (torch.linalg.inv(matrix) @ corners.T)[:2]  # x, y; one warped pixel more than the window
    low, high = (seen.amin(1) - 2.0).floor().long().tolist(), (seen.amax(1) + 2.0).ceil().long().tolist()
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _forget_grids() -> None:
    """pyfacer keeps a coordinate grid for every size of crop that it has seen, up to 128 of them."""
    from facer import transform

    clear = getattr(getattr(transform, "_meshgrid", None), "cache_clear", None)
    if clear is not None:
        clear()


# --- loading ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cudnn_as_it_is() -> Iterator[None]:
    """pyfacer's detector switches cuDNN's benchmark mode on for the whole process."""
    before = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _facer() -> Any:
    return require("facer", "pyfacer", "Reading faces")


def _build(tool: Any) -> Network[Any]:
    return Network(tool, [tool])


def load_detector() -> Network[Any]:
    """FACER's detector; raises CamouflageError as :func:`boxes_and_points`."""
    facer = _facer()
    files = find(DETECTOR)

    def load() -> Any:
        from facer.face_detection.retinaface import remove_prefix

        state = torch.load(files[0], map_location="cpu", weights_only=True)
        state = remove_prefix(state.get("state_dict", state), "module.")
        # Drawing the first values of the weights must not change the caller's random numbers.
        with torch.random.fork_rng(devices=[]), _cudnn_as_it_is():
            tool = facer.face_detector("retinaface/mobilenet", device=torch.device("cpu"), model_path=str(files[0]))
        # Old files lack BatchNorm's counters, which inference does not use.
        wanted = {key for key in tool.net.state_dict() if not key.endswith("num_batches_tracked")}
        if missing := wanted - state.keys():
            raise ValueError(f"{len(missing)} of {len(wanted)} tensors are missing, {sorted(missing)[0]} among them")
        return tool

    return loaded(DETECTOR, files, lambda: _build(checked(files, load)))


def _attributes() -> Network[Any]:
    _facer()
    files = find(ATTRIBUTE)
    return loaded(ATTRIBUTE, files, lambda: _build(checked(files, lambda: _attribute_network(files[0]))))


def _attribute_network(path: Path) -> Any:
    """pyfacer's FaRLFaceAttribute from its parts, as its own loader builds it, but without moving it to CUDA."""
    from facer.face_attribute.farl import FaRLFaceAttribute, pretrain_settings
    from facer.farl.classification import FACTransformer, VITClassificationHeadV0, add_method, get_clip_encode_func
    from facer.farl.model import VisualTransformer
    from torchvision.transforms import Normalize

    class Anywhere(FACTransformer):
        def cuda(self, device: Any = None) -> Any:  # FACTransformer calls it while it is constructed
            return self

    name = "celeba/224"
    setting = pretrain_settings[name]
    if tuple(setting["classes"]) != ATTRIBUTES:
        raise ValueError("the installed pyfacer names other attributes than version 0.0.5 does")
    layers = setting["layers"]
    with torch.random.fork_rng(devices=[]):
        backbone = VisualTransformer(input_resolution=224, patch_size=16, width=768, layers=12, heads=12,
                                     output_dim=512)
        del backbone.proj, backbone.ln_post
        add_method(backbone, "forward", get_clip_encode_func(layers))
        net = Anywhere(backbone, VITClassificationHeadV0(num_features=len(layers), channel=768,
                                                         num_labels=setting["num_classes"], norm=True))
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    tool = FaRLFaceAttribute.__new__(FaRLFaceAttribute)
    torch.nn.Module.__init__(tool)
    tool.conf_name, tool.labels, tool.net = name, setting["classes"], net
    tool.normalize = Normalize(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
    return tool.eval()


def _aligner() -> Network[Any]:
    facer = _facer()
    files = find(LANDMARK)
    _demand_trust(files[0])

    def load() -> Any:
        with zipfile.ZipFile(files[0]) as archive:  # the part that pyfacer unpickles must be tensors alone
            for name in archive.namelist():
                if name.endswith("/extra/backbone"):
                    torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
        with torch.random.fork_rng(devices=[]):
            return facer.face_aligner("farl/ibug300w/448", device=torch.device("cpu"), model_path=str(files[0]))

    return loaded(LANDMARK, files, lambda: _build(checked(files, load, script=True)))


def _demand_trust(path: Path) -> None:
    """Refuses a TorchScript file whose digest is neither in the registry nor in SHA256SUMS."""
    weight = weights.of_role(LANDMARK)[0]
    if weight.sha256 is not None:  # then `find` has compared it
        return
    digest = weights.digest_of(path)
    if digest not in weights.trusted_digests():
        raise CamouflageError(
            f"{path} is a program (TorchScript) and its publisher names no SHA-256, so it is not run unasked. If you "
            f"downloaded it yourself from {weight.url}, say so by adding this line to "
            f"models/{weights.FOLDER}/SHA256SUMS:\n{digest}  {weight.file}\nOr switch 'landmarks' off: boxes, "
            "keypoints and attributes work without it.")
