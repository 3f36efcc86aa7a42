#!/usr/bin/env python3
"""The commands of this repository: ``python run.py --help``. Everything is in ``camouflage/commands/``."""

import os
import sys

if sys.version_info < (3, 10):  # before anything that an older Python cannot read  # noqa: UP036
    sys.exit(f"This needs Python 3.10 or newer; this is Python {sys.version.split()[0]} ({sys.executable}).")

# The one place that touches sys.path for our own code. Our folder goes last: ComfyUI has a module `nodes`, too, which
# must win where both are there. (camouflage/comfy/in_process.py puts ComfyUI itself first.)
ROOT = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [path for path in sys.path if os.path.realpath(path or os.curdir) != ROOT] + [ROOT]

from camouflage.commands.launch import main  # noqa: E402

if __name__ == "__main__":  # not in the processes of a data loader
    sys.exit(main())
