"""``python run.py COMMAND``: the command line, and the way from any Python to the environment of the command.

Standard library only. The process that a person starts builds the environment if need be and starts the same command
line again with its Python; that second process comes to the same place, finds itself at home, and runs the command.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from ..errors import CamouflageError
from ..verification.names import RECOGNISERS
from . import arguments as kinds
from . import environments, runs, studies, train
from . import weights as weight_files

HANDED_OVER = "CAMOUFLAGE_HANDED_OVER"  # to which environment, for the process that is started in it


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="run.py", description="CAMOUFLaGE: anonymize pictures, see it work, "
                                     "calibrate its check, fetch or train what it needs, or test it. Each command but "
                                     "weights makes its own environment in a cache folder (CAMOUFLAGE_CACHE moves "
                                     "it).")
    commands = parser.add_subparsers(dest="command", required=True,
                                     metavar="anonymize|review|evaluate|experiment|weights|demo|calibrate|train|test")
    runs.add_commands(commands)
    studies.add_commands(commands)
    weight_files.add_command(commands)
    demo = commands.add_parser("demo", allow_abbrev=False, help="anonymize a photo in a real ComfyUI",
                               description="Send a photo through a shipped workflow in a real ComfyUI, print a verdict "
                               "for every person, and write the original, what the pipeline saw in it, the anonymized "
                               "picture with its manifest, the report and a contact sheet to a new folder.")
    demo.add_argument("photo", nargs="?", type=kinds.path, metavar="PHOTO",
                      help="a picture file (default: NASA's public-domain portrait of Eileen Collins)")
    demo.add_argument("--pipeline", choices=("auto", "base", "base_few_steps", "base_commercial", "light",
                                             "light_public", "redact", "both", "all"),
                      default="auto", help="which workflow. redact only covers the heads and needs no weights; "
                      "base_few_steps is base in 8 model calls, with a few-step LoRA; base_commercial is base "
                      "with weights that a company may use; light_public is light with downloads alone, and light "
                      "falls back to it; both is base and light, all is base, light and redact; auto is base, else "
                      "light or light_public, where their weights and a GPU are there, else redact (default: auto)")
    weights = demo.add_mutually_exclusive_group()
    weights.add_argument("--weights", choices=("miniature", "installed"), default="installed",
                         help="installed: the real ones in ComfyUI's models folders; miniature: see --check-wiring "
                         "(default: installed)")
    weights.add_argument("--check-wiring", dest="weights", action="store_const", const="miniature",
                         help="the same as --weights miniature: run base, light and redact, or the --pipeline that is "
                         "given and redact, with small untrained networks made here. This shows that everything runs; "
                         "what it paints is noise, not a result")
    demo.add_argument("--output", type=kinds.path, default=kinds.path("camouflage-demo"), metavar="DIR",
                      help="folder for the results; a number is added if it exists (default: ./camouflage-demo)")
    demo.add_argument("--seed", type=kinds.whole(0, 2**64 - 1), default=0, metavar="N",
                      help="seed of the noise (default: 0)")
    demo.add_argument("--size", type=kinds.whole(64, 4096), metavar="PX",
                      help="working size (default: 256 with miniature weights, else the workflow's)")
    demo.add_argument("--steps", type=kinds.whole(1, 1000), metavar="N",
                      help="sampling steps (default: 4 with miniature weights, else the workflow's)")
    calibrate = commands.add_parser("calibrate", allow_abbrev=False, help="measure thresholds of the face recogniser",
                                    description="Compare all faces in a folder of photos, one sub-folder a person, and "
                                    "write the thresholds at false-accept rates of 0.1 to 0.0001, as far as the "
                                    "number of pairs allows, to a small JSON file for the node Load Calibration. "
                                    "It holds no names, pictures or embeddings.")
    calibrate.add_argument("folder", type=kinds.path, metavar="FOLDER",
                           help="a sub-folder for every person, with photos in "
                           "it that show their face and no other")
    calibrate.add_argument("--output", type=kinds.file_with(".json"), default=kinds.path("calibration.json"),
                           metavar="FILE",
                           help="the JSON; a number is added if it exists (default: ./calibration.json)")
    calibrate.add_argument("--plot", type=kinds.file_with(".png"), metavar="FILE",
                           help="also draw the curve of detection error trade-off (DET) as PNG")
    calibrate.add_argument("--recogniser", choices=RECOGNISERS, default=RECOGNISERS[0],
                           help=f"what compares the faces; SFace needs its files in ComfyUI's models (default: "
                           f"{RECOGNISERS[0]})")
    training = commands.add_parser("train", allow_abbrev=False, help="train the Light adapter or the identity control",
                                description="Prepare photos, train on them and export what was trained: prepare, then "
                                "light or identity, then export. cost says beforehand what a training takes. Each has "
                                "a --help of its own.")
    train.add_commands(training)
    test = commands.add_parser("test", allow_abbrev=False, help="run ruff, pyright and the test suite",
                               usage="run.py test [-h] [--comfyui PATH] [--all] [pytest arguments ...]",
                               description="Run ruff, pyright and pytest. Of long tables of cases a seeded part is "
                               "taken, and long tests are left out, unless --all is among the arguments. "
                               "Further arguments go to pytest.")
    for command in (demo, calibrate, test):
        kinds.add_comfyui(command)
    return parser


def check(options: argparse.Namespace) -> None:
    """What can be said before an environment is built. Raises CamouflageError."""
    if options.command == "demo" and options.photo and not options.photo.is_file():
        raise CamouflageError(f"There is no photo {options.photo}. Name a picture file (PNG, JPEG, WebP, ...).")
    if options.command == "calibrate" and not options.folder.is_dir():
        raise CamouflageError(f"There is no folder {options.folder}. Name one that has a sub-folder with photos for "
                              "every person.")
    if options.command in ("anonymize", "review"):
        runs.check(options)
    if options.command in ("evaluate", "experiment"):
        studies.check(options)
    if options.command == "train":
        train.check(options)


def group(options: argparse.Namespace) -> str:
    """The environment of a command, see :data:`environments.REQUIREMENTS`."""
    if options.command in ("anonymize", "review"):
        return runs.group(options)
    if options.command in ("evaluate", "experiment"):
        return studies.group(options)
    return {"train": "train", "test": "test"}.get(options.command, "base")


def run(options: argparse.Namespace) -> int:
    """Run a command in its environment, which is built if need be."""
    check(options)
    if options.command == "weights":  # any Python will do
        with signals_end_in_order():
            return weight_files.main(options)
    # Whoever has started several processes has chosen their Python, too.
    cache, host, venv = environments.prepare(options.comfyui, None if train.launched() else group(options))
    # Processes that are started from here on find the same host, wherever they lie and run.
    os.environ.update(CAMOUFLAGE_CACHE=str(cache), COMFYUI_PATH=str(host), CAMOUFLAGE_COMFYUI=str(host))
    came_from = os.environ.pop(HANDED_OVER, None)
    if Path(sys.prefix).resolve() != venv.resolve():
        if came_from == str(venv):  # for ever otherwise
            raise CamouflageError(f"The Python of the environment {venv} runs in {sys.prefix} instead. Is PYTHONHOME "
                                  "set? Unset it; if that is not the cause, delete the environment's folder.")
        os.environ[HANDED_OVER] = str(venv)
        return environments.hand_over(venv, options.arguments)
    command = importlib.import_module(f".{options.command}", __package__)
    with signals_end_in_order(), warnings.catch_warnings():  # what a command changes ends with it
        return command.main(options) or 0


@contextlib.contextmanager
def signals_end_in_order() -> Iterator[None]:
    """Inside, a closing terminal or a polite kill runs the cleanup as Ctrl-C does; the handlers before come back."""
    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, leave) for number in known}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # None: not set by Python


def main(arguments: Sequence[str] | None = None) -> int:
    """The one place where a command begins and ends.

    Returns:
        0 if all is well, 2 if the person has to do something and 1 if ComfyUI failed (either is printed, without a
        traceback), 130 for Ctrl-C, else what the command gives.
    """
    parser = make_parser()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options, options.rest = parser.parse_known_args(arguments)
    options.arguments = arguments
    if options.rest and options.command != "test":
        part = {"train": "training", "weights": "action"}.get(options.command)
        name = f"{options.command} {getattr(options, part)}" if part else options.command
        parser.error(f"unknown arguments: {' '.join(options.rest)} (see run.py {name} --help)")
    try:
        return run(options)
    except CamouflageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
