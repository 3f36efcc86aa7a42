"""Which real weights are in place: looks where the user's ComfyUI looks, without starting it."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..weights import Weight, first_file, needed_by, of_role

MODEL_FOLDERS = ("checkpoints", "controlnet", "vae", "clip_vision", "text_encoders", "embeddings", "loras",
                 "ipadapter", "camouflage")
ALSO = {"controlnet": ("t2i_adapter",), "text_encoders": ("clip",)}  # further places ComfyUI searches by itself


def default_comfyui() -> Path:
    """The ComfyUI that ``run.py`` chose. Raises CamouflageError when this process was not started by it."""
    chosen = os.environ.get("CAMOUFLAGE_COMFYUI") or os.environ.get("COMFYUI_PATH")
    if not chosen:
        raise CamouflageError("No ComfyUI is named. Use `python run.py ...`, or set COMFYUI_PATH.")
    return Path(chosen)


def model_folders(comfyui: Path, key: str) -> list[Path]:
    """The folders that ComfyUI searches for models of a kind, its own first, then those of extra_model_paths.yaml."""
    folders = [comfyui / "models" / name for name in (key, *ALSO.get(key, ()))]
    file = comfyui / "extra_model_paths.yaml"
    if not file.is_file():
        return folders
    try:
        import yaml  # the one thing here that not every Python has
    except ImportError:
        raise CamouflageError(f"{file} says where models are, and this Python ({sys.executable}) has no PyYAML to read "
                              "it. Use the Python of your ComfyUI, install PyYAML, or name the models folder with "
                              "--models.") from None
    try:
        sections: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return folders  # ComfyUI itself will say what is wrong with it when it starts
    for section in sections.values() if isinstance(sections, dict) else ():
        if isinstance(section, dict) and isinstance(section.get(key), str):
            base = Path(os.path.expandvars(os.path.expanduser(str(section.get("base_path", "")))))
            folders += [comfyui / base / line for line in section[key].split("\n") if line]
    return folders


def missing(comfyui: Path, pipeline: str = "", roles: tuple[str, ...] = (), values: Collection[str] = ()
            ) -> list[Weight]:
    """The weights of a pipeline's needs (with these ``values`` of widgets), or of some roles, that are in none of the
    folders."""
    wanted = [*(needed_by(pipeline, values) if pipeline else ()),
              *(weight for role in roles for weight in of_role(role))]
    return [weight for weight in wanted if first_file(model_folders(comfyui, weight.folder), weight) is None]


def describe_missing(weights: list[Weight], comfyui: Path) -> str:
    """A download list: for every file its address, the folder it belongs in, and what its licence allows."""
    count = f"{len(weights)} weight file{'s are' if len(weights) > 1 else ' is'}"
    lines = [f"{count} missing. `python run.py weights get --pipeline NAME` downloads what a pipeline needs; or "
             "download each into its folder. Then run the same command again."]
    for weight in weights:
        use = {True: "commercial use allowed", False: "no commercial use", None: "commercial use not stated"}
        lines.append(f"\n{weight.role}: {Path(weight.file).name}, {weight.size_text} ({weight.licence}; "
                     f"{use[weight.commercial]})\n"
                     f"  from {weight.url or '(no download: it has to be trained; python run.py train does it)'}\n"
                     f"  into {(comfyui / 'models' / weight.path).parent}")
    return "\n".join(lines)
