"""Trains the drawn world's family: first the UNet, then each ControlNet and the Light adapter beside the frozen UNet.

All that decides about the weights is the :class:`Recipe`. Every part is a file that appears whole; a part that is in
training is kept every ``KEPT`` steps, with optimiser, random numbers and losses, so that a stopped training goes on as
if it had not stopped. The host must be importable.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from camouflage.errors import CamouflageError
from camouflage.method.attribute_map import attribute_map

from . import judges, networks
from .drawing import CELLS, DRAWN, Drawing, draw

SCENE = ("pose", "segmentation", "lineart")
PARTS = ("unet", "identity", "light", *SCENE)
FULL_MINUTES = 100  # that the steps below take on two cores
STEPS = {"unet": 3500, "identity": 600, "light": 1200, **dict.fromkeys(SCENE, 300)}
RATES = {"unet": 1e-3, "identity": 2e-3, "light": 1e-3, **dict.fromkeys(SCENE, 1.5e-3)}
BATCHES = {"unet": 16, "identity": 8, "light": 8, **dict.fromkeys(SCENE, 8)}
KEPT, AVERAGED = 100, 25  # steps between two checkpoints; steps that a number of a curve is the mean of
FEWEST = 20  # steps of a part
_LATENT_HINT = 8  # the host enlarges a hint of four channels so many times
_NO_ATTRIBUTE, _NO_MAP = 0.1, 0.1  # shares of what the Light adapter's training leaves out
_DECAY = 0.995  # of the moving average that is written
_NO_TEXT = (1, 1, networks.CONTEXT)


@dataclass(frozen=True)
class Recipe:
    """What is trained, and from which random numbers.

    Attributes:
        minutes: on two cores, roughly; steps follow from it alone, so that every machine trains the same.
    """

    seed: int = 0
    minutes: float = FULL_MINUTES
    parts: tuple[str, ...] = PARTS
    steps: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        unknown = set(self.parts) - set(PARTS)
        if self.minutes <= 0 or unknown or "unet" not in self.parts:
            raise CamouflageError(f"A recipe has more than 0 minutes, the part unet and any others of "
                                  f"{', '.join(PARTS)}, but got {self.minutes} minutes and {', '.join(self.parts)}.")
        part = self.minutes / FULL_MINUTES
        object.__setattr__(self, "steps", {name: max(FEWEST, round(STEPS[name] * part)) for name in self.parts})


@dataclass(frozen=True)
class Family:
    """The trained networks: a MODEL of the host's, ControlNets by name, the adapter's file, and the judges."""

    model: Any
    control_nets: dict[str, torch.nn.Module]
    light: Path
    judges: judges.Judges


def no_text() -> torch.Tensor:
    """In a text encoder's place, 1 x 1 x 768."""
    return torch.zeros(_NO_TEXT)


def train(folder: Path, recipe: Recipe, report: Callable[[str], None] = print) -> None:
    """Trains what is not there yet into ``folder``: ``PART.safetensors``, ``judges.safetensors``, ``recipe.json``.

    Raises:
        CamouflageError: the folder holds networks of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = _record(folder, recipe)
    if not (folder / "judges.safetensors").is_file():
        _save(lambda file: judges.save(judges.train(recipe.seed + 1, report), file), folder / "judges.safetensors")
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(recipe.seed)
        model = networks.model()
        unet = model.model.diffusion_model
        for part in recipe.parts:
            torch.manual_seed(_seed(recipe, part))  # a part's first weights do not depend on which others are trained
            network = unet if part == "unet" else _new(part, unet)
            if not (folder / f"{part}.safetensors").is_file():
                record["losses"][part] = _Training(folder, part, network, model, recipe, report).run()
                _write_record(folder, record)
            if part == "unet":
                unet.load_state_dict(load_file(folder / "unet.safetensors"))
                unet.requires_grad_(False)


def load(folder: Path) -> Family:
    """What :func:`train` wrote."""
    model = networks.model()
    unet = model.model.diffusion_model
    unet.load_state_dict(load_file(folder / "unet.safetensors"))
    unet.eval().requires_grad_(False)
    nets = {}
    for name in ("identity", *SCENE):
        if (folder / f"{name}.safetensors").is_file():
            nets[name] = _new(name, unet)
            nets[name].load_state_dict(load_file(folder / f"{name}.safetensors"))
            nets[name].eval().requires_grad_(False)
    return Family(model, nets, folder / "light.safetensors", judges.load(folder / "judges.safetensors"))


def _new(part: str, unet: torch.nn.Module) -> torch.nn.Module:
    return networks.adapter() if part == "light" else networks.control_net(4 if part == "identity" else 3, unet)


def light_maps(drawing: Drawing) -> torch.Tensor:
    """What the node Attribute Map draws of these persons, B x 41 x 16 x 16P."""
    return attribute_map(drawing.faces(), CELLS, CELLS * drawing.persons)


def hint(part: str, drawing: Drawing) -> torch.Tensor:
    """What a ControlNet sees of drawings, as the host hands it on: B x C x 128 x 128P."""
    if part == "identity":
        return networks.latents(drawing.cells).repeat_interleave(_LATENT_HINT, -1).repeat_interleave(_LATENT_HINT, -2)
    return drawing.maps[part]


def _seed(recipe: Recipe, part: str) -> int:
    return recipe.seed * 1000 + PARTS.index(part)


class _Training:
    """One part's: the loss is the mean squared error of v at noise levels that are drawn uniformly."""

    def __init__(self, folder: Path, part: str, network: torch.nn.Module, model: Any, recipe: Recipe,
                 report: Callable[[str], None]):
        self.folder, self.part, self.network, self.report = folder, part, network, report
        self.unet, self.sigmas = model.model.diffusion_model, model.model.model_sampling.sigmas
        self.steps = recipe.steps[part]
        self.rng = torch.Generator().manual_seed(_seed(recipe, part))
        parameters = networks.trained(network)
        self.optimiser = torch.optim.AdamW(parameters, lr=RATES[part], weight_decay=0.0)
        self.rates = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, RATES[part], total_steps=self.steps,
                                                         pct_start=0.1)
        self.average = {key: value.detach().clone() for key, value in network.state_dict().items()}
        self.losses: list[float] = []
        self.kept = folder / f"{part}.training"

    def run(self) -> list[float]:
        """Trains to the end, writes the moving average, and returns the curve of the loss."""
        self._resume()
        began, first = time.monotonic(), len(self.losses)
        while len(self.losses) < self.steps:
            self._step(len(self.losses))
            done = len(self.losses)
            if done % KEPT == 0 or done == self.steps:
                _save(self._keep, self.kept)
                seconds = (time.monotonic() - began) / (done - first)
                self.report(f"{self.part}: step {done} of {self.steps}, loss {self._mean(KEPT):.4f}, "
                            f"{seconds:.2f} s a step")
        state = {networks.adapter_key(key) if self.part == "light" else key: value.contiguous()
                 for key, value in self.average.items()}
        metadata = networks.ADAPTER_METADATA if self.part == "light" else None
        _save(lambda file: save_file(state, file, metadata), self.folder / f"{self.part}.safetensors")
        self.kept.unlink(missing_ok=True)
        return [sum(part) / len(part) for part in _chunks(self.losses, AVERAGED)]

    def _step(self, step: int) -> None:
        persons = 2 if step % 4 == 3 else 1
        loss = self._loss(draw(BATCHES[self.part] // persons, self.rng, persons))
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.rates.step()
        decay = min(_DECAY, (1 + step) / (10 + step))
        for key, value in self.network.state_dict().items():
            self.average[key].lerp_(value, 1 - decay)
        self.losses.append(float(loss.detach()))

    def _loss(self, drawing: Drawing) -> torch.Tensor:
        latents = networks.latents(drawing.cells)
        count = len(latents)
        timesteps = torch.randint(1000, (count,), generator=self.rng)
        noise = torch.randn(latents.shape, generator=self.rng)
        sigma = self.sigmas[timesteps].view(-1, 1, 1, 1)
        scale = (sigma**2 + 1).sqrt()
        x, wanted = (latents + sigma * noise) / scale, (noise - sigma * latents) / scale
        context = no_text().expand(count, -1, -1)
        control = None
        if self.part == "light":
            control = {"input": self.network(self._some(light_maps(drawing)))["input"]}
        elif self.part != "unet":
            control = self.network(x=x, hint=hint(self.part, drawing), timesteps=timesteps.float(), context=context)
        return (self.unet(x, timesteps.float(), context=context, control=control) - wanted).square().mean()

    def _some(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps in which some attributes, or everything, is not known."""
        known = torch.rand(len(maps), maps.shape[1] - 1, 1, 1, generator=self.rng) >= _NO_ATTRIBUTE
        there = torch.rand(len(maps), 1, 1, 1, generator=self.rng) >= _NO_MAP
        return torch.cat([maps[:, :-1] * known, maps[:, -1:]], 1) * there

    def _mean(self, last: int) -> float:
        return sum(self.losses[-last:]) / len(self.losses[-last:])

    def _keep(self, file: Path) -> None:
        torch.save({"network": self.network.state_dict(), "average": self.average, "losses": self.losses,
                    "optimiser": self.optimiser.state_dict(), "rates": self.rates.state_dict(),
                    "rng": self.rng.get_state()}, file)

    def _resume(self) -> None:
        if not self.kept.is_file():
            return
        state = torch.load(self.kept, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average, self.losses = state["average"], state["losses"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.rates.load_state_dict(state["rates"])
        self.rng.set_state(state["rng"])
        self.report(f"{self.part}: goes on at step {len(self.losses)}")


def _chunks(values: list[float], size: int) -> Iterable[list[float]]:
    return (values[start:start + size] for start in range(0, len(values), size))


def _save(write: Callable[[Path], Any], path: Path) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    write(part)
    part.replace(path)


def _record(folder: Path, recipe: Recipe) -> dict[str, Any]:
    described = json.loads(json.dumps({**asdict(recipe), "rates": RATES, "batches": BATCHES, "width": networks.WIDTH,
                                       "prediction": "v", "attributes": DRAWN}))
    path = folder / "recipe.json"
    if not path.is_file():
        _write_record(folder, {"recipe": described, "torch": torch.__version__, "losses": {}})
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["recipe"] != described:
        raise CamouflageError(f"{folder} holds networks of another recipe. Choose another --output, or the same "
                              "--minutes and --seed as before.")
    return record


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    _save(lambda file: file.write_text(json.dumps(record, indent=1), encoding="utf-8"), folder / "recipe.json")


def publish(folder: Path, models: Path) -> None:
    """Writes the family as ComfyUI's stock loaders and the pack's read it, below ``models``.

    The networks are widened (:func:`.networks.widened`) and written in half precision. The checkpoint has a random
    text encoder, since the drawn world has no words; its UNet predicts v, which the stock node ModelSamplingDiscrete
    says.
    """
    from testing.miniature.diffusion import text_encoder_shapes
    from testing.miniature.tensors import random_state

    def write(path: str, state: networks.State, metadata: dict[str, str] | None = None) -> None:
        file = models / path
        file.parent.mkdir(parents=True, exist_ok=True)
        _save(lambda part: save_file({key: value.contiguous() for key, value in state.items()}, part, metadata), file)

    def wide(part: str, prefix: str = "") -> dict[str, torch.Tensor]:
        return {prefix + key: value.half() for key, value in
                networks.widened(load_file(folder / f"{part}.safetensors")).items()}

    vae = networks.vae_state()
    text = random_state(text_encoder_shapes(), torch.Generator().manual_seed(0))
    write("checkpoints/drawn_world.safetensors", wide("unet", "model.diffusion_model.") | text
          | {f"first_stage_model.{key}": value for key, value in vae.items()})
    write("vae/drawn_world.safetensors", vae)
    for name in ("identity", *SCENE):
        if (folder / f"{name}.safetensors").is_file():
            write(f"controlnet/drawn_world_{name}.safetensors", wide(name, "control_model."))
    if (folder / "light.safetensors").is_file():
        write("camouflage/light/drawn_world.safetensors", wide("light"), networks.ADAPTER_METADATA)
