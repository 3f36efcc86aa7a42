"""Miniature weights: seeded random networks in the published layouts, for tests and for the demo.

No real weights are at hand in either place, yet the stock loaders and the pack's own loading code shall run as they
are. So this builder fills a host's ``models`` tree with files of the registry's names and the published layouts.
Product code knows nothing of it; what it knows is ``SHA256SUMS``, in which an administrator vouches for files that
differ from the published ones, and such a file is written here too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from camouflage import weights

_SUMS = "camouflage/SHA256SUMS"


def ensure(cache: Path, seed: int = 0, report: Callable[[str], None] = print) -> Path:
    """Build the miniature weights unless they are there already.

    Args:
        cache: folder for everything that is built once; it is made if need be.
        seed: the same seed gives the same bytes.
        report: gets a line for every step of building, none if there is nothing to build.

    Returns:
        ``<cache>/miniature-<digest>/models``; the digest changes with the seed, this builder and the registry's files.
        The folder appears whole or not at all, also when two processes build at once.
    """
    folder = cache / f"miniature-{_digest(seed)}"
    if folder.is_dir():
        return folder / "models"
    temporary = cache / f".{folder.name}-{os.getpid()}"
    try:
        _build(temporary / "models", seed, report)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster: its files are the same
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / "models"


def _digest(seed: int) -> str:
    """Twelve hex digits over everything that decides about the bytes: this builder, and the registry's files."""
    files = [(weight.role, weight.path, weight.sha256 is None) for weight in weights.REGISTRY]
    digest = hashlib.sha256(repr((seed, files)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _build(models: Path, seed: int, report: Callable[[str], None]) -> None:
    # Imported late: these bring torch, transformers and controlnet_aux, and later calls of `ensure` do without.
    import torch

    from . import annotators, diffusion, faces, light, loras, pose, recognition

    builders = (
        diffusion.checkpoint, diffusion.vae, diffusion.controlnets, annotators.depth, annotators.normal,
        annotators.segmentation, pose.pose, annotators.bodies, annotators.lineart, annotators.caption, faces.faces,
        light.light, recognition.recognition, diffusion.negative_embedding, loras.few_step_loras,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # constructors of models draw from the caller's random numbers
        for builder in builders:
            report(f"miniature weights: {builder.__name__}")
            builder(models, seed)
    write_sums(models)
    size = sum(path.stat().st_size for path in models.rglob("*") if path.is_file())
    report(f"miniature weights: {size / 1e9:.2f} GB")


def write_sums(models: Path) -> None:
    """Write SHA256SUMS, in the format of ``sha256sum``, for the files that are not loaded on their name alone.

    These are the files whose published digest the registry knows, and TorchScript, which is a program.
    """
    lines = []
    for weight in weights.REGISTRY:
        if weight.sha256 is not None or "jit" in weight.file:
            digest = hashlib.sha256((models / weight.path).read_bytes()).hexdigest()
            lines.append(f"{digest}  {os.path.relpath(models / weight.path, (models / _SUMS).parent)}\n")
    (models / _SUMS).write_text("".join(lines), encoding="utf-8")
