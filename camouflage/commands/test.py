"""All checks: ruff, pyright and pytest, in this order, with one exit code.

pytest comes last, so that its closing line is the last line of a run without errors. The tests run even where ruff or
pyright fail, since somebody in the middle of an edit needs them, too; the command fails all the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence

from testing import frontend, photos

from ..files import ROOT
from .environments import cache_folder


def workers(given: Sequence[str]) -> list[str]:
    """pytest's arguments for two processes, if the whole suite is run and there are two cores.

    Two, not more: a ComfyUI in process and one that is served hold several GB each (``tests/conftest.py`` keeps all
    that is served in one of the two).
    """
    whole_suite = all(argument.startswith("--") for argument in given)  # none names a test
    if not whole_suite or (os.cpu_count() or 1) < 2:
        return []
    return ["--numprocesses=2", "--dist=loadscope", "--no-loadscope-reorder"]


def main(options: Namespace) -> int:
    """Run the checks; what the command line does not know are pytest's arguments."""
    for material in (photos, frontend):
        material.ensure(cache_folder(), lambda line: print(line, flush=True))
    parallel = workers(options.rest)
    environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if parallel else {})}
    failed, code = [], 0
    for name, command in (("ruff", ["ruff", "check", "."]),
                          ("pyright", ["pyright", "--pythonpath", sys.executable]),
                          ("pytest", ["pytest", *parallel, *options.rest])):
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False, env=environment)
        if done.returncode:
            failed.append(name)
            code = code or done.returncode
    if failed and failed != ["pytest"]:
        print(f"Failed: {', '.join(failed)}; see above.", flush=True)
    return code
