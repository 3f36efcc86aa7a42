"""All checks: ruff, then pyright and pytest, with one exit code.

pyright runs beside pytest and speaks only where it finds something, so that pytest's closing line is the last line of a
run without errors. The tests run even where ruff or pyright fail, since somebody in the middle of an edit needs them,
too; the command fails all the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence

from testing import frontend, photos, typescript

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
    for material in (photos, frontend, typescript):
        material.ensure(cache_folder(), lambda line: print(line, flush=True))
    parallel = workers(options.rest)
    environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if parallel else {})}
    arguments = {"ruff": ["check", "."], "pyright": ["--pythonpath", sys.executable],
                 "pytest": [*parallel, *options.rest]}
    commands = {name: [sys.executable, "-m", name, *given] for name, given in arguments.items()}
    codes: dict[str, int] = {}

    def check(name: str) -> None:
        print(f"== {name}", flush=True)
        codes[name] = subprocess.run(commands[name], cwd=ROOT, env=environment, check=False).returncode

    check("ruff")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        with subprocess.Popen(commands["pyright"], cwd=ROOT, env=environment, stdout=said, stderr=said) as pyright:
            check("pytest")
        codes["pyright"] = pyright.returncode
        if codes["pyright"]:
            said.seek(0)
            print("== pyright", said.read(), sep="\n", flush=True)
    failed = [name for name in commands if codes[name]]
    if failed and failed != ["pytest"]:
        print(f"Failed: {', '.join(failed)}; see above.", flush=True)
    return next((codes[name] for name in failed), 0)
