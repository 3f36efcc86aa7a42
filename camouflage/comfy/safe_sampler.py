"""Sampling until nobody is recognised any more, within bounds."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management as mm
import comfy.sample
import comfy.utils
import numpy as np
import torch

from ..errors import CamouflageError
from ..verification.policy import Policy
from ..verification.report import Attempt, CheckedPicture, Report, Verdict
from ..verification.verify import Blocked, Originals, Verifier, make_report, of_batch
from .acceleration.accelerate import accelerated
from .beside import Beside, beside
from .detectors import RetinaFace
from .guidance import scale_of, with_scale
from .messages import logger, tell_try
from .selection import BatchPart, WholeBatch
from .verification import (
    NOBODY_AT_ALL,
    OriginalBatch,
    check_counts,
    check_shape,
    everybody,
    naming,
    to_images,
    to_pixels,
)

_SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the stock SamplerCustomAdvanced takes, and the VAE that decodes."""

    noise: Any
    guider: Any
    sampler: Any
    sigmas: torch.Tensor
    latent: dict
    vae: Any

    def run(self, seed: int | None, scale: float | None, progress: Callable[[int], object],
            wanted: Sequence[int] | None = None) -> Sampled:
        """One sampling.

        The noise is always made for the whole batch, so that each picture starts from the same noise wherever it is
        sampled. A sampler that adds noise at every step, or fits its steps to what it sees, gives a picture in a part
        of the batch another result than in the whole batch.

        Args:
            seed: of the noise; None leaves the noise as it is.
            scale: a_s; None leaves the guider as it is.
            progress: called with the number of steps done.
            wanted: places of pictures in the batch, in ascending order; None is all. Only these are sampled, or
                the whole batch where something may depend on it, see :mod:`.selection`.
        """
        noise, guider = self.noise, self.guider
        if seed is not None:
            noise = copy.copy(noise)
            noise.seed = seed
        if scale is not None:
            guider = with_scale(guider, scale)
        latent = self.latent.copy()
        start = latent["samples"] = comfy.sample.fix_empty_latent_channels(guider.model_patcher, latent["samples"])
        together = tuple(range(len(start)))
        noise_seed, noise, mask = noise.seed, noise.generate_noise(latent), latent.get("noise_mask")
        if wanted is not None and len(wanted) < len(together):
            part = BatchPart(wanted)
            try:
                part.check_sampler(self.sampler)
                start, guider = part.latent(start), part.guider(guider)
                noise, mask = part.rows(noise), None if mask is None else part.noise_mask(mask)
                together = tuple(wanted)
            except WholeBatch as reason:
                logger.info("Safe Sampler samples the whole batch again: %s.", reason)
        # No preview: what is not verified is not shown.
        samples = accelerated(guider).sample(noise, start, self.sampler, self.sigmas, denoise_mask=mask,
                                callback=lambda step, denoised, x, steps: progress(step + 1),
                                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=noise_seed)
        samples = samples.to(mm.intermediate_device())
        if wanted is not None and len(samples) > len(wanted):
            samples = samples[list(wanted)]
        pictures = self.vae.decode(samples)
        if pictures.ndim == 5:  # video models give frames
            pictures = pictures.reshape(-1, *pictures.shape[-3:])
        if len(pictures) != len(samples):
            raise CamouflageError(f"{len(samples)} latents were decoded to {len(pictures)} pictures. 'Safe Sampler' "
                                  "needs a model of still pictures.")
        return Sampled(samples, pictures, together)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What one sampling gave.

    Attributes:
        samples: latents of the pictures that were wanted.
        pictures: the same decoded, B x H x W x C in 0..1.
        together: places in the batch of all that were sampled together.
    """

    samples: torch.Tensor
    pictures: torch.Tensor
    together: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Best:
    """The best attempt at one picture so far."""

    number: int
    samples: torch.Tensor
    pixels: np.ndarray
    checked: CheckedPicture

    def rank(self) -> tuple[int, int, float]:
        """Smaller is better: who is recognised, who is not settled, then how far everybody is away."""
        return _recognised(self.checked), len(self.checked.unsettled), -_distance(self.checked)


def _recognised(checked: CheckedPicture) -> int:
    return sum(person.verdict is Verdict.RECOGNISABLE for person in checked.persons)


def _distance(checked: CheckedPicture) -> float:
    return min((person.distance for person in checked.persons), default=float("inf"))


def _everybody(verifier: Verifier, before: Sequence[np.ndarray], original: OriginalBatch, policy: Policy
               ) -> list[Originals]:
    """The persons of all originals. Raises Blocked where the policy wants some and there are none."""
    everyone = everybody(verifier, before, original)
    if policy.no_face != "skip":
        for index, originals in enumerate(everyone):
            with naming(index, len(everyone)):
                verifier.demand_faces(originals, policy)
    elif not any(originals.anybody for originals in everyone):
        raise Blocked(NOBODY_AT_ALL)
    return everyone


@contextlib.contextmanager
def _looking(verifier: Verifier, before: Sequence[np.ndarray], original: OriginalBatch, policy: Policy
             ) -> Iterator[Beside[list[Originals]]]:
    """Finds everybody beside the block; before it where a detector needs the device, which is the sampler's then."""
    if any(isinstance(detector, RetinaFace) for detector in verifier.detectors):
        known: Future[list[Originals]] = Future()
        known.set_result(_everybody(verifier, before, original, policy))
        yield Beside(known)
        return
    with beside(lambda pause: _everybody(replace(verifier, pause=pause), before, original, policy)) as looking:
        yield looking


def sample_safely(sampling: Sampling, original: OriginalBatch, verifier: Verifier, attempts: int, scale_step: float,
                  largest_scale: float, policy: Policy) -> tuple[torch.Tensor, torch.Tensor, Report]:
    """Samples, decodes and verifies, again while a person is recognisable; then the policy.

    Attempt n (from 0) takes the noise's seed + n and the guider's anonymization scale + n * ``scale_step``, at most
    ``largest_scale`` (a scale that is larger from the start stays). Of a batch only those pictures are sampled again in
    which somebody is recognisable. Of each picture the best attempt counts: fewest recognisable, then fewest not
    settled, then the largest smallest distance, then the earliest. The same inputs and the same seed give the same
    pictures. Who is in the originals is found beside the first sampling (before it with RetinaFace, which needs the
    device, too), and a batch that is blocked by it stops that.

    Args:
        sampling: what to sample.
        original: as many as there are latents, or one for all where that is allowed.
        verifier: what decides.
        attempts: at most, from 1 on.
        scale_step, largest_scale: of the anonymization scale; without effect on guiders that have none.
        policy: what is done with whom in the best attempt.

    Returns:
        Pictures that may go on, B x H x W x 3; the latent samples of the best attempts (before any redaction); the
        report. Pictures in whose original nobody is found are left out of all three where ``policy.no_face`` is "skip".
    """
    before = to_pixels(original.images, "original")
    check_counts(len(before), len(sampling.latent["samples"]), original.one_for_all)
    first_seed, first_scale = getattr(sampling.noise, "seed", None), scale_of(sampling.guider)
    steps = max(1, sampling.sigmas.shape[-1] - 1)
    progress = comfy.utils.ProgressBar(attempts * steps)
    best: list[_Best] = []
    history: list[list[Attempt]] = []
    everyone: list[Originals] = []
    left: list[int] | None = None
    for number in range(attempts):
        seed = None if first_seed is None else (first_seed + number) % _SEEDS
        scale = None if first_scale is None else max(first_scale, min(first_scale + number * scale_step, largest_scale))

        def done(count: int, first: int = number * steps) -> None:
            progress.update_absolute(first + min(count, steps))

        if number == 0:
            with _looking(verifier, before, original, policy) as looking:
                sampled = sampling.run(seed, scale, lambda count: (looking.check(), done(count)), left)
                everyone = looking.result()
        else:
            sampled = sampling.run(seed, scale, done, left)
        decoded = to_pixels(sampled.pictures, "the decoded pictures")
        if left is None:
            check_counts(len(before), len(decoded), original.one_for_all)
            left = list(range(len(decoded)))
        count = len(best) or len(decoded)
        for place, (index, pixels) in enumerate(zip(left, decoded, strict=True)):
            check_shape(of_batch(before, index), pixels, index, count)
            checked = verifier.verify(of_batch(everyone, index), pixels, None, everyone)
            one = _Best(number, sampled.samples[place:place + 1], pixels, checked)
            verdicts = tuple(person.verdict for person in checked.persons)
            record = Attempt(seed, scale, verdicts, _distance(checked))
            if count > 1:
                record = replace(record, place=index, together=sampled.together)
            if number == 0:
                best.append(one)
                history.append([record])
            else:
                history[index].append(record)
                if one.rank() < best[index].rank():
                    best[index] = one
        tell_try(number + 1, attempts, seed, scale, (verdict for index in left for verdict in
                                                     history[index][-1].verdicts))
        progress.update_absolute((number + 1) * steps)
        left = [index for index, one in enumerate(best) if _recognised(one.checked)]
        if not left:
            break
    progress.update_absolute(attempts * steps)
    settled, verdicts, kept = [], [], []
    for index, one in enumerate(best):
        if policy.no_face == "skip" and not of_batch(everyone, index).anybody:
            continue
        told = tuple(replace(record, kept=number == one.number) for number, record in enumerate(history[index]))
        with naming(index, len(best)):
            pixels, checked = verifier.settle(of_batch(everyone, index), one.pixels, policy, checked=one.checked,
                                              others=everyone)
        kept.append(index)
        settled.append(pixels)
        verdicts.append(replace(checked, attempts=told))
    skipped = [index for index in range(len(best)) if index not in kept]
    chosen = everyone if len(everyone) == 1 else [everyone[index] for index in kept]
    return (to_images(settled), torch.cat([best[index].samples for index in kept]),
            make_report(verifier, chosen, verdicts, first_seed, first_scale, skipped))
