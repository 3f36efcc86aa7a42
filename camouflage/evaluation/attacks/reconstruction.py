"""An attacker who learns to undo the method: a small U-Net from anonymized crops to originals (our choice).

It learns from other persons, by the mean squared error, and is tested on new ones. What it brings back is held against
the anonymized picture itself, and against the mean face of those it learned from: whoever knows nothing of a person
does best to guess that. So a gain over the anonymized picture alone says little (any face is nearer to a face than a
grey area is), one over the mean face says that something of the person or the photo was left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...errors import CamouflageError
from ..estimates import estimate
from .learning import Effort, Learned, Step, build, crops_of, learn
from .matching import match
from .splits import Split, split_persons

Embed = Callable[[np.ndarray], np.ndarray]
"""Crops, n x 3 x S x S, 0..1 -> embeddings, n x d, compared by Euclidean distance."""
EFFORT = Effort(steps=400, batch=8, rate=4e-3)
_WIDTHS = 16, 48, 96  # channels at full, half and quarter size
_LEAST = 1e-10
"""Mean squared error of pictures that are equal: their PSNR is told as 100 dB."""


def _block(into: int, out: int) -> nn.Module:
    def half(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, 1, 1), nn.GroupNorm(8, out), nn.SiLU()]

    return nn.Sequential(*half(into), *half(out))


class _UNet(nn.Module):
    """0.25 M parameters; a change of the picture that it is given, at first none."""

    def __init__(self) -> None:
        super().__init__()
        one, two, four = _WIDTHS
        self.enter, self.down, self.middle = _block(3, one), _block(one, two), _block(two, four)
        self.up, self.leave = _block(four + two, two), _block(two + one, one)
        self.last = nn.Conv2d(one, 3, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        full = self.enter(2 * pictures - 1)
        half = self.down(F.avg_pool2d(full, 2))
        low = self.middle(F.avg_pool2d(half, 2))
        half = self.up(torch.cat([F.interpolate(low, scale_factor=2), half], 1))
        full = self.leave(torch.cat([F.interpolate(half, scale_factor=2), full], 1))
        return pictures + self.last(full)


def reconstructor(anonymized: np.ndarray, originals: np.ndarray, effort: Effort = EFFORT,
                  step: Step | None = None) -> Learned:
    """Learns to undo a method from n x 3 x S x S crops, 0..1, before and after it; its results may leave 0..1."""
    network = build(_UNet, effort)
    given, wanted = (torch.as_tensor(crops).to(effort.device) for crops in (anonymized, originals))

    def losses(batch: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        batch = batch.to(effort.device)
        return F.mse_loss(network(given[batch]), wanted[batch])

    return learn(network, losses, len(anonymized), effort, step)


def psnr(pictures: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of n pictures of 0..1, dB; 100 where they are equal."""
    errors = ((np.asarray(pictures, np.float64) - originals) ** 2).mean((1, 2, 3))
    return -10 * np.log10(np.maximum(errors, _LEAST))


def attack(anonymized: np.ndarray, originals: np.ndarray, persons: Sequence[int] | np.ndarray,
           embed: Embed | None = None, split: Split | None = None, effort: Effort = EFFORT, others_only: bool = True,
           step: Step | None = None) -> dict[str, Any]:
    """Undoes a method.

    Args:
        anonymized, originals: n x 3 x S x S, 0..1: the same faces after and before.
        persons: n numbers of persons.
        embed: finds persons in crops; it must not have seen those who are tested.
        split: who is learned from; by default :func:`split_persons`.
        effort: what is spent.
        others_only: whether the attacker looks among other photos than the one that was anonymized.
        step: see ``Step``.

    Returns:
        Plain data: attack, what, split, cost; ``psnr`` of the reconstruction, the anonymized picture and the mean
        face; ``gain_over_anonymized`` and ``gain_over_mean_face``, dB, each with an interval; ``rank_1`` and ``auc`` of
        reconstructions among originals, and of the anonymized pictures themselves (``before``), see :func:`match`.

    Raises:
        CamouflageError: shapes or values that are no crops; too few persons.
    """
    after = crops_of(anonymized, "anonymized crops", len(persons))
    before = crops_of(originals, "original crops", len(persons))
    if before.shape != after.shape:
        raise CamouflageError("Original and anonymized crops must have one size, but are "
                              f"{before.shape[-1]} and {after.shape[-1]} px.")
    split = split or split_persons(persons)
    learned = reconstructor(after[split.train], before[split.train], effort, step)
    given, wanted, who = after[split.test], before[split.test], split.persons[split.test]
    made = np.clip(learned(given), 0, 1)
    mean = np.broadcast_to(before[split.train].mean(0), wanted.shape)
    levels = {name: psnr(pictures, wanted) for name, pictures in
              (("reconstruction", made), ("anonymized", given), ("mean_face", mean))}
    found: dict[str, Any] = {
        "attack": "reconstruction",
        "what": "Learned to undo the method from photos of other persons; tested on persons who are new to it.",
        "split": split.to_json(), "cost": learned.cost,
        "psnr": {name: _json(values, who) for name, values in levels.items()},
        "gain_over_anonymized": _json(levels["reconstruction"] - levels["anonymized"], who),
        "gain_over_mean_face": _json(levels["reconstruction"] - levels["mean_face"], who)}
    if embed is None:
        nothing = {"value": None, "reason": "no recogniser was given"}
        return {**found, "rank_1": nothing, "auc": nothing, "before": {"rank_1": nothing, "auc": nothing}}
    gallery, itself = embed(wanted), np.eye(len(who), dtype=bool) if others_only else None
    return {**found, **match(embed(made), gallery, who, who, itself),
            "before": match(embed(given), gallery, who, who, itself)}


def _json(values: np.ndarray, who: np.ndarray) -> dict[str, Any] | None:
    """A mean as plain data."""
    known = estimate(values, who)
    return known.to_json() if known else None
