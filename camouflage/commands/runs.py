"""The command line of ``anonymize`` and ``review``. Standard library only."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from . import arguments as kinds

TABLES = ".parquet"
PIPELINES = ("auto", "base", "base_few_steps", "base_commercial", "light", "light_public", "redact")


def add_commands(commands: Any) -> None:
    """Both commands."""
    run = commands.add_parser(
        "anonymize", allow_abbrev=False, help="anonymize photos, a folder, tar shards or parquet files",
        description="Send every picture through a workflow in a real ComfyUI, and write what its verification lets "
        "pass, in the form of the source, each picture with the record of its verdict. What may not leave is listed "
        "with the reason. The same command again goes on where it was stopped.",
        epilog="Exit codes: 0 all saved; 1 ComfyUI failed; 2 something is to be done first; 3 some were withheld; 4 "
        "some could not be read or processed; 130 Ctrl-C.")
    run.add_argument("inputs", nargs="+", type=kinds.path, metavar="PHOTO|FOLDER|LIST|SHARD",
                     help="photos; or one folder, with its sub-folders; or one list of paths (.txt); or tar shards "
                     "(.tar, .tar.gz) as WebDataset has them; or parquet files")
    run.add_argument("--output", type=kinds.path, required=True, metavar="DIR",
                     help="folder for the results: a new one, or that of the run to go on with")
    run.add_argument("--pipeline", choices=PIPELINES, default="auto",
                     help="which shipped workflow. auto is base, else light (or light_public), where their weights and "
                     "a GPU are there, else redact, which covers heads and needs neither (default: auto)")
    run.add_argument("--workflow", type=kinds.file_with(".json"), metavar="FILE",
                     help="instead of a pipeline: any workflow, saved in ComfyUI or exported for its API, that ends in "
                     "one Save Anonymized")
    run.add_argument("--input", metavar="NODE", help="of the workflow: the Load Image node that gets the pictures, by "
                     "id or title, if there are several")
    run.add_argument("--set", type=kinds.widget, action="append", default=[], metavar="NODE.WIDGET=VALUE",
                     help="change a widget of the workflow, the node by id or title, such as "
                     "'Anonymized.format=JPEG'; may be given several times")
    run.add_argument("--pack", type=kinds.path, action="append", default=[], metavar="FOLDER",
                     help="folder of further custom nodes that the workflow needs; may be given several times")
    run.add_argument("--no-face", choices=("block", "pass"),
                     help="pictures in which no face is found: withhold them, or let them pass (default: as the "
                     "workflow says; the shipped ones withhold them)")
    run.add_argument("--seed", type=kinds.whole(0, 2**64 - 1), default=0, metavar="N",
                     help="of the run; the seed of a picture follows from it and the picture's key (default: 0)")
    run.add_argument("--batch-size", type=size, default="auto", metavar="N|auto",
                     help="the most pictures of one size that are sampled together, 1 to 64 (default: auto, 1 on a "
                     "CPU)")
    run.add_argument("--keep", type=names, default=[], metavar="NAME,...",
                     help="what else goes along, unchanged: files beside a picture by ending (txt,cls), or columns of "
                     "a parquet file. Captions and labels can identify a person, too (default: nothing)")
    run.add_argument("--hash-names", action="store_true",
                     help="give pictures names that say nothing, by a keyed hash of the former ones")
    run.add_argument("--column", metavar="NAME", help="the parquet column of the pictures, if there are several")
    run.add_argument("--key", metavar="NAME", help="the parquet column of the keys (default: the number of the row)")
    run.add_argument("--workers", type=kinds.whole(1, 1024), default=1, metavar="N",
                     help="how many ComfyUIs work at once; more than one run on Ray Data (default: 1)")
    run.add_argument("--gpus-per-worker", type=part, metavar="X",
                     help="GPUs of each worker; 0.5 lets two share one (default: 1 where there is a GPU)")
    run.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster to join, or auto for the one that is "
                     "running here; all its machines must see source, output and this folder at the same places")
    run.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N",
                     help="do only every N-th part, beginning with the I-th: for array jobs without Ray")
    run.add_argument("--review", action="store_true",
                     help="also list the pictures that a person should look at, for `run.py review`")
    run.add_argument("--dry-run", action="store_true",
                     help="count, try a few pictures without keeping anything, and say how long all will take")
    run.add_argument("--check-wiring", action="store_true",
                     help="use small untrained networks that are made here: shows that everything runs; what is "
                     "painted is noise")
    kinds.add_comfyui(run)
    review = commands.add_parser(
        "review", allow_abbrev=False, help="look at the pictures of a run that need it, and decide",
        description="Serve a page on this machine alone that shows original and result of every picture in the list "
        "of `anonymize --review`, and notes what you decide. The next run of anonymize applies it.")
    review.add_argument("output", type=kinds.path, metavar="DIR", help="the output folder of a run")
    review.add_argument("--port", type=kinds.whole(0, 65535), default=0, metavar="N",
                        help="of the page (default: a free one)")
    kinds.add_comfyui(review)


def size(text: str) -> int | str:
    """A batch size, or "auto"."""
    return text if text == "auto" else kinds.whole(1, 64)(text)


def names(text: str) -> list[str]:
    """Names, separated by commas."""
    found = [name.strip().lstrip(".") for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"must be names separated by commas, such as txt,cls, not {text!r}")
    return found


def part(text: str) -> float:
    """GPUs of a worker: a whole number, or a part of one."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (0 <= number <= 8 and (number <= 1 or number == int(number))):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, or a whole one up to 8, not {text!r}")
    return number


def shard(text: str) -> tuple[int, int]:
    """A part of a run, I/N, counted from 1."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last) <= 100_000):
        raise argparse.ArgumentTypeError(f"must be I/N, such as 1/8 to 8/8, not {text!r}")
    return int(first), int(last)


def check(options: argparse.Namespace) -> None:
    """What can be said before an environment is built. Raises CamouflageError."""
    if options.command == "review":
        if not (options.output / "_camouflage" / "run.json").is_file():
            raise CamouflageError(f"{options.output} is not the output of a run of anonymize.")
        return
    for path in options.inputs:
        if not path.exists():
            raise CamouflageError(f"There is no {path}. Name photos, a folder, a list of paths (.txt), tar shards or "
                                  "parquet files.")
    if options.workflow and options.pipeline != "auto":
        raise CamouflageError("--pipeline and --workflow exclude each other.")
    if options.input and not options.workflow:
        raise CamouflageError("--input is for a --workflow of your own.")
    if options.shard != (1, 1) and (options.workers > 1 or options.address):
        raise CamouflageError("--shard is for runs without Ray: leave out --workers and --address.")
    for pack in options.pack:
        if not pack.is_dir():
            raise CamouflageError(f"--pack must name a folder of custom nodes; there is no folder {pack}.")
    if options.workflow and not options.workflow.is_file():
        raise CamouflageError(f"There is no workflow {options.workflow}.")


def group(options: argparse.Namespace) -> str:
    """The environment: with Ray for several workers, with pyarrow (which Ray Data brings) for parquet files."""
    if options.command == "review":
        return "batch" if _form(options.output) == "parquet" else "base"
    if options.workers > 1 or options.address or any(map(_tables, options.inputs)):
        return "batch"
    return "base"


def _tables(path: Path) -> bool:
    if path.is_dir():
        return any(entry.name.lower().endswith(TABLES) for entry in path.iterdir())
    return path.name.lower().endswith(TABLES)


def _form(output: Path) -> Sequence[str] | str:
    try:
        return json.loads((output / "_camouflage" / "run.json").read_text(encoding="utf-8"))["source"]["form"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
