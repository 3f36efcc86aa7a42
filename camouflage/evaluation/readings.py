"""What networks read in pictures, before and after: attributes of faces, a caption, labels and depth, persons.

Those of ComfyUI's models folders are the annotators' and FACER's own functions, with the weights and the settings of
the shipped workflows. Networks that somebody names besides are in :mod:`.readings_own`. A network is loaded when the
first picture needs it; what was read is kept in the cache, under the digests of the weights and the settings.

**Faces** are read where our detectors find them, in each picture by itself. FACER gets these places as boxes that are
known: whom it finds itself it reads by its own five points, as Light does, and looks closer at every other place. So
nobody whom we compare stays unread because FACER's detector misses a changed face, which matching FACER's own faces
by place would count as left out.

**The scene** is read in one frame: the original is cut and scaled as the anonymized picture is. Both are then made as
small as the networks see them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..comfy import in_process
from ..errors import CamouflageError
from ..images import MAX_SIDE, MIN_SIDE
from ..method.faces import ATTRIBUTES, Box, clip_box
from ..packages import package_version, require
from ..verification.detection import FoundFace
from ..verification.places import overlap, same_face, scaled
from . import readings_own
from .cache import SeenCache
from .maps_kept import depth_agreement, label_agreement
from .readings_own import About
from .seeing import Seen, framed
from .utility import joined

NAMES = ("attributes", "captions", "maps")
"""What ComfyUI's models can read."""
THRESHOLD = 0.5  # of FACER's detector, as in the Face Attributes node
RESOLUTION = 512  # px of the shorter side that annotators see, as in their nodes
BEAMS, MAX_TOKENS = 3, 40  # of a caption, as in the Caption node
PERSONS_SIDE = 800  # px of the shorter side in which persons are looked for, as DETR's and YOLOS's processors take it
MOST_PIXELS = 4_000_000  # of a picture in which FACER reads faces; a larger one is made smaller (our choice)
_NO_FACES = np.zeros((0, len(ATTRIBUTES)), np.float32)

Read = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Of a pair, by name: what was read before and after; of maps, how well they agree and, to fill the place, nothing."""


@dataclass(frozen=True, eq=False)
class FaceReading:
    """Attributes of faces.

    Attributes:
        about: network, version, digests and settings, as plain data.
        read: from a picture, H x W x 3, uint8, and its n faces to n x 40 probabilities; NaN where nothing was read.
    """

    about: About
    read: Callable[[np.ndarray, Sequence[FoundFace]], np.ndarray]


@dataclass(frozen=True, eq=False)
class SceneReading:
    """Something of a whole picture.

    Attributes:
        about: network, version, digests and settings, as plain data.
        side: px; larger pictures are made as small on their shorter side.
        read: from a picture, H x W x 3, uint8, to an array of any kind.
        agreement: of two such arrays, as numbers, where they are too large to be kept for every pair.
        after: the network whose reading it starts from, where there is one.
    """

    about: About
    side: int
    read: Callable[[np.ndarray], np.ndarray]
    agreement: Callable[[np.ndarray, np.ndarray], tuple[float, ...]] | None = None
    after: About | None = None


@dataclass(frozen=True, eq=False)
class Reader:
    """All that read, by the names of their results."""

    faces: Mapping[str, FaceReading] = field(default_factory=dict)
    scenes: Mapping[str, SceneReading] = field(default_factory=dict)

    def about(self, name: str) -> About:
        """Which network reads that."""
        return (self.faces.get(name) or self.scenes[name]).about

    def pair(self, paths: tuple[Path, Path], seen: tuple[Seen, Seen], pixels: Callable[[Path], np.ndarray],
             cache: SeenCache) -> Read:
        """Reads an original and its anonymized picture, as far as the cache does not know them.

        Args:
            paths, seen: of both, and what was seen there.
            pixels: opens a picture, H x W x 3, uint8.
            cache: keeps what is read.

        Raises:
            CamouflageError: weights are damaged; Unreadable: of ``pixels``.
        """
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, one in self.faces.items():
            before, after = (cache.array([path], lambda one=one, path=path, there=there: one.read(
                pixels(path), there.faces), _key(name, one.about)) for path, there in zip(paths, seen, strict=True))
            found[name] = before, after
        for name, one in self.scenes.items():
            found[name] = _scene(name, one, paths, seen, pixels, cache)
        return found


def _scene(name: str, one: SceneReading, paths: tuple[Path, Path], seen: tuple[Seen, Seen],
           pixels: Callable[[Path], np.ndarray], cache: SeenCache) -> tuple[np.ndarray, np.ndarray]:
    original, anonymized = paths
    frame, size = framed(seen[0].size, seen[1].size), _working_size(seen[1].size, one.side)
    left, top = frame.shift
    box = left, top, left + seen[1].size[0] * frame.scale[0], top + seen[1].size[1] * frame.scale[1]
    key = _key(name, one.about, one.after, size, box)

    def before() -> np.ndarray:
        return cache.array([original], lambda: one.read(resized(pixels(original), size, box)), key)

    def after() -> np.ndarray:
        return one.read(resized(pixels(anonymized), size))

    if one.agreement is None:
        return before(), cache.array([anonymized], after, _key(name, one.about, one.after, size))
    agreement = one.agreement
    return cache.array([original, anonymized], lambda: np.array(agreement(before(), after())), key), np.zeros(0)


def _key(name: str, *settings: object) -> str:
    return json.dumps([name, *settings])


def _working_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height of a picture whose shorter side is ``side`` at most, and that annotators take."""
    scale = min(1.0, side / min(size))
    width, height = (min(MAX_SIDE, max(MIN_SIDE, round(length * scale))) for length in size)
    return width, height


def resized(pixels: np.ndarray, size: tuple[int, int], box: Box | None = None) -> np.ndarray:
    """A part of a picture, Lanczos.

    Args:
        pixels: H x W x 3, uint8.
        size: width and height of the result.
        box: the part; as much of it as is there. None: all.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    part = clip_box(box, height, width) if box else None
    if (width, height) == size and part in (None, (0.0, 0.0, float(width), float(height))):
        return pixels
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, box=part))


# --- what ComfyUI's models read -----------------------------------------------------------------------------------


def reader(names: Sequence[str], models: Sequence[Path] = (), cpu: bool | None = None,
           attribute_network: Path | None = None, person_detector: Path | None = None,
           text_encoder: Path | None = None) -> Reader | None:
    """Those who read; None where nothing is asked for.

    Args:
        names: of ``NAMES``: what ComfyUI's models read.
        models: models folders that are searched before ComfyUI's own.
        cpu: True keeps the networks off the GPU; None only where there is none.
        attribute_network, person_detector, text_encoder: folders of networks of one's own, see :mod:`.readings_own`.

    Raises:
        CamouflageError: no such name; weights are missing, or others than they should be; a folder is of another kind
            of network; no ComfyUI; a package is not installed.
    """
    if odd := [name for name in names if name not in NAMES]:
        raise CamouflageError(f"There is no reading {odd[0]!r}. Choose from {', '.join(NAMES)}.")
    if text_encoder and "captions" not in names:
        raise CamouflageError("A text encoder compares captions. Have captions read, too.")
    if not (names or attribute_network or person_detector):
        return None
    in_process.enter(models=models, cpu=cpu)
    faces: dict[str, FaceReading] = {}
    scenes: dict[str, SceneReading] = {}
    if "attributes" in names:
        about = {"name": "FACER", "version": package_version("pyfacer"), "sha256": _digests(
            "face detector", "face attributes"), "settings": {"threshold": THRESHOLD, "most_pixels": MOST_PIXELS}}
        faces["attributes"] = FaceReading(about, facer_attributes)
    if attribute_network:
        faces["attributes_second"] = FaceReading(readings_own.about(attribute_network),
                                                 readings_own.attributes(attribute_network))
    if "captions" in names:
        require("sacrebleu", "sacrebleu", "The comparison of captions")
        words = _annotator("caption", beams=BEAMS, max_tokens=MAX_TOKENS)
        scenes["captions"] = SceneReading(words, RESOLUTION, lambda pixels: np.array(caption(pixels)))
        if text_encoder:
            encode = readings_own.text_encoder(text_encoder)
            scenes["caption_embeddings"] = SceneReading(readings_own.about(text_encoder), RESOLUTION,
                                                        lambda pixels: encode(caption(pixels)), after=words)
    if "maps" in names:
        scenes["segmentation"] = SceneReading(_annotator("segmentation", resolution=RESOLUTION), RESOLUTION, labels,
                                              label_agreement)
        scenes["depth"] = SceneReading(_annotator("depth", resolution=RESOLUTION), RESOLUTION, depth, depth_agreement)
    if person_detector:
        scenes["persons"] = SceneReading(readings_own.about(person_detector, threshold=readings_own.SURE),
                                         PERSONS_SIDE, readings_own.persons(person_detector))
    return Reader(faces, scenes)


def _annotator(role: str, **settings: object) -> About:
    from ..comfy.weights import default_folder

    return {"name": default_folder(role), "version": package_version("transformers"), "sha256": _digests(role),
            "settings": settings}


def _digests(*roles: str) -> list[str]:
    """Of the files of these roles. Raises CamouflageError where one is missing."""
    from ..comfy.weights import digest_of, find

    return [digest_of(path) for role in roles for path in find(role)]


def _image(pixels: np.ndarray) -> Any:
    """1 x H x W x 3, 0..1."""
    import torch

    return torch.from_numpy(pixels.astype(np.float32) / 255.0)[None]


def facer_attributes(pixels: np.ndarray, faces: Sequence[FoundFace]) -> np.ndarray:
    """What FACER reads of these faces, see :class:`FaceReading`."""
    from ..comfy.faces import read_faces

    if not faces:
        return _NO_FACES
    height, width = pixels.shape[:2]
    size = _working_size((width, height), min(height, width))
    if (shrink := (MOST_PIXELS / (size[0] * size[1])) ** 0.5) < 1:
        size = _working_size(size, max(1, int(shrink * min(size))))
    places = [clip_box(scaled(face.bounds, size[0] / width, size[1] / height), size[1], size[0]) for face in faces]
    known = [{"x": left, "y": top, "width": right - left, "height": bottom - top}
             for left, top, right, bottom in filter(None, places)]
    read = read_faces(_image(resized(pixels, size)), THRESHOLD, boxes=known).pictures[0].faces
    rows = np.full((len(faces), len(ATTRIBUTES)), np.nan, np.float32)
    match = joined((overlap(place, face.box_ltrb), i, k) for i, place in enumerate(places) if place
                   for k, face in enumerate(read) if same_face(place, face.box_ltrb))
    for i, k in match.items():
        rows[i] = [np.nan if value is None else value for value in read[k].attributes]
    return rows


def caption(pixels: np.ndarray) -> str:
    """BLIP's, as the Caption node says it."""
    from ..comfy.annotators.transformers_models import captions
    from ..comfy.weights import default_folder

    return captions(_image(pixels), default_folder("caption"), "", MAX_TOKENS, BEAMS)[0]


def labels(pixels: np.ndarray) -> np.ndarray:
    """ADE20K's classes as colours, H x W x 3, uint8, as the Segmentation Map node gives them."""
    from ..comfy.annotators.transformers_models import segmentation_maps
    from ..comfy.weights import default_folder

    found = segmentation_maps(_image(pixels), default_folder("segmentation"), RESOLUTION)
    return (found[0] * 255.0).round().cpu().numpy().astype(np.uint8)


def depth(pixels: np.ndarray) -> np.ndarray:
    """Near is 1, far is 0, H x W, float16, as the Depth Map node gives it."""
    from ..comfy.annotators.transformers_models import depth_maps
    from ..comfy.weights import default_folder

    found = depth_maps(_image(pixels), default_folder("depth"), RESOLUTION)
    return found[0, :, :, 0].cpu().numpy().astype(np.float16)
