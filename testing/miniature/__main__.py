"""``python -m tools.miniature CACHE``: build the miniature weights below CACHE and print where they are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import ensure

parser = argparse.ArgumentParser(prog="python -m tools.miniature", description=__doc__)
parser.add_argument("cache", type=Path)
parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
arguments = parser.parse_args()
print(ensure(arguments.cache, arguments.seed, report=lambda line: print(line, file=sys.stderr)))
