"""The loop that both trainings share: batches, gradient, optimiser, EMA, checkpoints, validation, logs.

On one device or many (accelerate), and resumable to the bit: what a step does depends on the weights, the
optimiser and the step's number alone (``camouflage/training/randomness.py``).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from ..errors import CamouflageError
from ..progress import progress
from . import checkpoints
from .checkpoints import EMA, WEIGHTS, Checkpoint
from .config import Identity, Light, to_dict
from .dataset import Dataset, Sample
from .provenance import fingerprint, git_revision, same_run
from .randomness import TIMESTEPS, BatchSampler, deterministic, generator, hold_out, timestep

CHECKPOINTS, LOGS = "checkpoints", "logs"
_LOGGED_EVERY = 10  # steps; reading a loss waits for the device
_PRECISIONS = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Config = Light | Identity
Inputs = dict[str, torch.Tensor]


@dataclass
class ValidationResult:
    """What a validation found: numbers, and pictures (H x W x 3, uint8), by name."""

    numbers: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


def numbered(pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pictures for a report."""
    return {f"picture_{i}": picture for i, picture in enumerate(pictures)}


def side_by_side(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pairs of pictures for a report."""
    return numbered([np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)])


@dataclass
class Job:
    """A training: its networks, inputs and validation.

    Attributes:
        model: called with ``noisy`` (B x 4 x h x w), ``timesteps`` (B) and the inputs of ``conditions``; gives the
            predicted noise.
        trained: the parameters that are trained, by their names in checkpoints; all others are frozen.
        conditions: what else the model sees of pictures; the generators are for dropout, one a picture.
        validate: called with step, trained tensors by name (their EMA, where there is one), held-out samples and
            the device; on the main process alone.
        described: goes into every checkpoint, for the export.
    """

    model: torch.nn.Module
    trained: dict[str, torch.nn.Parameter]
    conditions: Callable[[Sequence[Sample], Sequence[torch.Generator]], Inputs]
    validate: Callable[[int, Mapping[str, torch.Tensor], Sequence[Sample], torch.device], ValidationResult]
    described: dict[str, Any]


def compute_dtype(config: Config) -> torch.dtype:
    """The number format of frozen networks."""
    return _DTYPES[config.precision]


def make_accelerator(config: Config, cpu: bool) -> Accelerator:
    """The device, or devices, and their arithmetic."""
    if config.precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise CamouflageError("'precision' is fp16, which needs a GPU. On a CPU choose fp32 or bf16: "
                              "--set precision=fp32.")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch needs on a GPU to be deterministic
    return Accelerator(mixed_precision=_PRECISIONS[config.precision], cpu=cpu)


def noised(samples: Sequence[Sample], rngs: Sequence[torch.Generator], timestep_sampling: str,
           schedule: DDPMScheduler) -> Inputs:
    """Latents with noise: ``noise``, ``noisy`` (both B x 4 x h x w) and ``timesteps`` (B)."""
    latents = torch.stack([sample.latent for sample in samples])
    noise = torch.stack([torch.randn(sample.latent.shape, generator=rng)
                         for sample, rng in zip(samples, rngs, strict=True)])
    timesteps = torch.tensor([timestep(float(torch.rand((), generator=rng, dtype=torch.float64)), timestep_sampling)
                              for rng in rngs])
    noisy = schedule.add_noise(latents, noise, timesteps)  # type: ignore[arg-type]
    return {"noise": noise, "noisy": noisy, "timesteps": timesteps}


def noise_schedule() -> DDPMScheduler:
    """SD 1.5's."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                         num_train_timesteps=TIMESTEPS)


def rate_factor(config: Config, step: int) -> float:
    """Part of the learning rate at a step: rises over the warm-up, then stays or falls to 0 as half a cosine."""
    warmup = config.schedule.warmup
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule.kind == "constant":
        return 1.0
    done = (step - warmup) / max(1, config.steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(config: Config, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW: torch's, its fused kernel, or bitsandbytes' with 8-bit moments."""
    chosen = config.optimizer
    options: dict[str, Any] = {"lr": chosen.learning_rate, "betas": (chosen.beta1, chosen.beta2),
                               "eps": chosen.epsilon, "weight_decay": chosen.weight_decay}
    if chosen.kind == "adamw_8bit":
        try:
            from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
        except ImportError as error:
            raise CamouflageError("'optimizer.kind' is adamw_8bit, which needs the package bitsandbytes and a GPU. "
                                  "Install it (pip install bitsandbytes) or choose adamw.") from error
        return AdamW8bit(parameters, **options)
    return torch.optim.AdamW(parameters, fused=chosen.kind == "adamw_fused" or None, **options)


def train(job: Job, dataset: Dataset, config: Config, output: Path, accelerator: Accelerator) -> Path:
    """Trains from the newest whole checkpoint in ``output``, or from the start.

    Args:
        output: the run's folder: checkpoints/ and logs/ (TensorBoard).

    Returns:
        The last checkpoint.

    Raises:
        CamouflageError: the run in ``output`` has other settings, the loss is not finite, a full disk.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; a checkpoint of the last whole step is written first.
    """
    run = _Run(job, dataset, config, output, accelerator)
    with deterministic(config.deterministic), _graceful_stop(accelerator) as stopped, contextlib.closing(run):
        return run.go(stopped)


class _Run:
    """One call of :func:`train`."""

    def __init__(self, job: Job, dataset: Dataset, config: Config, output: Path, accelerator: Accelerator):
        self.job, self.dataset, self.config, self.accelerator = job, dataset, config, accelerator
        self.folder = output / CHECKPOINTS
        self.main = accelerator.is_main_process
        self.schedule = noise_schedule()
        positions = candidates(dataset, config)
        kept, held = hold_out([dataset.sources[i] for i in positions], config.validation.held_out)
        self.trained_on, self.held_out = [positions[i] for i in kept], [positions[i] for i in held]
        self.batches = BatchSampler([dataset.sizes[i] for i in self.trained_on], config.batch_size, config.seed)
        self.group = accelerator.num_processes * config.accumulation
        self.parameters = list(job.trained.values())
        checkpoint = checkpoints.latest(self.folder, self.tell)
        self.described = self._describe()
        if checkpoint is not None:
            same_run(checkpoint, self.described)
            _fill(job.trained, checkpoint.tensors(WEIGHTS))
        self.model, self.optimizer = accelerator.prepare(job.model, make_optimizer(config, self.parameters))
        self.ema = EMAModel(self.parameters, decay=config.ema.decay, foreach=True) if config.ema.use else None
        self.step = 0
        if checkpoint is not None:
            self._resume(checkpoint)
        self.pending: list[tuple[int, torch.Tensor]] = []
        self.logged_at = time.monotonic()
        self.writer: Any = None
        if self.main:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(output / LOGS), purge_step=self.step + 1 if self.step else None)
        self.ahead = ThreadPoolExecutor(1)  # reads and draws the next batch while the device computes

    def go(self, stopped: Callable[[], bool]) -> Path:
        config = self.config
        self.tell(f"Training on {len(self.trained_on)} pictures, {len(self.held_out)} held out; "
                  f"{sum(p.numel() for p in self.parameters) / 1e6:.1f} M parameters; step {self.step} of "
                  f"{config.steps}.")
        saved = self.step
        bar = progress(config.steps, "steps", self.step) if self.main else None
        micro = self._ahead(self.step, 0)
        while self.step < config.steps:
            micro = self._one_step(micro)
            self.step += 1
            if self.step % _LOGGED_EVERY == 0 or self.step == config.steps:
                self._log()
            if bar:
                bar.update()
            every = config.validation.every
            if every and self.step % every == 0:
                self._validate()
            stop = stopped()
            if self.step % config.checkpoints.every == 0 or self.step == config.steps or stop:
                self._save()
                saved = self.step
            if stop:
                self.tell(f"Stopped after step {self.step}. The same command goes on from there.")
                raise KeyboardInterrupt
        if bar:
            bar.close()
        self.accelerator.wait_for_everyone()
        return self.folder / f"step-{saved:08d}"

    def close(self) -> None:
        self.ahead.shutdown(wait=False, cancel_futures=True)
        if self.writer is not None:
            self.writer.close()

    def tell(self, text: str) -> None:
        if self.main:
            with tqdm.external_write_mode():  # not in the middle of the bar
                print(text, flush=True)

    def _one_step(self, micro: Future[Inputs]) -> Future[Inputs]:
        """Forward and backward of this process's micro-batches, then the optimiser; gives the next batch to come."""
        accelerator, config = self.accelerator, self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * rate_factor(config, self.step)
        losses = []
        for place in range(config.accumulation):
            inputs = {name: value.to(accelerator.device, non_blocking=True) for name, value in micro.result().items()}
            last = place + 1 == config.accumulation
            micro = self._ahead(self.step + last, 0 if last else place + 1)
            noise = inputs.pop("noise")
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                predicted = self.model(**inputs)
                loss = torch.nn.functional.mse_loss(predicted.float(), noise)
                accelerator.backward(loss / config.accumulation)
            losses.append(loss.detach())
        if config.optimizer.max_grad_norm:
            accelerator.clip_grad_norm_(self.parameters, config.optimizer.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.step(self.parameters)
        mean: Any = accelerator.reduce(torch.stack(losses).mean(), "mean")
        self.pending.append((self.step + 1, mean))
        return micro

    def _ahead(self, step: int, place: int) -> Future[Inputs]:
        number = step * self.group + place * self.accelerator.num_processes + self.accelerator.process_index
        return self.ahead.submit(self._inputs, number)

    def _inputs(self, number: int) -> Inputs:
        """Micro-batch ``number`` of the whole training, on the CPU."""
        samples = [self.dataset[self.trained_on[i]] for i in self.batches.batch(number)]
        rngs = [generator(self.config.seed, "picture", number, place) for place in range(len(samples))]
        noisy = noised(samples, rngs, self.config.timestep_sampling, self.schedule)
        return {**noisy, **self.job.conditions(samples, rngs)}

    def _log(self) -> None:
        losses = torch.stack([loss for _, loss in self.pending]).tolist() if self.pending else []
        for (step, _), loss in zip(self.pending, losses, strict=True):
            if not math.isfinite(loss):
                raise CamouflageError(f"The loss of step {step} is {loss}. Nothing of it is saved: the checkpoint "
                                      "before is whole. Export that one and begin a new run with it (--set init=FILE, "
                                      "another --output), with a smaller optimizer.learning_rate, or with precision "
                                      "bf16 or fp32 instead of fp16.")
            if self.writer is not None:
                self.writer.add_scalar("train/loss", loss, step)
        if self.writer is not None and losses:
            now = time.monotonic()
            pictures = len(losses) * self.group * self.config.batch_size
            self.writer.add_scalar("train/learning_rate", self.optimizer.param_groups[0]["lr"], self.step)
            self.writer.add_scalar("speed/pictures_per_second", pictures / (now - self.logged_at), self.step)
            if torch.cuda.is_available() and self.accelerator.device.type == "cuda":
                self.writer.add_scalar("speed/peak_memory_GB", torch.cuda.max_memory_allocated() / 1e9, self.step)
        self.pending, self.logged_at = [], time.monotonic()

    def _tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        tensors = {WEIGHTS: {name: parameter.detach() for name, parameter in self.job.trained.items()}}
        if self.ema is not None:
            tensors[EMA] = dict(zip(self.job.trained, self.ema.shadow_params, strict=True))
        return tensors

    def _save(self) -> None:
        self._log()
        if self.main:
            scaler = self.accelerator.scaler
            optimizer = {"optimizer": self.optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else {}}
            checkpoints.save(self.folder, self.step, self._tensors(), optimizer, self.described)
            checkpoints.prune(self.folder, self.config.checkpoints.keep_last, self.config.checkpoints.keep_every)
            self.writer.flush()
        self.accelerator.wait_for_everyone()

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Puts optimiser, EMA and step back; the weights are there already."""
        self.step = checkpoint.step
        state = checkpoint.optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            shadow = checkpoint.tensors(EMA)
            for kept, name in zip(self.ema.shadow_params, self.job.trained, strict=True):
                kept.copy_(shadow[name])
            self.ema.optimization_step = checkpoint.step

    def _validate(self) -> None:
        if self.main and self.held_out:
            samples = [self.dataset[i] for i in self.held_out]
            tensors = self._tensors()
            report = self.job.validate(self.step, tensors.get(EMA, tensors[WEIGHTS]), samples,
                                       self.accelerator.device)
            for name, value in report.numbers.items():
                self.writer.add_scalar(f"validation/{name}", value, self.step)
            for name, picture in report.pictures.items():
                self.writer.add_image(f"validation/{name}", picture, self.step, dataformats="HWC")
            self.tell(f"Step {self.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in
                                                        report.numbers.items()))
        self.accelerator.wait_for_everyone()

    def _describe(self) -> dict[str, Any]:
        info = self.dataset.info
        return {
            **self.job.described, "config": to_dict(self.config), "group": self.group,
            "dataset": {"pictures": len(self.dataset), "trained_on": len(self.trained_on),
                        "resolution": info.resolution, "base_model": info.base_model, "vae": info.vae,
                        "image_encoder": info.image_encoder, "fit": info.fit, "image": info.image,
                        "sources": fingerprint(self.dataset.sources)},
            "git_revision": git_revision(),
        }


def candidates(dataset: Dataset, config: Config) -> list[int]:
    """Positions of the pictures that a training may see.

    Raises:
        CamouflageError: there are none.
    """
    with_faces = isinstance(config, Light) and config.faces_only
    positions = [i for i in range(len(dataset)) if dataset.persons[i] or not with_faces]
    if not positions:
        raise CamouflageError(f"None of the dataset's {len(dataset)} pictures shows a face, and the Light adapter "
                              "learns from faces. Prepare photos of persons, or allow pictures without a face: "
                              "--set faces_only=false.")
    return positions


def _fill(parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


@contextlib.contextmanager
def _graceful_stop(accelerator: Accelerator) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM let the step end; gives a function that says whether one came, the same in all processes."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number))
              for number in (signal.SIGINT, signal.SIGTERM)}

    def stopped() -> bool:
        if accelerator.num_processes == 1:
            return bool(came)
        if came:
            accelerator.set_trigger()
        return accelerator.check_trigger()

    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
