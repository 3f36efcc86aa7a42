"""IP-Adapter for SD 1.5 (arXiv 2308.06721): what a file of a published layout holds. Needs no host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..errors import CamouflageError
from .light_adapter import kind_of

HEAD = 64
"""Numbers in a head of the Resampler's attention: fixed in every published one, and not to be read from shapes."""

_LAYER = re.compile(r"ip_adapter\.(\d+)\.to_k_ip\.weight")
_WANTED = ("It must have a published layout: that of ip-adapter_sd15.safetensors (image_proj.proj, image_proj.norm) or "
           "of ip-adapter-plus_sd15.safetensors (image_proj.latents, proj_in, layers, proj_out, norm_out), and pairs "
           "ip_adapter.N.to_k_ip, to_v_ip. Choose another file in 'adapter'.")
_SDXL = 2048  # width of SDXL's text embeddings
_OTHERS = (  # what tells another kind of IP-Adapter, and why it is refused
    (re.compile(r"lora|perceiver_resampler"), "a FaceID adapter: it reads the embedding of a face recogniser, which "
     "is the identity that is to be lost"),
    (re.compile(r"image_proj\.proj\.3\."), "a full-face adapter: it reads faces through another network"),
    (re.compile(r"image_proj\.proj\.[02]\."), "a FaceID adapter: it reads the embedding of a face recogniser, which "
     "is the identity that is to be lost"),
)


@dataclass(frozen=True)
class ResamplerLayout:
    """Sizes of a Plus adapter's projection, which reads the hidden states of the image encoder.

    Attributes:
        dim: width of its tokens.
        inner: width of its attention, a multiple of 64.
        depth: layers of attention and feed-forward.
        hidden: width within a feed-forward.
    """

    dim: int
    inner: int
    depth: int
    hidden: int


@dataclass(frozen=True)
class ImagePromptLayout:
    """What the weights say about an IP-Adapter.

    Attributes:
        width: of what is projected: an image embedding (CLIP-H: 1024), or each hidden state (CLIP-H: 1280, FaRL: 768).
        context: width of one token, that of the text embeddings (SD 1.5: 768).
        tokens: made of one picture (published: 4, Plus: 16).
        layers: width of every cross-attention layer, in the order of ``numbers``.
        numbers: N of the keys ``ip_adapter.N``, ascending.
        resampler: of the Plus kind; None: the plain one, which projects one embedding.
    """

    width: int
    context: int
    tokens: int
    layers: tuple[int, ...]
    numbers: tuple[int, ...]
    resampler: ResamplerLayout | None = None


def published_numbers(layers: int) -> tuple[int, ...]:
    """N of ``ip_adapter.N`` for so many cross-attention layers: the published files count self-attention, too."""
    return tuple(range(1, 2 * layers, 2))


def projection_shapes(layout: ImagePromptLayout) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of the projection, without ``image_proj.``."""
    r, context = layout.resampler, layout.context
    if r is None:
        yield from _layer("proj", layout.tokens * context, layout.width)
        yield from _layer("norm", context)
        return
    yield "latents", (1, layout.tokens, r.dim)
    yield from _layer("proj_in", r.dim, layout.width)
    for number in range(r.depth):
        attention, forward = f"layers.{number}.0", f"layers.{number}.1"
        yield from _layer(f"{attention}.norm1", r.dim)
        yield from _layer(f"{attention}.norm2", r.dim)
        yield f"{attention}.to_q.weight", (r.inner, r.dim)
        yield f"{attention}.to_kv.weight", (2 * r.inner, r.dim)
        yield f"{attention}.to_out.weight", (r.dim, r.inner)
        yield from _layer(f"{forward}.0", r.dim)
        yield f"{forward}.1.weight", (r.hidden, r.dim)
        yield f"{forward}.3.weight", (r.dim, r.hidden)
    yield from _layer("proj_out", context, r.dim)
    yield from _layer("norm_out", context)


def shapes_of(layout: ImagePromptLayout) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of a whole file."""
    yield from ((f"image_proj.{key}", shape) for key, shape in projection_shapes(layout))
    for number, width in zip(layout.numbers, layout.layers, strict=True):
        for part in ("to_k", "to_v"):
            yield f"ip_adapter.{number}.{part}_ip.weight", (width, layout.context)


def read_layout(shapes: Mapping[str, tuple[int, ...]], file: str) -> ImagePromptLayout:
    """Layout of an IP-Adapter from the shapes of its tensors; ``file`` is its name, for the error.

    Raises:
        CamouflageError: another kind of file or of IP-Adapter, with the reason; tensors that do not fit together.
    """
    numbers = tuple(sorted(int(match[1]) for key in shapes if (match := _LAYER.fullmatch(key))))
    layers = tuple(shapes[f"ip_adapter.{number}.to_k_ip.weight"][0] for number in numbers)
    layout = _plus(shapes, layers, numbers) if "image_proj.latents" in shapes else _plain(shapes, layers, numbers)
    if (other := _other_kind(shapes, layout)) is not None or layout is None:
        raise CamouflageError(f"'{file}' is {other or kind_of(shapes)}. {_WANTED}")
    wanted = dict(shapes_of(layout))
    for key in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(key) != shapes.get(key):
            found, want = (list(s[key]) if key in s else "absent" for s in (shapes, wanted))
            raise CamouflageError(f"'{file}' is no IP-Adapter for SD 1.5: {key} is {found}, but must be {want}. "
                                  f"{_WANTED}")
    return layout


def _other_kind(shapes: Mapping[str, tuple[int, ...]], layout: ImagePromptLayout | None) -> str | None:
    """Which kind of IP-Adapter a file holds that is refused, with the reason; None: a known one, or none at all."""
    keys = [key for key in shapes if key.startswith(("image_proj.", "ip_adapter."))]
    for pattern, kind in _OTHERS:
        if any(pattern.search(key) for key in keys):
            return kind
    if any(_LAYER.fullmatch(key) and shapes[key][-1:] == (_SDXL,) for key in keys):
        return f"an IP-Adapter for SDXL: it reads text embeddings of width {_SDXL}, and those of SD 1.5 have 768"
    return "another kind of IP-Adapter" if keys and layout is None else None


def _plain(shapes: Mapping[str, tuple[int, ...]], layers: tuple[int, ...],
           numbers: tuple[int, ...]) -> ImagePromptLayout | None:
    proj, norm = shapes.get("image_proj.proj.weight", ()), shapes.get("image_proj.norm.weight", ())
    if len(proj) != 2 or len(norm) != 1 or not norm[0] or proj[0] % norm[0] or not numbers:
        return None
    return ImagePromptLayout(proj[1], norm[0], proj[0] // norm[0], layers, numbers)


def _plus(shapes: Mapping[str, tuple[int, ...]], layers: tuple[int, ...],
          numbers: tuple[int, ...]) -> ImagePromptLayout | None:
    latents, first, last, to_q, hidden = (shapes.get(f"image_proj.{key}", ()) for key in (
        "latents", "proj_in.weight", "proj_out.weight", "layers.0.0.to_q.weight", "layers.0.1.1.weight"))
    if len(latents) != 3 or any(len(shape) != 2 for shape in (first, last, to_q, hidden)) or not numbers:
        return None
    if to_q[0] % HEAD or not to_q[0]:
        return None
    depth = next(n for n in range(len(shapes)) if f"image_proj.layers.{n}.0.to_q.weight" not in shapes)
    resampler = ResamplerLayout(latents[2], to_q[0], depth, hidden[0])
    return ImagePromptLayout(first[1], last[0], latents[1], layers, numbers, resampler)


def _layer(key: str, out: int, into: int | None = None) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{key}.weight", (out,) if into is None else (out, into)
    yield f"{key}.bias", (out,)
