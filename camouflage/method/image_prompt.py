"""IP-Adapter for SD 1.5 (arXiv 2308.06721): what a file of the published layout holds. Needs no host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CamouflageError
from .light_adapter import kind_of

_LAYER = re.compile(r"ip_adapter\.(\d+)\.to_k_ip\.weight")
_WANTED = ("It must have the published layout of ip-adapter_sd15.safetensors: image_proj.proj, image_proj.norm and "
           "pairs ip_adapter.N.to_k_ip, to_v_ip. Choose another file in 'adapter'.")


@dataclass(frozen=True)
class ImagePromptLayout:
    """What the weights say about an IP-Adapter.

    Attributes:
        width: of the image embedding that is projected (CLIP-H: 1024).
        context: width of one token, that of the text embeddings (SD 1.5: 768).
        tokens: made of one embedding (published: 4).
        layers: width of every cross-attention layer, in the order of ``numbers``.
        numbers: N of the keys ``ip_adapter.N``, ascending.
    """

    width: int
    context: int
    tokens: int
    layers: tuple[int, ...]
    numbers: tuple[int, ...]


def read_layout(shapes: Mapping[str, tuple[int, ...]], file: str) -> ImagePromptLayout:
    """Layout of an IP-Adapter from the shapes of its tensors; ``file`` is its name, for the error."""
    proj, norm = shapes.get("image_proj.proj.weight", ()), shapes.get("image_proj.norm.weight", ())
    numbers = tuple(sorted(int(match[1]) for key in shapes if (match := _LAYER.fullmatch(key))))
    if len(proj) != 2 or len(norm) != 1 or proj[0] % norm[0] or not numbers:
        other = any(key.startswith(("image_proj.", "ip_adapter.")) for key in shapes)
        kind = "another kind of IP-Adapter (Plus, full-face, FaceID)" if other else kind_of(shapes)
        raise CamouflageError(f"'{file}' is {kind}. {_WANTED}")
    context = norm[0]
    layers = tuple(shapes[f"ip_adapter.{number}.to_k_ip.weight"][0] for number in numbers)
    wanted = {"image_proj.proj.weight": proj, "image_proj.proj.bias": proj[:1],
              "image_proj.norm.weight": norm, "image_proj.norm.bias": norm}
    for number, width in zip(numbers, layers, strict=True):
        wanted |= {f"ip_adapter.{number}.{part}_ip.weight": (width, context) for part in ("to_k", "to_v")}
    for key in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(key) != shapes.get(key):
            found, want = (list(s[key]) if key in s else "absent" for s in (shapes, wanted))
            raise CamouflageError(f"'{file}' is no IP-Adapter for SD 1.5: {key} is {found}, but must be {want}. "
                                  f"{_WANTED}")
    return ImagePromptLayout(proj[1], context, proj[0] // context, layers, numbers)
