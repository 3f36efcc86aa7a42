"""An attacker who learns to recognise anonymized faces from those of other persons, then meets new ones (our choice).

Recognisers off the shelf have never seen an anonymized face. One that was trained on them may find what they miss, so
both are asked: a small head on a given recogniser's embeddings, and a whole small convolutional network on the crops.
They learn with a cosine softmax over the persons (CosFace, arXiv 1801.09414), whose embeddings compare new persons.

Two tasks: **linkage**, anonymized to anonymized photos of one person, and **reidentification**, anonymized photos to
originals. For the second one network learns from both, so that both lie in one space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...errors import CamouflageError
from .learning import Effort, Learned, Step, build, crops_of, learn
from .matching import match
from .splits import Split, split_persons

LINKAGE, REIDENTIFICATION = "linkage", "reidentification"
_WIDTH = 64  # numbers of an embedding
_SCALE, _MARGIN = 16.0, 0.1  # of the cosine softmax
_GRID = 4  # places that the last feature map keeps in each direction: faces are upright, so places mean something
_SHIFT, _ZOOM, _TURN, _LIGHT, _TINT = 0.12, 0.1, 0.1, 0.2, 0.05  # how far a batch's crops are changed
_NOISE = 0.1  # added to embeddings, of their spread
HEAD_EFFORT = Effort(steps=400)
Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


class _Unit(nn.Module):
    """Vectors of length 1."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.normalize(vectors, dim=1)


class _Standard(nn.Module):
    """Numbers of mean 0 and spread 1, as far as the samples tell that they were made from."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, samples: np.ndarray) -> None:
        super().__init__()
        axes = (0, 2, 3) if samples.ndim == 4 else 0
        self.register_buffer("mean", torch.as_tensor(samples.mean(axes, keepdims=True)))
        self.register_buffer("spread", torch.as_tensor(samples.std(axes, keepdims=True) + 1e-3))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return (samples - self.mean) / self.spread


def _convolution(into: int, out: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.GroupNorm(8, out), nn.ReLU())


def _network(samples: np.ndarray) -> nn.Module:
    """For crops a convolutional network of 0.15 M parameters, for embeddings a head with one hidden layer."""
    if samples.ndim == 2:
        return nn.Sequential(_Standard(samples), nn.Linear(samples.shape[1], 2 * _WIDTH), nn.ReLU(),
                             nn.Linear(2 * _WIDTH, _WIDTH), _Unit())
    return nn.Sequential(_Standard(samples), _convolution(3, 16, 1), _convolution(16, 32, 2), _convolution(32, 48, 1),
                         _convolution(48, 64, 2), _convolution(64, 64, 1), nn.AdaptiveAvgPool2d(_GRID), nn.Flatten(),
                         nn.Linear(64 * _GRID**2, _WIDTH), _Unit())


class _Trainee(nn.Module):
    """A network and what is thrown away afterwards: a direction for every person who is learned from."""

    def __init__(self, samples: np.ndarray, persons: int) -> None:
        super().__init__()
        self.network = _network(samples)
        self.directions = nn.Parameter(torch.randn(persons, _WIDTH))

    def loss(self, samples: torch.Tensor, who: torch.Tensor) -> torch.Tensor:
        cosines = self.network(samples) @ F.normalize(self.directions, dim=1).T
        return F.cross_entropy(_SCALE * (cosines - _MARGIN * F.one_hot(who, cosines.shape[1])), who)


def _changed(crops: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Crops moved, enlarged, turned, mirrored, and in another light, each by itself."""
    def around(reach: float, *shape: int) -> torch.Tensor:
        return (2 * torch.rand(len(crops), *shape, generator=rng) - 1) * reach

    zoom, angle = 1 + around(_ZOOM), around(_TURN)
    mirror = torch.randint(2, (len(crops),), generator=rng) * 2.0 - 1
    cosine, sine, moved = zoom * torch.cos(angle), zoom * torch.sin(angle), around(_SHIFT, 2, 1)
    turn = torch.stack([torch.stack([cosine * mirror, -sine], 1), torch.stack([sine * mirror, cosine], 1)], 1)
    light = (1 + around(_LIGHT, 1, 1, 1)) * (1 + around(_TINT, 3, 1, 1))
    grid = F.affine_grid(torch.cat([turn, moved], 2).to(crops.device), list(crops.shape), align_corners=False)
    warped = F.grid_sample(crops, grid, padding_mode="border", align_corners=False)
    return (warped * light.to(crops.device)).clamp(0, 1)


def recogniser(samples: np.ndarray, persons: Sequence[int] | np.ndarray, effort: Effort | None = None,
               step: Step | None = None) -> Learned:
    """Learns to tell persons apart.

    Args:
        samples: n x 3 x S x S crops, 0..1, or n x d embeddings; float32.
        persons: n numbers of persons, at least two different ones.
        effort: what is spent; by default 300 steps for crops, 400 for embeddings.
        step: see ``Step``.

    Returns:
        Makes embeddings, n x 64, of length 1, of new samples.
    """
    effort = effort or (Effort() if samples.ndim == 4 else HEAD_EFFORT)
    names, who = np.unique(np.asarray(persons), return_inverse=True)
    if len(names) < 2:
        raise CamouflageError(f"A recogniser learns from at least two persons, but there is {len(names)}.")
    trainee: Any = build(lambda: _Trainee(samples, len(names)), effort)
    data, labels = torch.as_tensor(samples).to(effort.device), torch.as_tensor(who).to(effort.device)
    spread = samples.std(0) if samples.ndim == 2 else None
    change: Change = _changed if spread is None else _noise(torch.as_tensor(spread))

    def losses(batch: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        batch = batch.to(effort.device)
        return trainee.loss(change(data[batch], rng), labels[batch])

    return learn(trainee, losses, len(samples), effort, step, counted=trainee.network)


def _noise(spread: torch.Tensor) -> Change:
    def change(rows: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return rows + (torch.randn(rows.shape, generator=rng) * spread * _NOISE).to(rows.device)

    return change


def attack_pictures(anonymized: np.ndarray, persons: Sequence[int] | np.ndarray, originals: np.ndarray | None = None,
                    split: Split | None = None, effort: Effort | None = None, others_only: bool = True,
                    step: Step | None = None) -> dict[str, Any]:
    """A whole network learns from crops.

    Args:
        anonymized: n x 3 x S x S, 0..1: face crops of anonymized pictures.
        persons: n numbers of persons.
        originals: n x 3 x S x S, the same faces before, for reidentification; None for linkage.
        split: who is learned from; by default :func:`split_persons`.
        effort: what is spent.
        others_only: whether the attacker has other photos of a person than the one that was anonymized.
        step: see ``Step``.

    Returns:
        Plain data: attack, task, what, split, cost, and ``rank_1`` and ``auc`` among the persons that were not learned
        from, see :func:`match`.

    Raises:
        CamouflageError: shapes or values that are no crops; too few persons.
    """
    crops = crops_of(anonymized, "anonymized crops", len(persons))
    before = None if originals is None else crops_of(originals, "original crops", len(persons))
    if before is not None and before.shape != crops.shape:
        raise CamouflageError("Original and anonymized crops must have one size, but are "
                              f"{before.shape[-1]} and {crops.shape[-1]} px.")
    return {"attack": "trained network", **_attack(crops, before, split or split_persons(persons), effort, others_only,
                                                   step)}


def attack_embeddings(anonymized: np.ndarray, persons: Sequence[int] | np.ndarray, originals: np.ndarray | None = None,
                      seed: int = 0, effort: Effort | None = None, others_only: bool = True,
                      step: Step | None = None) -> dict[str, Any]:
    """A head learns from a given recogniser's embeddings; see :func:`attack_pictures`.

    Args:
        anonymized, originals: n x d. Rows that are no numbers, of faces that the recogniser could not look at, take no
            part; the result tells how many (``without_embedding``).
        seed: of the split.
    """
    rows = [np.asarray(array, np.float32) for array in (anonymized, originals) if array is not None]
    for array in rows:
        if array.ndim != 2 or array.shape != (len(persons), rows[0].shape[1]):
            raise CamouflageError(f"There must be {len(persons)} embeddings of one length, one for each person's "
                                  f"number, but got {' x '.join(map(str, array.shape))}.")
    there = np.logical_and.reduce([np.isfinite(array).all(1) for array in rows])
    found = _attack(rows[0][there], rows[1][there] if len(rows) > 1 else None,
                    split_persons(np.asarray(persons)[there], seed), effort, others_only, step)
    return {"attack": "trained head", **found, "without_embedding": int((~there).sum())}


def _attack(anonymized: np.ndarray, originals: np.ndarray | None, split: Split, effort: Effort | None,
            others_only: bool, step: Step | None) -> dict[str, Any]:
    who, seen = split.persons[split.train], anonymized[split.train]
    if originals is not None:
        seen, who = np.concatenate([seen, originals[split.train]]), np.concatenate([who, who])
    learned = recogniser(seen, who, effort, step)
    queries = learned(anonymized[split.test])
    linkage = originals is None
    gallery = queries if linkage else learned(originals[split.test])
    persons = split.persons[split.test]
    itself = np.eye(len(persons), dtype=bool) if linkage or others_only else None
    target = "other anonymized photos" if linkage else "originals" + (" of other photos" if others_only else "")
    return {"task": LINKAGE if linkage else REIDENTIFICATION,
            "what": f"Learned from anonymized {'' if linkage else 'and original '}photos of other persons; looks for "
                    f"an anonymized face of somebody new among {target}.",
            "split": split.to_json(), "cost": learned.cost, **match(queries, gallery, persons, persons, itself)}
