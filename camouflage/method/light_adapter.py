"""The Light adapter: a T2I-Adapter that reads the 41-channel attribute map (paper, Light; layout of diffusers).

What needs no host: reading the layout from a file's keys and shapes, its encoding from the metadata, and padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from ..errors import CamouflageError
from .attribute_map import CHANNELS, ENCODINGS, AttributeMap, Encoding

_MAX_LEVELS = 4
_WANTED = ("It must be a T2I-Adapter in diffusers' layout (adapter.conv_in, adapter.body.N.resnets) with "
           f"{CHANNELS} input channels, as .safetensors. Choose another file in 'adapter'.")
_KINDS = (
    (("control_model.", "input_hint_block.", "controlnet_cond_embedding.", "zero_convs."), "a ControlNet"),
    (("image_proj.", "ip_adapter."), "an IP-Adapter"),
    (("model.diffusion_model.", "cond_stage_model.", "first_stage_model."), "a whole checkpoint"),
    (("lora_", "unet.", "down_blocks."), "a LoRA or a UNet"),
    (("adapter.body.0.in_conv.",), "a T2I-Adapter of the type 'light_adapter'; wanted is 'full_adapter'"),
    (("adapter.",), "a T2I-Adapter"),
    (("conv_in.", "body."), "a T2I-Adapter in its authors' layout"),
)


@dataclass(frozen=True)
class Layout:
    """What the weights say about an adapter.

    Attributes:
        channels: width of every level's features, finest first; level i is 2**i times smaller than the map.
        res_blocks: residual blocks a level.
    """

    channels: tuple[int, ...]
    res_blocks: int

    @property
    def stride(self) -> int:
        """Cells of the map to one cell of the coarsest features."""
        return 2 ** (len(self.channels) - 1)


def shapes_of(layout: Layout, in_channels: int = CHANNELS) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of ``T2IAdapter(in_channels, channels, res_blocks, 1, "full_adapter")`` in diffusers 0.42."""
    inner = layout.channels[0]
    yield from _conv("adapter.conv_in", inner, in_channels, 3)
    for level, width in enumerate(layout.channels):
        if width != inner:
            yield from _conv(f"adapter.body.{level}.in_conv", width, inner, 1)
        for block in range(layout.res_blocks):
            yield from _conv(f"adapter.body.{level}.resnets.{block}.block1", width, width, 3)
            yield from _conv(f"adapter.body.{level}.resnets.{block}.block2", width, width, 1)
        inner = width


def read_layout(shapes: Mapping[str, tuple[int, ...]], file: str) -> Layout:
    """Layout of an adapter from the shapes of its tensors.

    Args:
        shapes: key to shape, all tensors of the file.
        file: its name, for the error.

    Raises:
        CamouflageError: it is another kind of file, reads another number of channels, or is incomplete.
    """
    first = shapes.get("adapter.conv_in.weight")
    if first is None or len(first) != 4:
        raise CamouflageError(f"'{file}' is {kind_of(shapes)}, not a Light adapter. {_WANTED}")
    if first[1] != CHANNELS:
        unshuffled = f" (3 colours unshuffled by {round((first[1] / 3) ** 0.5)})" if first[1] in (192, 768) else ""
        raise CamouflageError(f"'{file}' is a T2I-Adapter of {first[1]} input channels{unshuffled}, "
                              f"adapter.conv_in.weight {list(first)}. {_WANTED}")
    blocks = [_run(f"adapter.body.{level}.resnets.{{}}.block1.weight", shapes) for level in range(_MAX_LEVELS + 1)]
    levels = next((i for i, keys in enumerate(blocks) if not keys), len(blocks))
    if not 1 <= levels <= _MAX_LEVELS:
        raise CamouflageError(f"'{file}' has {levels} levels, but an adapter has 1 to {_MAX_LEVELS}. {_WANTED}")
    layout = Layout(tuple(shapes[keys[0]][0] for keys in blocks[:levels]), len(blocks[0]))
    _compare(dict(shapes_of(layout)), shapes, file)
    return layout


def read_encoding(metadata: Mapping[str, str] | None, assumed: Encoding | None, file: str) -> Encoding:
    """The encoding that an adapter was trained with; only one of this version's maps will do.

    Args:
        metadata: of the safetensors file; "encoding" and "encoding_version" count.
        assumed: what to take for a file without that metadata; None refuses it.
        file: its name, for the error.
    """
    name, version = (metadata or {}).get("encoding"), (metadata or {}).get("encoding_version")
    known = ENCODINGS.get(name or "")
    if name is None and version is None:
        if assumed is None:
            raise CamouflageError(f"'{file}' does not say in its metadata which encoding of the map it was trained "
                                  f"with. If you know it, choose it in 'encoding': {', '.join(ENCODINGS)}.")
        return assumed
    if known is None or version != str(known.version):
        raise CamouflageError(f"'{file}' was trained on maps in the encoding '{name}' version {version}, but maps are "
                              f"made in {' or '.join(map(str, ENCODINGS.values()))} here. Choose another adapter in "
                              "'adapter', or the version of CAMOUFLaGE that the adapter was trained with.")
    return known


def checked_map(attribute_map: AttributeMap | torch.Tensor, socket: str) -> AttributeMap:
    """A map that is B x 41 x h x w and finite; a bare tensor, as another pack may make it, is in ``SIGNED``.

    Raises:
        CamouflageError: it is not.
    """
    maps = AttributeMap(attribute_map) if isinstance(attribute_map, torch.Tensor) else attribute_map
    found = list(maps.values.shape) if isinstance(maps, AttributeMap) else type(maps).__name__
    if not isinstance(found, list) or len(found) != 4 or found[1] != CHANNELS or 0 in found:
        raise CamouflageError(f"'{socket}' is {found}, but a map is [batch, {CHANNELS}, height, width] at latent "
                              "size. Connect 'Attribute Map'.")
    if not torch.isfinite(maps.values).all():
        raise CamouflageError(f"'{socket}' holds numbers that are not finite. Make the map anew with 'Attribute Map'.")
    return maps


def pad_map(attribute_map: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Pads a map on the right and below with 0 ("nothing known") until the adapter's stride divides it.

    Without it, pooling at an odd border would mix a cell with what lies outside, differently at every level.

    Args:
        attribute_map: B x C x h x w.

    Returns:
        B x C x H x W with H and W the next multiples of the stride; the same tensor where nothing is missing.
    """
    bottom, right = (-side % layout.stride for side in attribute_map.shape[-2:])
    return torch.nn.functional.pad(attribute_map, (0, right, 0, bottom)) if bottom or right else attribute_map


def feature_size(height: int, width: int, level: int) -> tuple[int, int]:
    """Height and width of a level's features for a map of this size: those of the UNet, which rounds up."""
    return -(-height // 2**level), -(-width // 2**level)


def crop_features(features: Iterable[torch.Tensor], height: int, width: int) -> list[torch.Tensor]:
    """Cuts features of a padded map (finest first) to what belongs to the map of height x width cells."""
    sizes = ((feature, *feature_size(height, width, level)) for level, feature in enumerate(features))
    return [feature[..., :h, :w] for feature, h, w in sizes]


def kind_of(keys: Iterable[str]) -> str:
    """In words, what kind of file has these keys."""
    keys = list(keys)
    for prefixes, kind in _KINDS:
        if any(key.startswith(prefixes) for key in keys):
            return kind
    return f"a file of {len(keys)} tensors of an unknown kind (first: {min(keys, default='none')})"


def text_width(state: Mapping[str, torch.Tensor]) -> int | None:
    """Width of the text embeddings that a UNet or a ControlNet reads; None where nothing in ``state`` reads text."""
    return next((weight.shape[1] for key, weight in state.items() if key.endswith("attn2.to_k.weight")), None)


def _conv(key: str, outer: int, inner: int, kernel: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{key}.weight", (outer, inner, kernel, kernel)
    yield f"{key}.bias", (outer,)


def _run(pattern: str, keys: Mapping[str, object]) -> list[str]:
    """The keys of this pattern numbered 0, 1, 2 ... up to the first gap."""
    found: list[str] = []
    while pattern.format(len(found)) in keys:
        found.append(pattern.format(len(found)))
    return found


def _compare(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], file: str) -> None:
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != (tuple(found[key]) if key in found else None):
            have = list(found[key]) if key in found else "missing"
            want = list(wanted[key]) if key in wanted else "absent"
            raise CamouflageError(f"'{file}' is no complete Light adapter: {key} is {have}, but must be {want}. "
                                  f"{_WANTED}")
