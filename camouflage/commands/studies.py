"""The command line of ``evaluate`` and ``experiment``. Standard library only."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..files import ROOT
from . import arguments as kinds

PROTOCOLS = ("pairs", "gallery", "folder", "paper")
LAYOUTS = ("plain", "lfw", "celeba-hq", "ffhq", "wider")
KINDS = ("arcface", "cosface", "adaface", "facenet")
READINGS = ("attributes", "captions", "maps")


def add_commands(commands: Any) -> None:
    """Both commands."""
    run = commands.add_parser(
        "evaluate", allow_abbrev=False, help="measure how well anonymized pictures protect and what they keep",
        description="Compare anonymized pictures with their originals as an attacker would, and write one JSON, one "
        "HTML page and plots. Faces are found in each picture by itself; lost faces never count as protected. "
        "Embeddings are kept in a private folder until the end, and never published.")
    run.add_argument("--original", type=kinds.path, required=True, metavar="DIR", help="folder of the originals")
    run.add_argument("--anonymized", type=kinds.path, required=True, metavar="DIR",
                     help="folder of the anonymized pictures, under the same paths; or the output of anonymize")
    run.add_argument("--output", type=kinds.path, required=True, metavar="DIR", help="folder for the results")
    run.add_argument("--identities", type=kinds.path, metavar="FILE",
                     help="CSV with the columns file (below --original) and identity")
    run.add_argument("--protocol", choices=PROTOCOLS,
                     help="pairs: the attacker has the very photo; gallery: other photos of the person, who must be "
                     "named; folder: every face is a person; paper: pairs, and the authors' own numbers beside "
                     "(default: gallery if --identities names somebody twice, else pairs)")
    run.add_argument("--recogniser", type=recogniser, action="append", default=[], metavar="NAME",
                     help="what compares faces: dlib, sface (its files must be in ComfyUI's models), or KIND:FILE.onnx "
                     f"with the kind {', '.join(KINDS)}; may be given several times (default: dlib)")
    run.add_argument("--read", choices=READINGS, action="append", default=[],
                     help="also compare what networks of ComfyUI's models read before and after: attributes (FACER), "
                     "captions (BLIP), maps (segmentation and depth); may be given several times")
    run.add_argument("--attribute-network", type=kinds.path, metavar="DIR",
                     help="also compare attributes as a second network reads them: a local folder of a transformers "
                     "image classification model whose labels are CelebA's 40")
    run.add_argument("--person-detector", type=kinds.path, metavar="DIR",
                     help="also look for the same persons in the same places: a local folder of a transformers object "
                     "detection model with a label person")
    run.add_argument("--text-encoder", type=kinds.path, metavar="DIR",
                     help="with --read captions, also compare their meaning: a local folder of a transformers CLIP "
                     "model with its tokenizer")
    run.add_argument("--attacks", action="store_true",
                     help="also train attackers on the pictures of some persons and test them on the others: "
                     "recognisers, and a network that undoes the method. Takes minutes, and at least 12 persons")
    run.add_argument("--lpips", type=kinds.path, metavar="FILE",
                     help="also measure LPIPS, with torchvision's AlexNet weights (alexnet-owt-7be5be79.pth)")
    run.add_argument("--inception", type=kinds.path, metavar="FILE",
                     help="also measure FID and KID, with torch-fidelity's weights "
                     "(weights-inception-2015-12-05-6726825d.pth)")
    run.add_argument("--force-fid", action="store_true",
                     help="state FID for fewer than 2,048 pictures, too; it is marked then")
    run.add_argument("--hifd", action="store_true", help="also write predictions for the scoring core of HiFD (package "
                     "hifd), without embeddings, into a folder hifd")
    run.add_argument("--show-nearest", type=kinds.whole(1, 500), default=0, metavar="N",
                     help="also write nearest.png: the N faces that are nearest to their original, beside it. It shows "
                     "originals: keep it to yourself")
    kinds.add_comfyui(run)
    add_experiment(commands)


def add_experiment(commands: Any) -> None:
    """The command ``experiment``."""
    run = commands.add_parser(
        "experiment", allow_abbrev=False, help="compare ways to anonymize on your photos",
        description="Run an experiment: anonymize photos in several ways, evaluate each before any policy and after "
        "it, and write tables and plots. The pictures lie in a private folder that is deleted in the end. The same "
        "command again goes on where it was stopped.")
    run.add_argument("experiment", metavar="NAME|FILE", help="one of the folder experiments/, or a YAML file of yours")
    run.add_argument("--photos", type=kinds.path, required=True, metavar="DIR", help="folder of photos")
    run.add_argument("--output", type=kinds.path, required=True, metavar="DIR", help="folder for the results")
    run.add_argument("--identities", type=kinds.path, metavar="FILE",
                     help="CSV with the columns file (below --photos) and identity")
    run.add_argument("--layout", choices=LAYOUTS, default="plain",
                     help="of --photos, instead of --identities: lfw (a folder for each person), celeba-hq (by "
                     "identity_CelebA.txt and CelebA-HQ-to-CelebA-mapping.txt, in the folder or above it), ffhq, wider "
                     "(nobody is named) or plain (default)")
    run.add_argument("--limit", type=kinds.whole(1, 10**9), metavar="N", help="take only the first N photos")
    run.add_argument("--seed", type=kinds.whole(0, 2**64 - 1), default=0, metavar="N",
                     help="of the noise; every way has the same for one photo (default: 0)")
    run.add_argument("--set", type=kinds.widget, action="append", default=[], metavar="NODE.WIDGET=VALUE",
                     help="change a widget in every way, such as 'Steps.steps=10'; may be given several times")
    run.add_argument("--check-wiring", action="store_true",
                     help="paint with small untrained networks made here: it shows that everything runs, and nothing "
                     "else")
    run.add_argument("--recogniser", type=recogniser, action="append", default=[], metavar="NAME",
                     help="as of evaluate (default: dlib)")
    run.add_argument("--keep-unverified", action="store_true",
                     help="leave the pictures where they are. They may show anybody: they are for your eyes")
    kinds.add_comfyui(run)


def experiment_file(name: str) -> Path:
    """The file of an experiment. Raises CamouflageError."""
    own = ROOT / "experiments" / f"{name}.yaml"
    file = own if own.is_file() else kinds.path(name)
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in own.parent.glob("*.yaml")))
        raise CamouflageError(f"There is no experiment {name}. Name one of {known}, or a YAML file.")
    return file


def recogniser(text: str) -> tuple[str, Path | None]:
    """A recogniser: its name or kind, and its file if it has one of its own."""
    kind, colon, file = text.partition(":")
    if (not colon and kind in ("dlib", "sface")) or (colon and kind in KINDS and file.lower().endswith(".onnx")):
        return kind, kinds.path(file) if colon else None
    raise argparse.ArgumentTypeError(f"must be dlib, sface or KIND:FILE.onnx with a kind of {', '.join(KINDS)}, not "
                                     f"{text!r}")


def check(options: argparse.Namespace) -> None:
    """What can be said before an environment is built. Raises CamouflageError."""
    if options.command == "experiment":
        experiment_file(options.experiment)
        if not options.photos.is_dir():
            raise CamouflageError(f"There is no folder {options.photos}. Name the folder of the photos.")
        if options.photos == options.output or options.photos in options.output.parents:
            raise CamouflageError("The results would lie among the photos. Name another --output.")
        if options.identities and options.layout != "plain":
            raise CamouflageError("Who is who stands in --identities or in --layout. Name one of them.")
        return
    for path, what in ((options.original, "originals"), (options.anonymized, "anonymized pictures")):
        if not path.is_dir():
            raise CamouflageError(f"There is no folder {path}. Name the folder of the {what}.")
    if options.identities and not options.identities.is_file():
        raise CamouflageError(f"There is no file {options.identities}. Name a CSV with the columns file and identity.")
    for file, option in ((options.lpips, "--lpips"), (options.inception, "--inception")):
        if file and not file.is_file():
            raise CamouflageError(f"There is no file {file}. Name the weights that {option} takes; nothing is "
                                  "downloaded.")
    if options.force_fid and not options.inception:
        raise CamouflageError("--force-fid is for FID, which takes --inception FILE.")
    for folder, option in ((options.attribute_network, "--attribute-network"),
                           (options.person_detector, "--person-detector"), (options.text_encoder, "--text-encoder")):
        if folder and not (folder / "config.json").is_file():
            raise CamouflageError(f"{folder} is no folder of a transformers model: it must have config.json and "
                                  f"weights. Name the folder that {option} takes; nothing is downloaded.")
    if options.text_encoder and "captions" not in options.read:
        raise CamouflageError("--text-encoder compares captions: it takes --read captions.")
    for _, file in options.recogniser:
        if file and not file.is_file():
            raise CamouflageError(f"There is no recogniser {file}. Name an ONNX file.")
    inside = [path for path in (options.original, options.anonymized)
              if options.output == path or path in options.output.parents]
    if inside:
        raise CamouflageError(f"The results would lie among the pictures of {inside[0]}. Name another --output.")


def group(options: argparse.Namespace) -> str:
    """The environment: with further packages for LPIPS, FID, KID and captions."""
    further = options.command == "evaluate" and (options.lpips or options.inception or "captions" in options.read)
    return "evaluate" if further else "base"
