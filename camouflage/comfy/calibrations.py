"""Where the calibrations lie: what the loader offers, and the one behind a choice."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..errors import CamouflageError
from ..verification.calibration import MAX_JSON, Calibration
from .weights import FOLDER, digest_of, register_folder

UNDER = "calibration"  # below models/camouflage
_MAKE = (f"Make one with `python run.py calibrate FOLDER` (docs/calibration.md), put it into "
         f"models/{FOLDER}/{UNDER}, and reload the page.")


def names() -> list[str]:
    """Calibration files, relative to their folder."""
    register_folder()
    listed = (Path(name) for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".json"))
    return sorted(path.relative_to(UNDER).as_posix() for path in listed if path.is_relative_to(UNDER))


def digest(name: str) -> str:
    """SHA-256 of the file that ``names`` calls ``name``; empty where there is none."""
    return digest_of(_find(name)) if name in names() else ""


def read(name: str) -> Calibration:
    """The calibration that ``names`` calls ``name``.

    Raises:
        CamouflageError: it is not there, or is no calibration.
    """
    path = _find(name)
    try:
        if path.stat().st_size > 4 * MAX_JSON:  # at most 4 bytes a character
            raise CamouflageError("it is far larger than a calibration.")
        return Calibration.from_json(path.read_text(encoding="utf-8"))
    except (CamouflageError, OSError, UnicodeDecodeError) as error:
        raise CamouflageError(f"'file': {path.name} cannot be used as a calibration. {error} Choose another file, or "
                              "run `python run.py calibrate FOLDER` again.") from error


def _find(name: str) -> Path:
    found = folder_paths.get_full_path(FOLDER, f"{UNDER}/{name}") if name in (listed := names()) else None
    if found is None:
        there = f"Found: {', '.join(listed)}. Choose one of them." if listed else f"There is none yet. {_MAKE}"
        raise CamouflageError(f"'file' is '{name}', which is not in models/{FOLDER}/{UNDER}. {there}")
    return Path(found)
