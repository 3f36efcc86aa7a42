"""The authors' checkpoint of Light, turned into the two files that the nodes load.

It is a pickle of three parts, in the layout of the authors' code: ``image_proj`` (a Resampler that reads FaRL's hidden
states), ``ip_adapter`` (keys and values of every cross-attention layer, ``N.to_k_ip.weight``) and ``t2i_adapter``
(``conv_in`` and ``body.N``, a T2I-Adapter of diffusers but for its 1x1 ``conv_in``).
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import VERSION
from ..errors import CamouflageError
from ..files import file_sha256
from ..method import image_prompt, light_adapter
from ..method.attribute_map import PROBABILITIES
from ..weights import FARL, of_role
from .export import ADVICE, NOT_STATED, write_new
from .shards import short

State = dict[str, torch.Tensor]

PARTS = ("image_proj", "ip_adapter", "t2i_adapter")
_FARL_WIDTH = 768
_BROKEN = (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)
_WANTED = f"Wanted is the authors' checkpoint, a dictionary of {', '.join(PARTS)}."


def main(options: argparse.Namespace) -> int:
    """The command ``import``; the options are those of ``camouflage/commands/train.py``."""
    parts = read(options.file)
    described = {"camouflage_version": VERSION, "camouflage_network": "light", "licence": options.licence or NOT_STATED,
                 "source": options.file.name, "source_sha256": file_sha256(options.file), "image_encoder": FARL,
                 **PROBABILITIES.metadata}
    files = {options.output / Path(of_role(role)[0].file).name: state for role, state in (
        ("light adapter", adapter_of(parts, options.file.name)),
        ("image prompt (trained)", prompt_of(parts, options.file.name)))}
    write_new(files, described)
    for path, state in files.items():
        print(f"{path}: {sum(value.numel() for value in state.values()) / 1e6:.1f} M parameters")
    print(ADVICE["light"])
    return 0


def read(file: Path) -> dict[str, State]:
    """The three parts of the checkpoint, read by torch's restricted unpickler, which runs no code.

    Raises:
        CamouflageError: a damaged file, one that contains code, or another kind of file.
    """
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        raise CamouflageError(f"{file} cannot be read ({type(error).__name__}: {short(error)}). It is damaged, is "
                              f"another kind of file, or contains code, which is never executed. {_WANTED}") from error
    if not isinstance(content, Mapping):
        raise CamouflageError(f"{file} holds a {type(content).__name__}. {_WANTED}")
    for part in PARTS:
        state = content.get(part)
        if not isinstance(state, Mapping) or not state:
            raise CamouflageError(f"{file} has no '{part}'; it holds {', '.join(map(str, content)) or 'nothing'}. "
                                  f"{_WANTED}")
        wrong = next((key for key, value in state.items() if not isinstance(key, str)
                      or not isinstance(value, torch.Tensor) or not value.is_floating_point()), None)
        if wrong is not None:
            raise CamouflageError(f"{file}: '{part}' holds {wrong!r}, which is no tensor of numbers. {_WANTED}")
    return {part: dict(content[part]) for part in PARTS}


def adapter_of(parts: Mapping[str, State], file: str) -> State:
    """The T2I-Adapter in diffusers' layout. A 1x1 ``conv_in`` becomes a 3x3 of which only the middle counts."""
    state = {f"adapter.{key}": value for key, value in parts["t2i_adapter"].items()}
    first = state.get("adapter.conv_in.weight")
    if first is not None and first.shape[2:] == (1, 1):
        state["adapter.conv_in.weight"] = torch.nn.functional.pad(first, (1, 1, 1, 1))
    light_adapter.read_layout({key: tuple(value.shape) for key, value in state.items()}, file)
    return state


def prompt_of(parts: Mapping[str, State], file: str) -> State:
    """The image prompt in the published layout of the Plus kind, with as many queries as it has."""
    state = {f"{part}.{key}": value for part in PARTS[:2] for key, value in parts[part].items()}
    layout = image_prompt.read_layout({key: tuple(value.shape) for key, value in state.items()}, file)
    if layout.resampler is None or layout.width != _FARL_WIDTH:
        what = "embeddings" if layout.resampler is None else "states"
        raise CamouflageError(f"{file}: its image_proj projects {what} of width {layout.width}, but the authors' reads "
                              f"FaRL's hidden states, {_FARL_WIDTH} wide. {_WANTED}")
    return state
