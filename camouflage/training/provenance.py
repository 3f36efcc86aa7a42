"""Where weights come from (settings, data and code of a run), and whether a run may go on from a checkpoint."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from .checkpoints import Checkpoint
from .randomness import generator

ROOT = Path(__file__).resolve().parents[1]
_MAY_CHANGE = {  # for init its digest is compared, for accumulation its product with the processes
    "init", "accumulation", "gradient_checkpointing", "deterministic", "validation.every", "validation.pictures",
    "validation.sampler_steps", "validation.cfg", "validation.seed", "checkpoints.every", "checkpoints.keep_last",
    "checkpoints.keep_every"}


def fingerprint(sources: Sequence[str]) -> str:
    """A hash of a set of pictures, hex."""
    return f"{generator(*sorted(sources)).initial_seed():016x}"


def git_revision() -> str:
    """The commit of this code, "+" behind it where files were changed; "unknown" outside of a repository."""
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True,
                                 text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def same_run(checkpoint: Checkpoint, described: Mapping[str, Any]) -> None:
    """Refuses to go on with a run of other settings: the result would have been trained with neither."""
    before, now = _flat(checkpoint.state), _flat(described)
    may_change = {f"config.{name}" for name in _MAY_CHANGE} | {"git_revision", "base_model.name"}
    if now.get("config.schedule.kind") == "constant":
        may_change.add("config.steps")
    for key in sorted((before.keys() | now.keys()) - may_change - {"format", "step"}):
        if not key.startswith("sha256.") and before.get(key) != now.get(key):
            what = {"group": "processes times accumulation"}.get(key, key.removeprefix("config."))
            raise CamouflageError(f"{checkpoint.path.parent.parent} holds a run with another '{what}': it was "
                                  f"{before.get(key)}, now it is {now.get(key)}. Go on with the old value, or choose "
                                  "a new --output (with --set init=FILE it begins with exported weights).")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
