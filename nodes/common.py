"""What the schemas share, and what holds for every node: its inputs are held against its schema."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from comfy_api.latest import io

from ..camouflage.errors import CamouflageError

LOAD = "CAMOUFLaGE/load"
ANNOTATE = "CAMOUFLaGE/annotate"
CONTROL = "CAMOUFLaGE/control"
GUIDE = "CAMOUFLaGE/guide"
LIGHT = "CAMOUFLaGE/light"
VERIFY = "CAMOUFLaGE/verify"
IMAGE_TOOLS = "Image Tools"  # of the host's short list of nodes


def resolution_input() -> io.Int.Input:
    """Working resolution of an annotator."""
    return io.Int.Input("resolution", default=512, min=64, max=2048, step=64,
                        tooltip="Length of the shorter side in px at which the annotator sees the picture, 64 to 2048. "
                                "The ControlNets were trained with 512. The map always has the picture's own size. A "
                                "larger value shows smaller things and needs more time and memory.")


def image_input(what: str, sides: str = "64 to 4096 px a side") -> io.Image.Input:
    """A batch of pictures."""
    return io.Image.Input("image", tooltip=f"The pictures {what}; any batch, {sides}. Greyscale and RGBA are taken; "
                                           "transparency is flattened on white.")


def schema(*, search_aliases: Sequence[str] = (), essentials_category: str | None = None,
           advanced: Collection[str] = (), **fields: Any) -> io.Schema:
    """The host's ``Schema``, with what newer hosts offer beyond the oldest one.

    Args:
        search_aliases: other words under which a person looks for the node; hosts know them from 0.11 on.
        essentials_category: its place in the short list of nodes; hosts know it from 0.15 on.
        advanced: ids of inputs that few people touch; a frontend shows them when asked. The host's inputs take it as
            an argument from 0.10 on, and older ones pass it on just as well.
        **fields: what every host knows.
    """
    for socket in fields["inputs"]:
        if socket.id in advanced:
            socket.extra_dict = {**(socket.extra_dict or {}), "advanced": True}
    newer = {"search_aliases": list(search_aliases), "essentials_category": essentials_category}
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**fields, **{name: value for name, value in newer.items() if value and name in known})


class FileInput(io.Combo.Input):
    """A choice of files or model folders. Who opens it refuses what is not there, and says how to get it."""


def checked(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Lets ``node`` refuse inputs that its schema does not allow, and begin each of its errors with its name.

    Hosts check ranges when a workflow is queued, but not all of them check the choices, and none what comes over a
    wire or is called in process.
    """
    execute = node.execute.__func__  # pyright: ignore[reportFunctionMemberAccess]
    names = list(inspect.signature(node.execute).parameters)

    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *values: Any, **inputs: Any) -> io.NodeOutput:
        inputs.update(zip(names, values, strict=False))
        declared = cls.define_schema()
        try:
            check_inputs(declared, inputs)
            return execute(cls, **inputs)
        except CamouflageError as error:
            error.args = (f"{declared.display_name}: {error}",)
            raise

    node.execute = classmethod(run)
    return node


def check_inputs(declared: io.Schema, inputs: Mapping[str, Any]) -> None:
    """Holds the values of widgets against the ranges and choices of a schema.

    Raises:
        CamouflageError: a value of another kind, outside its range, not finite, or none of the choices.
    """
    for socket in declared.inputs or []:
        if socket.id not in inputs or (socket.optional and inputs[socket.id] is None):
            continue
        given = inputs[socket.id]
        for value in given if declared.is_input_list else [given]:
            if wanted := _wanted(socket, value):
                raise CamouflageError(f"'{socket.id}' is {_in_words(value)}, but must {wanted}.")


def _wanted(socket: io.Input, value: object) -> str | None:
    """What a value must be or do; None where it does, and for sockets that are no widgets."""
    if isinstance(socket, (io.String.Input, FileInput)):
        return None if isinstance(value, str) else "be text"
    if isinstance(socket, io.Combo.Input):
        return None if value in socket.options else f"be one of: {', '.join(map(str, socket.options))}"
    if not isinstance(socket, (io.Int.Input, io.Float.Input)):
        return None
    whole = isinstance(socket, io.Int.Input)
    if not isinstance(value, Integral if whole else Real):
        return f"be a {'whole ' * whole}number"
    if not math.isfinite(value) or not socket.min <= value <= socket.max:
        return f"lie between {socket.min:g} and {socket.max:g}"
    return None


def _in_words(value: object) -> str:
    """A widget's value as it came; of anything larger only what it is."""
    return repr(value)[:100] if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"
