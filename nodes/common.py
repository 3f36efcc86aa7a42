"""What the schemas share."""

from __future__ import annotations

from enum import Enum

from comfy_api.latest import io

from ..camouflage.errors import CamouflageError

ANNOTATE = "CAMOUFLaGE/annotate"
CONTROL = "CAMOUFLaGE/control"
GUIDE = "CAMOUFLaGE/guide"
LIGHT = "CAMOUFLaGE/light"
VERIFY = "CAMOUFLaGE/verify"


def resolution_input() -> io.Int.Input:
    """Working resolution of an annotator."""
    return io.Int.Input("resolution", default=512, min=64, max=2048, step=64,
                        tooltip="Pixels of the shorter side that the annotator sees, 64 to 2048; 512 is what the "
                                "ControlNets were trained with. The map always comes back at the picture's own size. "
                                "More shows smaller things and costs time and memory.")


def image_input(what: str, sides: str = "64 to 4096 px a side") -> io.Image.Input:
    """A batch of pictures."""
    return io.Image.Input("image", tooltip=f"The pictures {what}; any batch, {sides}. Greyscale and RGBA are taken; "
                                           "transparency is flattened on white.")


def one_of(value: str, options: list[str] | type[Enum], name: str) -> str:
    """Checks a Combo value, which the host does not do in every version."""
    allowed = [option.value for option in options] if isinstance(options, type) else options
    if value not in allowed:
        raise CamouflageError(f"'{name}' is '{value}', but must be one of: {', '.join(allowed)}.")
    return value
