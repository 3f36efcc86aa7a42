"""Who judges pictures of the drawn world: a recogniser and a reader of attributes, trained on drawings alone.

Both see a face cut out where it stands, upright (:func:`.drawing.aligned`). The recogniser learns by contrast over
thousands of identities (two pictures of each, among all others of the batch; InfoNCE, arXiv 1807.03748) to map faces
of one person near to each other whatever they wear; the reader learns the drawn attributes, and whether there is a
face at all. Both learn with noise and with faces cut out a little beside their place, so that they are not thrown off
by what a network paints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from camouflage.evaluation.identification import rank

from .drawing import DRAWN, aligned, draw, empty, random_identities, random_scene

SIZE, LENGTH = 20, 32  # of a face that is cut out, and of an embedding
PEOPLE, PICTURES = 4000, 4  # that the judges learn from
STEPS, PAIRS = 900, 96
_TEMPERATURE, _NOISE, _BESIDE = 0.1, 0.03, 0.25  # the last in cells
_NOBODY = 5  # one of so many that the reader sees is an empty scene


def _network(outputs: int) -> torch.nn.Sequential:
    side = math.ceil(math.ceil(SIZE / 2) / 2)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(32, 64, 3, 2, 1), torch.nn.SiLU(),
        torch.nn.Conv2d(64, 96, 3, 2, 1), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(96 * side**2, 192),
        torch.nn.SiLU(), torch.nn.Linear(192, outputs))


@dataclass(frozen=True)
class Judges:
    """The trained networks."""

    recogniser: torch.nn.Module
    reader: torch.nn.Module

    @torch.no_grad()
    def embeddings(self, cells: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """B x 32, of length 1.

        Args:
            cells: B x 3 x h x w, 0..1.
            places: B x 4, of one person in each picture.
        """
        return torch.nn.functional.normalize(self.recogniser(_seen(aligned(cells, places, SIZE))), dim=-1)

    @torch.no_grad()
    def attributes(self, cells: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Probabilities of ``DRAWN``, B x 12; arguments as above."""
        return self._read(cells, places)[:, :-1]

    @torch.no_grad()
    def there(self, cells: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Probabilities that there is a face, B."""
        return self._read(cells, places)[:, -1]

    def _read(self, cells: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return self.reader(_seen(aligned(cells, places, SIZE))).sigmoid()


@dataclass(frozen=True)
class Qualities:
    """How good the judges are with drawings of people whom they have never seen."""

    rank_1: float
    balanced_accuracy: dict[str, float]
    faces_found: float
    empty_scenes_found: float


def _seen(faces: torch.Tensor) -> torch.Tensor:
    return (faces - 0.5) * 4


def distances(queries: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """Cosine distances of embeddings, n x m."""
    return (1 - queries @ gallery.T).double().numpy()


def balanced_accuracy(found: torch.Tensor, wanted: torch.Tensor) -> float | None:
    """Mean of the shares of right answers among the true and among the false; None where one of them is missing.

    Args:
        found: n booleans.
        wanted: n booleans.
    """
    parts = [found[wanted == side] == side for side in (True, False)]
    return float(np.mean([float(part.float().mean()) for part in parts])) if all(map(len, parts)) else None


def train(seed: int, report: Callable[[str], None] = print, people: int = PEOPLE, steps: int = STEPS) -> Judges:
    """Draws people and learns from them; about two minutes on one core with the defaults."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        faces, looks = _people(people, rng)
        nobody = _nobody(people // _NOBODY, rng)
        judges = Judges(_network(LENGTH), _network(len(DRAWN) + 1))
        losses = (_fit(judges.recogniser, lambda: _contrast(judges.recogniser, faces, rng), steps),
                  _fit(judges.reader, lambda: _reading(judges.reader, faces, looks, nobody, rng), steps))
    report(f"judges: recogniser's loss {losses[0]:.3f}, reader's {losses[1]:.3f} after {steps} steps")
    for network in (judges.recogniser, judges.reader):
        network.eval().requires_grad_(False)
    return judges


def _people(people: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Faces, people x PICTURES x 3 x SIZE x SIZE, and their attributes."""
    faces, looks = [], []
    for first in range(0, people, 100):
        count = min(100, people - first)
        who = random_identities(count, 1, rng).repeat_interleave(PICTURES, 0)
        drawing = draw(len(who), rng, identities=who)
        places = drawing.scene.places[:, 0].clone()
        places[:, :2] += _BESIDE * torch.randn(len(places), 2, generator=rng)
        faces.append(aligned(drawing.cells, places, SIZE).unflatten(0, (count, PICTURES)))
        looks.append(drawing.attributes[:, 0].unflatten(0, (count, PICTURES)))
    return torch.cat(faces), torch.cat(looks).float()


def _nobody(count: int, rng: torch.Generator) -> torch.Tensor:
    """What is cut out of scenes in which nobody stands, count x 3 x SIZE x SIZE."""
    scene = random_scene(count, 1, rng)
    return aligned(empty(scene), scene.places[:, 0], SIZE)


def _contrast(network: torch.nn.Module, faces: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    who = torch.randperm(len(faces), generator=rng)[:PAIRS]
    pair = torch.rand(len(who), PICTURES, generator=rng).argsort(1)[:, :2]
    chosen = faces[who[:, None], pair].transpose(0, 1).flatten(0, 1)
    found = torch.nn.functional.normalize(network(_noisy(chosen, rng)), dim=-1)
    first, second = found.chunk(2)
    likeness = first @ second.T / _TEMPERATURE
    right = torch.arange(len(likeness))
    return (torch.nn.functional.cross_entropy(likeness, right)
            + torch.nn.functional.cross_entropy(likeness.T, right)) / 2


def _reading(network: torch.nn.Module, faces: torch.Tensor, looks: torch.Tensor, nobody: torch.Tensor,
             rng: torch.Generator) -> torch.Tensor:
    who = torch.randint(len(faces), (2 * PAIRS,), generator=rng)
    which = torch.randint(PICTURES, (2 * PAIRS,), generator=rng)
    without = nobody[torch.randint(len(nobody), (2 * PAIRS // _NOBODY,), generator=rng)]
    found = network(_noisy(torch.cat([faces[who, which], without]), rng))
    there = (torch.arange(len(found)) < len(who)).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    return loss(found[:len(who), :-1], looks[who, which]) + 0.1 * loss(found[:, -1], there)


def _noisy(faces: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return _seen(faces + _NOISE * torch.randn(faces.shape, generator=rng))


def _fit(network: torch.nn.Module, loss_of: Callable[[], torch.Tensor], steps: int) -> float:
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
        losses.append(float(loss.detach()))
    return sum(losses[-50:]) / len(losses[-50:])


def qualities(judges: Judges, seed: int, people: int = 50, pictures: int = 10) -> Qualities:
    """Looks at new people: rank-1 of one drawing in a gallery of one other of each, and attributes of all."""
    rng = torch.Generator().manual_seed(seed)
    who = random_identities(people, 1, rng).repeat_interleave(pictures, 0)
    drawing = draw(len(who), rng, identities=who)
    found = judges.embeddings(drawing.cells, drawing.scene.places[:, 0])
    read = judges.attributes(drawing.cells, drawing.scene.places[:, 0]) > 0.5
    numbers = np.arange(people)
    ranked = rank(distances(found[1::pictures], found[::pictures]), numbers, numbers)
    balanced = {name: balanced_accuracy(read[:, i], drawing.attributes[:, 0, i]) for i, name in enumerate(DRAWN)}
    scene = random_scene(len(who), 1, rng)
    return Qualities(float(ranked.hits[:, 0].mean()),
                     {name: value for name, value in balanced.items() if value is not None},
                     float((judges.there(drawing.cells, drawing.scene.places[:, 0]) > 0.5).float().mean()),
                     float((judges.there(empty(scene), scene.places[:, 0]) > 0.5).float().mean()))


def save(judges: Judges, path: Path) -> None:
    """Both networks in one file."""
    save_file({f"{name}.{key}": value for name in ("recogniser", "reader")
               for key, value in getattr(judges, name).state_dict().items()}, path)


def load(path: Path) -> Judges:
    """What :func:`save` wrote."""
    state, judges = load_file(path), Judges(_network(LENGTH), _network(len(DRAWN) + 1))
    for name in ("recogniser", "reader"):
        network = getattr(judges, name)
        network.load_state_dict({key.removeprefix(f"{name}."): value for key, value in state.items()
                                 if key.startswith(f"{name}.")})
        network.eval().requires_grad_(False)
    return judges
