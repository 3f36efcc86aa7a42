"""Networks of one's own that read pictures: local folders of transformers models, which are never downloaded.

Each function opens the configuration alone, so that a folder of another kind is refused at once; the network itself is
loaded when it reads for the first time, and kept by the host's memory management like the annotators'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..method.faces import ATTRIBUTES
from ..packages import package_version, require
from ..verification.detection import FoundFace
from ..verification.places import centre, longer_side, upright

About = dict[str, Any]
"""Name, version, SHA-256 of the files and settings of a network, as plain data."""
SURE = 0.5
"""Score from which on a person counts as found (our choice)."""
AROUND = 2.0
"""Side of what the second attribute network sees, in longer sides of the face: about what CelebA's pictures show."""
CROP = 256
"""px of it (our choice); the network's own processor brings it to its size."""
_AT_ONCE = 8  # faces
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # no download, no code in the folder
_COUNTERS = ("num_batches_tracked", "position_ids")  # that older files lack, and nobody needs


def about(folder: Path, **settings: object) -> About:
    """Which network it is. Raises CamouflageError where there is none."""
    from ..comfy.weights import digest_of

    return {"name": folder.name, "version": package_version("transformers"),
            "sha256": [digest_of(path) for path in _files(folder)], "settings": settings}


def attributes(folder: Path) -> Callable[[np.ndarray, Sequence[FoundFace]], np.ndarray]:
    """A second attribute network: an image classification model with several labels, CelebA's 40 among them.

    Names count without regard to case, spaces and underscores. Each face is cut out upright, :data:`AROUND` times its
    longer side, and a label's probability is the sigmoid of its logit.

    Returns:
        From a picture, H x W x 3, uint8, and its n faces to n x 40 probabilities in the order of ``ATTRIBUTES``.

    Raises:
        CamouflageError: no network there, or one that lacks some of the names.
    """
    places = {_plain(name): index for index, name in _labels(folder).items()}
    if absent := [name for name in ATTRIBUTES if _plain(name) not in places]:
        raise CamouflageError(f"The attribute network {folder} must know CelebA's 40 attributes by their names "
                              f"(id2label in its config.json), but {len(absent)} are not there: {', '.join(absent)}.")
    order = [places[_plain(name)] for name in ATTRIBUTES]

    def read(pixels: np.ndarray, faces: Sequence[FoundFace]) -> np.ndarray:
        crops = [upright(pixels, *centre(face.box_ltrb), face.turn, AROUND * longer_side(face.box_ltrb), CROP)
                 for face in faces]
        rows = [np.zeros((0, len(ATTRIBUTES)), np.float32)]
        for start in range(0, len(crops), _AT_ONCE):
            outputs, _ = _looked(_network(folder, "AutoModelForImageClassification"), crops[start:start + _AT_ONCE])
            rows.append(outputs.logits.float().sigmoid().cpu().numpy()[:, order])
        return np.concatenate(rows)

    return read


def persons(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A detector of persons: an object detection model with a label "person".

    Returns:
        From a picture, H x W x 3, uint8, to the k x 4 boxes (left, top, right, bottom; px) of persons with a score of
        ``SURE`` or more, the surest first.

    Raises:
        CamouflageError: no network there, or one that knows no persons.
    """
    names = _labels(folder)
    person = next((index for index, name in names.items() if _plain(name) == "person"), None)
    if person is None:
        raise CamouflageError(f"The person detector {folder} must have a label 'person' (id2label in its "
                              f"config.json), but it has {', '.join(list(names.values())[:10]) or 'none'}.")

    def read(pixels: np.ndarray) -> np.ndarray:
        outputs, processor = _looked(_network(folder, "AutoModelForObjectDetection"), [pixels])
        found, = processor.post_process_object_detection(outputs, threshold=SURE, target_sizes=[pixels.shape[:2]])
        scores, boxes = (found[name].float().cpu().numpy() for name in ("scores", "boxes"))
        mine = found["labels"].cpu().numpy() == person
        return boxes[mine][np.argsort(-scores[mine], kind="stable")].reshape(-1, 4)

    return read


def text_encoder(folder: Path) -> Callable[[str], np.ndarray]:
    """CLIP's embedding of a text, as a d-vector, float32. Raises CamouflageError where there is no CLIP."""
    if (kind := _config(folder).model_type) != "clip":
        raise CamouflageError(f"The text encoder {folder} must be a CLIP model, but its config.json says {kind!r}.")

    def read(text: str) -> np.ndarray:
        import torch

        network = _network(folder, "CLIPModel", "AutoTokenizer")
        model, tokenizer = network.tool
        device = network.on_device()
        tokens = tokenizer([text], return_tensors="pt", truncation=True,
                           max_length=model.config.text_config.max_position_embeddings)
        with torch.inference_mode():
            pooled = model.text_model(**{name: tokens[name].to(device) for name in ("input_ids", "attention_mask")}
                                      ).pooler_output
            return model.text_projection(pooled)[0].float().cpu().numpy()

    return read


def _looked(network: Any, pictures: Sequence[np.ndarray]) -> tuple[Any, Any]:
    """What a model says of pictures, H x W x 3, uint8; and its processor."""
    import torch
    from PIL import Image

    from ..comfy.networks import GIGABYTE

    model, processor = network.tool
    device = network.on_device(activation_bytes=GIGABYTE)
    inputs = processor(images=[Image.fromarray(picture) for picture in pictures], return_tensors="pt")
    with torch.inference_mode():
        return model(**{name: value.to(device) for name, value in inputs.items()
                        if isinstance(value, torch.Tensor)}), processor


def _network(folder: Path, model_class: str, processor_class: str = "AutoImageProcessor") -> Any:
    """The model of a folder and its processor, in single precision. Raises CamouflageError."""
    transformers = require("transformers", "transformers", "A network of your own")
    from ..comfy.networks import Network, loaded
    from ..comfy.weights import checked

    files = _files(folder)

    def load() -> Network[Any]:
        safe = any(path.suffix == ".safetensors" for path in files)
        model, info = getattr(transformers, model_class).from_pretrained(
            folder, use_safetensors=safe, output_loading_info=True, **_LOCAL)
        if absent := sorted(key for key in info["missing_keys"] if not key.endswith(_COUNTERS)):
            raise ValueError(f"{len(absent)} weights are not in the file, {absent[0]} among them")
        model.float()
        return Network((model, getattr(transformers, processor_class).from_pretrained(folder, **_LOCAL)), [model])

    return loaded(model_class, files, lambda: checked(files, load))


def _files(folder: Path) -> list[Path]:
    """Configuration, vocabulary and weights; pickled weights only where there are no others."""
    there = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    safe = [path for path in there if path.suffix == ".safetensors"]
    weights = safe or [path for path in there if path.match("pytorch_model*.bin")]
    if not weights or not (folder / "config.json").is_file():
        raise CamouflageError(f"{folder} is no folder of a transformers model: it must have config.json and weights "
                              "(.safetensors). Nothing is downloaded; name a folder that you have.")
    return [path for path in there if path.suffix in (".json", ".txt")] + weights


def _config(folder: Path) -> Any:
    transformers = require("transformers", "transformers", "A network of your own")
    from ..comfy.weights import checked

    _files(folder)
    return checked([folder / "config.json"], lambda: transformers.AutoConfig.from_pretrained(folder, **_LOCAL))


def _labels(folder: Path) -> dict[int, str]:
    return {int(index): str(name) for index, name in (getattr(_config(folder), "id2label", None) or {}).items()}


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()
