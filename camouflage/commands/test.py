"""Everything that has to be green: ruff, pyright and pytest, in this order, with one exit code.

pytest comes last, so that its closing line is the last line of a green run. A failing ruff or pyright does not keep
the tests from running, for a person in the middle of an edit wants to see them; it fails the command all the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from argparse import Namespace

from testing import photos

from ..files import ROOT
from .environments import cache_folder

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
            "microsoft-edge", "msedge")


def provide_browser() -> None:
    """In CI, on a Debian we own, install the Chromium that the browser tests use; elsewhere they skip without one."""
    if os.environ.get("CI", "").lower() not in ("true", "1") or any(map(shutil.which, BROWSERS)):
        return
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    print("Installing Chromium for the browser tests.", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        done = subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, check=False)
        if done.returncode:
            print(f"apt-get {command[0]} failed; the browser tests will be skipped.", flush=True)
            return


def main(options: Namespace) -> int:
    """Run the checks; what the command line does not know are pytest's arguments."""
    provide_browser()
    photos.ensure(cache_folder(), lambda line: print(line, flush=True))
    failed, code = [], 0
    for name, command in (("ruff", ["ruff", "check", "."]),
                          ("pyright", ["pyright", "--pythonpath", sys.executable]),
                          ("pytest", ["pytest", *options.rest])):
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False)
        if done.returncode:
            failed.append(name)
            code = code or done.returncode
    if failed and failed != ["pytest"]:
        print(f"Failed: {', '.join(failed)}; see above.", flush=True)
    return code
