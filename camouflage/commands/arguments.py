"""Kinds of command line arguments. Each refuses bad values with a sentence that says what it must be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def path(text: str) -> Path:
    """A path, absolute, so that it stays right wherever the work is done."""
    return Path(text).expanduser().absolute()


def file_with(suffix: str) -> Callable[[str], Path]:
    """A path that ends in ``suffix``."""
    def parse(text: str) -> Path:
        if not text.lower().endswith(suffix):
            raise argparse.ArgumentTypeError(f"must end in {suffix}, not {text!r}")
        return path(text)
    return parse


def whole(least: int, most: int, step: int = 1) -> Callable[[str], int]:
    """A whole number in a range, both ends included, divisible by ``step``."""
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most and int(text) % step == 0):
            what = "a whole number" if step == 1 else f"a multiple of {step}"
            raise argparse.ArgumentTypeError(f"must be {what} from {least} to {most}, not {text!r}")
        return int(text)
    return parse


def setting(text: str) -> str:
    """A setting of a training, NAME=VALUE."""
    name, equals, _ = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, such as optimizer.learning_rate=2e-5, not {text!r}")
    return text


def widget(text: str) -> tuple[str, str]:
    """A widget's value, NODE.WIDGET=VALUE."""
    name, equals, given = text.partition("=")
    if not (equals and "." in name.strip(".")):
        raise argparse.ArgumentTypeError(f"must be NODE.WIDGET=VALUE, such as 'Anonymized.format=JPEG', not {text!r}")
    return name, given


def threshold(text: str) -> float:
    """A detector's score, as the node Face Attributes takes it."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.05 <= value <= 0.99:
        raise argparse.ArgumentTypeError(f"must be a number from 0.05 to 0.99, not {text!r}")
    return value


def add_comfyui(parser: argparse.ArgumentParser) -> None:
    """The option ``--comfyui``, which every command has."""
    parser.add_argument("--comfyui", type=path, metavar="PATH", help="ComfyUI folder to use (default: COMFYUI_PATH, "
                        "else the ComfyUI that this pack lies in, else one from the package index)")
