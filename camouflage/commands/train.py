"""The commands of the training: ``prepare``, ``light``, ``identity``, ``export``, ``import`` and ``cost``.

Nothing but the standard library is imported before the arguments are known to be good, so that --help and mistakes
take no time and no environment.
"""

from __future__ import annotations

import argparse
import importlib
import os
import textwrap
from pathlib import Path

from ..errors import CamouflageError
from ..files import ROOT
from ..training import config
from . import arguments as kinds

COMMANDS = ("prepare", "light", "identity", "export", "import", "cost")
_MODULES = {"import": "imported"}  # where it is not the command's name, which Python keeps for itself
LARGEST = 1024  # px of the longer side; SD 1.5 knows 512, the paper uses 768
STEP = 64  # px, that the Light adapter's map divides by


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Gives a parser the commands; which one was chosen is ``training`` in what it parses."""
    commands = parser.add_subparsers(dest="training", required=True, metavar="|".join(COMMANDS))

    def command(name: str, help: str, description: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, allow_abbrev=False, help=help, description=textwrap.fill(description, 79),
                                   formatter_class=argparse.RawDescriptionHelpFormatter,
                                   epilog=f"example:\n  %(prog)s {example}")

    _prepare(command("prepare", "make a dataset of photos", "Make a dataset of one or more folders of photos: VAE "
                     "latents, captions, CLIP embeddings, and faces with attributes and keypoints, all with the code "
                     "that the nodes use. If it is stopped, the same command continues; a damaged picture is "
                     "listed and left out. The dataset holds what identifies the persons: keep it as private as the "
                     "photos.", "photos --dataset faces-768"))
    _train(command("light", "train the Light adapter", "Train the Light adapter, which reads the attribute map, and "
                   "with --config light-authors.yaml the image prompt together with it, as the authors do. The "
                   "base model is frozen. Started again with the same folder it goes on from the last checkpoint, to "
                   "the bit. camouflage/training/configs/light.yaml explains every setting. Losses and validation "
                   "pictures: tensorboard --logdir DIR.",
                   "--dataset faces-768 --output runs/light --set batch_size=4 accumulation=2"), image_prompt=True)
    _train(command("identity", "train the identity control", "Train the identity control, a ControlNet that reads the "
                   "original's VAE encoding and reconstructs it; the guidance then leads away from it. The base model "
                   "is frozen. Started again with the same folder it goes on from the last checkpoint, to the bit. "
                   "camouflage/training/configs/identity.yaml explains every setting. Losses and validation pictures: "
                   "tensorboard --logdir DIR.", "--dataset faces-768 --output runs/identity"), image_prompt=False)
    _export(command("export", "write a file that the nodes load", "Write what a run has trained to one file: a Light "
                    "adapter for the node Load Light Adapter, or an identity control for ComfyUI's Load ControlNet "
                    "Model. What it was trained on, and how, is in its metadata.",
                    "runs/light --output camouflage-light.safetensors --licence CC-BY-4.0"))
    _import(command("import", "take over the authors' checkpoint", "Turn the authors' checkpoint of Light, a .bin with "
                    "image_proj, ip_adapter and t2i_adapter, into the two safetensors files that Load Light Adapter "
                    "and Load Image Prompt load. No code in it is executed, its shapes are checked, and its tensors "
                    "say the same afterwards.", "camouflage.bin --output imported"))
    _cost(command("cost", "what a training takes", "Print parameters, floating-point operations and memory of both "
                  "trainings at full size. Computed from the shapes of the networks: no weights, photos or graphics "
                  "card are needed.", "--resolution 512 768 --batch-size 8"))
    for made in commands.choices.values():
        kinds.add_comfyui(made)


def _prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=kinds.path, metavar="FOLDER",
                        help="folder of photos (JPEG, PNG, WebP), including its subfolders")
    parser.add_argument("--dataset", type=kinds.path, required=True, metavar="DIR",
                        help="folder for the dataset; made if it is missing, continued if it exists")
    parser.add_argument("--resolution", type=kinds.whole(STEP, LARGEST, STEP), metavar="PX",
                        help=f"the longer side of the pictures; the other follows from their aspect ratio, rounded to "
                        f"{STEP}. A multiple of {STEP} up to {LARGEST} (default: prepare.resolution of the settings, "
                        "768, the paper's)")
    _settings(parser)
    parser.add_argument("--vae", type=kinds.path, metavar="FILE", help="the VAE (default: ft-MSE, the paper's, in the "
                        "models folders)")
    parser.add_argument("--image-encoder", type=kinds.path, metavar="FILE",
                        help="the image encoder of the image prompt (default: CLIP ViT-H/14, or FaRL where "
                        "prepare.image asks for it, in the models folders)")
    parser.add_argument("--caption-model", metavar="NAME",
                        help="folder in models/camouflage/caption with a BLIP model (default: the node's)")
    parser.add_argument("--num-shards", type=kinds.whole(1, 99_999), default=1, metavar="N",
                        help="how many machines or processes share the work; each has its own --shard (default: 1)")
    parser.add_argument("--shard", type=kinds.whole(0, 99_998), default=0, metavar="K",
                        help="which part this one does, 0 to N - 1 (default: 0)")
    parser.add_argument("--smallest-side", type=kinds.whole(1, 65536), default=256, metavar="PX",
                        help="photos with a side shorter than this are left out: enlarged ones teach blur (default: "
                        "256)")
    parser.add_argument("--threshold", type=kinds.threshold, default=0.5, metavar="SCORE",
                        help="least score of a face, 0.05 to 0.99, as in the node Face Attributes (default: 0.5)")
    parser.add_argument("--smallest-face", type=kinds.whole(0, 4096), default=0, metavar="PX",
                        help="faces whose box has a shorter side are left out, 0 to 4096, as in the node Face "
                        "Attributes (default: 0, none)")
    parser.add_argument("--landmarks", action="store_true", help="read 68 landmarks of each face, too; needed for "
                        "map.region=landmarks, slower")
    parser.add_argument("--no-sidecars", dest="sidecars", action="store_false",
                        help="do not read what is beside a photo.jpg: photo.txt, its caption, and "
                        "photo.faces.json, its faces")
    _places(parser)


def _train(parser: argparse.ArgumentParser, image_prompt: bool) -> None:
    parser.add_argument("--dataset", type=kinds.path, required=True, metavar="DIR", help="what `prepare` made")
    parser.add_argument("--output", type=kinds.path, required=True, metavar="DIR",
                        help="folder of the run: checkpoints and logs; continued if it exists")
    _settings(parser)
    if image_prompt:
        parser.add_argument("--image-prompt", type=kinds.path, metavar="FILE", help="the IP-Adapter (default: "
                            "ip-adapter_sd15.safetensors in the models folders)")
    parser.add_argument("--vae", type=kinds.path, metavar="FILE",
                        help="the VAE that validation pictures are decoded with "
                        "(default: ft-MSE, the paper's, in the models folders)")
    parser.add_argument("--processes", type=kinds.whole(1, 1024), default=1, metavar="N",
                        help="train with N processes on this machine, each on a GPU of its own (default: 1). On "
                        "several machines start `accelerate launch ... run.py train ...` yourself")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU even if there is a GPU")
    _places(parser)


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=kinds.path, metavar="FILE",
                        help="settings, YAML, or the name of a shipped file, such as light-authors.yaml (default: the "
                        "shipped file of this training)")
    parser.add_argument("--set", type=kinds.setting, nargs="+", action="extend", default=[], metavar="NAME=VALUE",
                        help="single settings, which replace the file's; may be given several times")


def _places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-model", type=kinds.path, metavar="FILE",
                        help="the SD 1.5 checkpoint (default: Realistic "
                        "Vision V5.1, the paper's, in the models folders)")
    parser.add_argument("--models", type=kinds.path, action="append", default=[], metavar="DIR",
                        help="a models folder (with checkpoints/, vae/, camouflage/, ...) to search before ComfyUI's "
                        "own; may be given several times")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=kinds.path, metavar="RUN_DIR_OR_CHECKPOINT",
                        help="a run's folder (the --output of a training), or one of its checkpoints")
    parser.add_argument("--output", type=kinds.file_with(".safetensors"), required=True, metavar="FILE.safetensors",
                        help="the file")
    parser.add_argument("--step", type=kinds.whole(1, config.MANY), metavar="N",
                        help="the checkpoint of this step (default: the newest)")
    parser.add_argument("--no-ema", dest="weights", action="store_const", const="raw", default="ema",
                        help="write the last weights in place of their moving average")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32",
                        help="number format; float16 halves the file size and rounds the weights (default: float32)")
    parser.add_argument("--licence", default="", metavar="TEXT", help="for the metadata: under which licence the file "
                        "may be used, such as CC-BY-4.0; the licences of the photos and the base model must allow it")


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=kinds.path, metavar="FILE.bin", help="the authors' checkpoint")
    parser.add_argument("--output", type=kinds.path, required=True, metavar="DIR",
                        help="folder for the two files; made if it is missing")
    parser.add_argument("--licence", default="", metavar="TEXT", help="for the metadata: under which licence the file "
                        "may be used")


def _cost(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resolution", type=kinds.whole(STEP, LARGEST, STEP), nargs="+", default=[512, 768],
                        metavar="PX",
                        help=f"sides of square pictures, multiples of {STEP} up to {LARGEST} (default: 512 768)")
    parser.add_argument("--batch-size", type=kinds.whole(1, 4096), default=8, metavar="N",
                        help="pictures at once (default: 8)")


def check(options: argparse.Namespace) -> None:
    """Finds mistakes before anything heavy is loaded. Raises CamouflageError."""
    given = vars(options)
    for name in ("base_model", "vae", "image_encoder", "image_prompt", "config"):
        path = given.get(name)
        if path and name == "config":
            path = config.shipped(path)
        if path and not path.is_file():
            raise CamouflageError(f"--{name.replace('_', '-')} must be a file, but {path} "
                                  f"{'is a folder' if path.is_dir() else 'does not exist'}.")
        if path and name in ("base_model", "image_prompt") and path.suffix.lower() != ".safetensors":
            raise CamouflageError(f"--{name.replace('_', '-')} must be a .safetensors file, but got {path}: others can "
                                  "contain code, and the training does not load them.")
    for name, paths in (("FOLDER", given.get("folders", ())), ("--models", given.get("models", ()))):
        for path in paths:
            if not path.is_dir():
                raise CamouflageError(f"{name} must be a folder, but {path} "
                                      f"{'is a file' if path.exists() else 'does not exist'}.")
    if options.training == "prepare":
        if options.shard >= options.num_shards:
            raise CamouflageError(f"--shard counts from 0, so with --num-shards {options.num_shards} it is at most "
                                  f"{options.num_shards - 1}, but got {options.shard}.")
        _folder_to_be(options.dataset, "--dataset")
    if options.training in config.KINDS:
        if not options.dataset.is_dir():
            raise CamouflageError(f"There is no dataset {options.dataset}. Make one: python run.py train prepare "
                                  f"FOLDER --dataset {options.dataset}")
        _folder_to_be(options.output, "--output")
    if options.training == "import":
        if not options.file.is_file():
            raise CamouflageError(f"FILE.bin must be a file, but {options.file} "
                                  f"{'is a folder' if options.file.is_dir() else 'does not exist'}.")
        _folder_to_be(options.output, "--output")
    if options.training == "export":
        if not options.run.is_dir():
            raise CamouflageError(f"There is no run and no checkpoint {options.run}. Name the --output folder of a "
                                  "training.")
        if not options.output.parent.is_dir():
            raise CamouflageError(f"There is no folder {options.output.parent}. Make it, or name another place with "
                                  "--output.")


def _folder_to_be(path: Path, name: str) -> None:
    if path.exists() and not path.is_dir():
        raise CamouflageError(f"{name} must be a folder, but {path} is a file. Name another place.")


def launched() -> bool:
    """Whether this process is one of several that a launcher has started."""
    return "WORLD_SIZE" in os.environ or "LOCAL_RANK" in os.environ


def launch(options: argparse.Namespace) -> int:
    """Start this command in several processes with accelerate, and wait for them.

    Returns:
        The exit code of the process that failed first, or 0.
    """
    import torch
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not options.cpu and torch.cuda.is_available() and torch.cuda.device_count() < options.processes:
        raise CamouflageError(f"--processes {options.processes} needs as many GPUs, but this machine has "
                              f"{torch.cuda.device_count()}. Name fewer; --set accumulation=N has the same effect.")
    if options.cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // options.processes))
    # Everything that accelerate would otherwise ask its own configuration for. --multi_gpu is its name for several
    # processes of whatever kind: with --cpu it starts a single one.
    flags = ["--multi_gpu", "--num_processes", str(options.processes), "--num_machines", "1",
             "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no",
             "--num_cpu_threads_per_process", threads]
    script = str(ROOT / "run.py")
    try:
        launch_command(launch_command_parser().parse_args([*flags, script, *options.arguments]))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 1
    except SignalException as stop:
        return 128 + stop.sigval
    return 0


def main(options: argparse.Namespace) -> int:
    """Run a command; gives its exit code."""
    if options.training in config.KINDS:
        config.load(options.training, options.config, options.set)  # mistakes show now, and once
        if options.processes > 1 and not launched():
            return launch(options)
    if options.training == "prepare":
        config.load("light", options.config, options.set)  # mistakes show now
    module = _MODULES.get(options.training, options.training)
    return importlib.import_module(f"..training.{module}", __package__).main(options) or 0
