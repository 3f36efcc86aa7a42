"""The command ``train`` in the tests' own environment, which has what training needs, and with their ComfyUI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__)
"""For processes of their own: ``python SCRIPT light ...`` is what ``python run.py train light ...`` is for users."""


def train(*arguments: object) -> int:
    """What ``run.py train`` gives; what it prints is printed."""
    from camouflage.commands import environments, launch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "environment", lambda *_: Path(sys.prefix))
        patch.setenv("COMFYUI_PATH", os.environ.get("CAMOUFLAGE_COMFYUI") or os.environ.get("COMFYUI_PATH", ""))
        patch.setenv("CAMOUFLAGE_COMFYUI", "")  # it sets both; afterwards they are as they were
        patch.setenv("CAMOUFLAGE_CACHE", str(environments.cache_folder()))
        return launch.main(["train", *map(str, arguments)])


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in the place of this folder
    sys.path.append(sys.path.pop(0))
    sys.exit(train(*sys.argv[1:]))
