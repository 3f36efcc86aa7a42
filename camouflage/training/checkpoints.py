"""Checkpoints that are there whole or not at all.

A checkpoint is a folder ``step-00000500`` with the weights, their moving average (EMA), the optimiser and
``state.json``, which holds the SHA-256 of the others. It is written under another name, brought to the disk, and then
renamed, so neither a kill nor a power cut leaves half of one under its name; and what does not match its sums is not
loaded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import CamouflageError
from ..files import file_sha256, to_disk

WEIGHTS, EMA, OPTIMIZER = "weights.safetensors", "ema.safetensors", "optimizer.pt"
_STATE = "state.json"
_NAME = re.compile(r"step-(\d{8})")
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        state: what ``save`` was given, plus "step".
    """

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.state["step"]

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of ``WEIGHTS`` or ``EMA``, on the CPU."""
        return load_file(self.path / name)

    def optimizer(self) -> dict[str, Any]:
        """The state of the optimiser, read without running code from the file."""
        return torch.load(self.path / OPTIMIZER, map_location="cpu", weights_only=True)


def save(folder: Path, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], optimizer: dict[str, Any],
         state: Mapping[str, Any]) -> Path:
    """Writes the checkpoint of a step.

    Args:
        folder: where checkpoints are; made if need be.
        step: optimiser steps done.
        tensors: by file name.
        optimizer: its state, of tensors and plain values.
        state: plain values, for state.json.

    Returns:
        The checkpoint's folder.

    Raises:
        CamouflageError: it could not be written; the checkpoints before are as they were.
    """
    final = folder / f"step-{step:08d}"
    partial = folder / f".{final.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, values in tensors.items():
            save_file({key: value.detach().cpu().contiguous() for key, value in values.items()}, partial / name)
        torch.save(optimizer, partial / OPTIMIZER)
        files = [*tensors, OPTIMIZER]
        described = {**state, "format": _FORMAT, "step": step,
                     "sha256": {name: file_sha256(partial / name) for name in files}}
        (partial / _STATE).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
        for name in (*files, _STATE):
            to_disk(partial / name)
        to_disk(partial)
        shutil.rmtree(final, ignore_errors=True)  # one that was damaged, or a run that starts anew from further back
        os.replace(partial, final)
        to_disk(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as a RuntimeError
        shutil.rmtree(partial, ignore_errors=True)
        raise CamouflageError(f"The checkpoint of step {step} could not be written to {folder} ({error}). Make room "
                              "and start the same command again: it goes on from the checkpoint before.") from error
    return final


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint's state and compares its files with their sums.

    Raises:
        CamouflageError: it is not whole.
    """
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        if state["format"] != _FORMAT:
            raise CamouflageError(f"{path} was written by another version of this training (format {state['format']}; "
                                  f"this one reads {_FORMAT}).")
        sums, found = state["sha256"], {name: file_sha256(path / name) for name in state["sha256"]}
        step = state["step"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CamouflageError(f"{path} is not a whole checkpoint ({type(error).__name__}: {error}).") from error
    wrong = [name for name in sums if found[name] != sums[name]]
    if wrong or not isinstance(step, int) or not {WEIGHTS, OPTIMIZER} <= sums.keys():
        raise CamouflageError(f"{path} is damaged: {', '.join(wrong) or _STATE} is not what was written.")
    return Checkpoint(path, state)


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, oldest first; by their names alone."""
    names = (_NAME.fullmatch(entry.name) for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else ()
    return sorted(int(match[1]) for match in names if match)


def latest(folder: Path, warn: Any = print) -> Checkpoint | None:
    """The newest whole checkpoint; what is damaged is passed over with a warning. None: there is none."""
    for step in reversed(steps(folder)):
        try:
            return load(folder / f"step-{step:08d}")
        except CamouflageError as error:
            warn(f"Passed over: {error}")
    return None


def prune(folder: Path, keep_last: int, keep_every: int) -> None:
    """Deletes all but the newest ``keep_last`` and the multiples of ``keep_every`` (0: none of them)."""
    for partial in folder.glob(".step-*.partial"):  # of a run that was killed
        shutil.rmtree(partial, ignore_errors=True)
    for step in steps(folder)[:-keep_last]:
        if not keep_every or step % keep_every:
            path = folder / f"step-{step:08d}"
            doomed = path.with_name(f".{path.name}.partial")  # never half of one under its name
            try:
                os.replace(path, doomed)
            except OSError:
                continue
            shutil.rmtree(doomed, ignore_errors=True)
