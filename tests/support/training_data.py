"""Data for the tests of training: drawn photos, small datasets without any network, options of `prepare`."""

from __future__ import annotations

import argparse
import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from camouflage.method.faces import ATTRIBUTES, Face, Picture
from camouflage.training.dataset import Dataset, DatasetInfo, Sample
from camouflage.training.shard_writer import ShardWriter
from camouflage.training.shards import CELL, TOKENS
from testing.drawn_faces import draw, write_folder

TEXT, IMAGE = 768, 768  # numbers in a token of the text, and in an image embedding (CLIP-L) or a hidden state (FaRL)
AUTHORS = Path("light-authors.yaml")  # the shipped settings of the authors' training
STATES = 5  # hidden states of a picture here; FaRL gives 197
FARL_STATES: dict[str, Any] = {"image": "FaRL states", "fit": "square", "image_shape": [STATES, IMAGE]}
"""What makes :func:`synthetic_info` that of a dataset for the authors' training."""


def drawn(folder: Path, count: int, seed: int = 0, size: int = 300, most: int = 3, sidecars: bool = True) -> list[Path]:
    """Square photos of drawn faces, PNG, JPEG and WebP in turn; without ``sidecars`` only these."""
    paths = write_folder(folder, count, seed, size, most)
    if not sidecars:
        for path in paths:
            path.with_suffix(".faces.json").unlink()
    return paths


def random_face(rng: random.Random, left: float, right: float, height: int) -> Face:
    """A face between two columns of the picture (px), with attributes that are all known."""
    side = 0.8 * min(right - left, height)
    x, y = rng.uniform(left, right - side), rng.uniform(0, height - side)
    points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    return Face((x, y, x + side, y + side), rng.uniform(0.5, 1), tuple((x + u * side, y + v * side) for u, v in points),
                attributes=tuple(rng.random() for _ in ATTRIBUTES))


def synthetic_info(seed: int = 0, **overrides: Any) -> DatasetInfo:
    """Settings as `prepare` would write them; what stands for no text and, where it is states, no picture is random."""
    rng, shape = torch.Generator().manual_seed(seed), overrides.get("image_shape", [IMAGE])
    empty, nothing = (torch.randn(size, generator=rng).half() for size in ((TOKENS, TEXT), shape))
    return DatasetInfo(**{"resolution": 64, "base_model": "a" * 64, "vae": "b" * 64, "image_encoder": "c" * 64,
                   "fit": "crop", "image": "CLIP embedding", "caption": {"model": "blip"}, "faces": {"threshold": 0.5},
                   "text_width": TEXT, "image_shape": shape, "empty_text": empty,
                   "empty_image": nothing if len(shape) == 2 else torch.zeros_like(nothing), **overrides})


def synthetic_sample(seed: int, latent: tuple[int, int] = (8, 8), persons: Sequence[int] = (1, 2, 3),
                     image: Sequence[int] = (IMAGE,)) -> Sample:
    """Normally distributed tensors that half precision holds exactly, and one of ``persons`` faces side by side."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    (h, w), count = latent, rng.choice(list(persons))
    width, height = CELL * w, CELL * h
    faces = tuple(random_face(rng, width * i / count, width * (i + 1) / count, height) for i in range(count))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).half().float()

    return Sample(f"{rng.getrandbits(128):032x}", normal(4, h, w), normal(TOKENS, TEXT), normal(*image),
                  f"picture {seed}", Picture(height, width, faces))


def synthetic_dataset(folder: Path, count: int, seed: int = 0, latent: tuple[int, int] = (8, 8),
                      persons: Sequence[int] = (1, 2, 3), **info: Any) -> Dataset:
    """A dataset of seeded random pictures, written by the real writer; picture i has the seed 1000 * seed + i."""
    said = synthetic_info(seed, **{"resolution": CELL * max(latent), **info})
    with ShardWriter(folder) as shard:
        shard.start(said)
        for i in range(count):
            shard.add(synthetic_sample(1000 * seed + i, latent, persons, said.image_shape))
    return Dataset.open(folder)


@contextlib.contextmanager
def restored_model_folders() -> Iterator[None]:
    """Undoes what is added to the host's model folders in between: other tests have folders of their own."""
    import folder_paths

    before = {key: (list(paths), set(ends)) for key, (paths, ends) in folder_paths.folder_names_and_paths.items()}
    try:
        yield
    finally:
        folder_paths.folder_names_and_paths.clear()
        folder_paths.folder_names_and_paths.update(before)
        folder_paths.filename_list_cache.clear()


def write_latents(folder: Path, latents: torch.Tensor, seed: int = 0, **info: Any) -> Dataset:
    """A dataset of given latents (N x 4 x h x w) and their drawn persons; picture i is that of drawn_latents."""
    said = synthetic_info(seed, **info)
    with ShardWriter(folder) as shard:
        shard.start(said)
        for i, latent in enumerate(latents):
            _, picture = draw(i, 64, 64, 1 + i % 3)
            blank = synthetic_sample(i, image=said.image_shape)
            shard.add(replace(blank, latent=latent, picture=picture, text=0 * blank.text, image=0 * blank.image))
    return Dataset.open(folder)


def drawn_latents(count: int) -> torch.Tensor:
    """Pictures of drawn persons, made small, for latents: count x 4 x 8 x 8; no VAE is asked."""
    pixels = torch.stack([torch.tensor(draw(i, 64, 64, 1 + i % 3)[0]) for i in range(count)]).movedim(-1, 1) / 255
    small = torch.nn.functional.interpolate(pixels, (8, 8), mode="area")
    return ((torch.cat([small, small.mean(1, keepdim=True)], dim=1) * 2 - 1) * 1.5).half().float()


def prepare_options(folders: Sequence[Path], dataset: Path, **overrides: Any) -> argparse.Namespace:
    """Options of `prepare` for the miniature weights."""
    options: dict[str, Any] = {
        "folders": list(folders), "dataset": dataset, "resolution": 128, "config": None, "set": [],
        "base_model": None, "vae": None, "image_encoder": None, "caption_model": None, "num_shards": 1, "shard": 0,
        "smallest_side": 64, "threshold": 0.5, "smallest_face": 0, "landmarks": False, "sidecars": True,
        "comfyui": None, "models": []}
    if unknown := overrides.keys() - options.keys():
        raise TypeError(f"prepare has no options {sorted(unknown)}")
    return argparse.Namespace(**{**options, **overrides})
