"""Which pipeline runs: the one chooser of all commands."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..comfy.in_process import accelerator
from ..comfy.installed import describe_missing, missing
from ..errors import CamouflageError
from .pipelines import PIPELINES

TRAINED = ("light adapter", "image prompt (trained)")
PUBLIC_LIGHT = "Light's trained files are not there, so its public variant ran: attributes kept nobody apart."


def automatic(comfyui: Path) -> tuple[str, str]:
    """The pipeline that does most with what is there, and why it was taken.

    Base where its weights and a GPU are there, else Light (its public variant without the trained files), else Redact.
    """
    ready = [name for name in ("base", "light", "light_public") if not missing(comfyui, name)]
    if ready and accelerator():
        return ready[0], (f"{PIPELINES[ready[0]].title} was taken: its weights and a GPU are there.")
    redact = f"{PIPELINES['redact'].title} was taken, which covers the heads: "
    if ready:
        return "redact", (f"{redact}the weights of {PIPELINES[ready[0]].title} are there, but no GPU. --pipeline "
                          f"{ready[0]} paints new persons on the CPU, which takes long.")
    return "redact", (f"{redact}for new persons {len(missing(comfyui, 'base'))} files of weights are missing. "
                      "'python run.py weights get --pipeline base' fetches them.")


def demand_weights(names: list[str], comfyui: Path, values: Collection[str] = ()) -> None:
    """Raises CamouflageError, which lists them, where weights of these pipelines are missing; ``values`` of widgets may
    exchange some."""
    absent = [weight for name in names for weight in missing(comfyui, pipeline=name, values=values)]
    if absent:
        raise CamouflageError(describe_missing(list(dict.fromkeys(absent)), comfyui))


def light_or_public(comfyui: Path) -> tuple[str, str]:
    """Light, or what there is of it without the files that must be trained; and what to tell of that."""
    return ("light_public", PUBLIC_LIGHT) if missing(comfyui, roles=TRAINED) else ("light", "")
