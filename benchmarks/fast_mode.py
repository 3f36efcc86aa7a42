"""Compares fast mode with exact mode on small trained networks: what it changes, and whether it comes nearer to a face.

    python -m benchmarks.fast_mode [--seeds 32] [--out DIR] [--more]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set; it needs no GPU. The networks and the pictures are
those of benchmarks.small_world; the first run trains them and keeps them in the cache. Base samples as it is shipped:
five scene controls, lineart to the half of the schedule, a_s 1.25, cfg 7, 30 steps of dpmpp_2m_sde with karras. Every
seed has an original of its own. ``--more`` adds settings that are not shipped.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.base import SCENE
from benchmarks.small_world import BAD, CELLS, EMPTY, Drawn, World, draw, embedding, joined, world
from camouflage.method.shortcuts import FAST, Shortcuts

EXACT = "exact"
MODES: dict[str, Shortcuts | None] = {
    EXACT: None, "reuse_scene": Shortcuts(reuse_scene=True), "reuse_deep": Shortcuts(reuse_deep=True),
    "negative_until": Shortcuts(negative_until=FAST.negative_until),
    "fast": FAST}
MORE: dict[str, Shortcuts | None] = {
    **{f"negative_until {until}": Shortcuts(negative_until=until) for until in (0.5, 0.7, 0.8)},
    **{f"identity_until {until}": Shortcuts(identity_until=until) for until in (0.5, 0.6, 0.7, 0.8, 0.9)},
    "reuse_scene, reuse_deep": Shortcuts(True, True),
    "fast, identity_until 0.8": replace(FAST, identity_until=0.8),
    "fast, negative_until 1": replace(FAST, negative_until=1.0)}
SCALE, CFG, STEPS, BATCH = 1.25, 7.0, 30, 8


@dataclass(frozen=True)
class Row:
    """One mode over all seeds; "change" is the mean of the differences to exact mode, "error" its standard error.

    Attributes:
        deviation: relative RMS difference of the result.
        cosine: of result and original, both without their mean; higher is nearer to the original.
        distance: of the recogniser, 0..2; lower is nearer.
        operations: of the sampling, with these networks, as a part of exact mode's.
    """

    mode: str
    deviation: float
    cosine: float
    cosine_change: float
    cosine_error: float
    distance: float
    distance_change: float
    distance_error: float
    operations: float

    @property
    def no_nearer(self) -> bool:
        """Whether results are not nearer to the original than exact mode's, by more than one standard error."""
        return self.cosine_change <= self.cosine_error and -self.distance_change <= self.distance_error


class Noise:
    """The host's NOISE: every picture has its own seed."""

    def __init__(self, seeds: Sequence[int]):
        self.seeds, self.seed = seeds, seeds[0]

    def generate_noise(self, latent: dict) -> torch.Tensor:
        """Like the latent."""
        return torch.cat([torch.randn(1, *latent["samples"].shape[1:], generator=torch.Generator().manual_seed(seed))
                          for seed in self.seeds])


def originals(seeds: Sequence[int]) -> Drawn:
    """One for each seed, none of which a network was trained on."""
    return joined([draw(1, torch.Generator().manual_seed(1000 + seed), clean=True) for seed in seeds])


def conditionings(host: Any, nets: World, drawn: Drawn) -> dict[str, list]:
    """Positive, negative and identity of Base."""
    scene: dict[str, Any] = {"lineart_end_percent": 0.5}
    for name, image in drawn.maps().items():
        scene |= {f"{name}_map": image, f"{name}_strength": SCENE[name], f"{name}_control_net": nets.nets[name]}
    bad, empty = (embedding(torch.full_like(drawn.texts, text)) for text in (BAD, EMPTY))
    positive, negative = host.run("CamouflageSceneControl", positive=[[embedding(drawn.texts), {}]],
                                  negative=[[bad, {}]], **scene)
    identity, = host.run("CamouflageIdentityControl", conditioning=[[empty, {}]], control_net=nets.nets["identity"],
                         image=drawn.pictures, strength=1.0)
    return {"positive": positive, "negative": negative, "identity": identity}


def sample(host: Any, nets: World, conds: Mapping[str, list], seeds: Sequence[int], shortcuts: Shortcuts | None,
           scale: float = SCALE, steps: int = STEPS) -> torch.Tensor:
    """B x 4 x 8 x 8 in the model's scale."""
    parts = shortcuts or FAST
    model, = host.run("CamouflageAccelerate", model=nets.model, mode=EXACT if shortcuts is None else "fast",
                      graphs="off", **asdict(parts))
    guider, = host.run("CamouflageGuider", model=model, **conds, cfg=CFG, anonymization_scale=scale, start_percent=0.0,
                       end_percent=1.0)
    sampler, = host.run("KSamplerSelect", sampler_name="dpmpp_2m_sde")
    sigmas, = host.run("BasicScheduler", model=model, scheduler="karras", steps=steps, denoise=1.0)
    latent = {"samples": torch.zeros(len(seeds), 4, CELLS, CELLS)}
    with torch.inference_mode():
        result = host.run("SamplerCustomAdvanced", noise=Noise(seeds), guider=guider, sampler=sampler, sigmas=sigmas,
                          latent_image=latent)[0]["samples"]
        return model.model.process_latent_in(result)


def measure(host: Any, nets: World, modes: Mapping[str, Shortcuts | None], seeds: int) -> list[Row]:
    """Samples every mode with every seed. Modes must contain "exact"."""
    results: dict[str, list[torch.Tensor]] = {mode: [] for mode in modes}
    flops = dict.fromkeys(modes, 0)
    photos = []
    for first in range(0, seeds, BATCH):
        batch = range(first, min(first + BATCH, seeds))
        photos.append(originals(batch))
        conds = conditionings(host, nets, photos[-1])
        for mode, shortcuts in modes.items():
            with FlopCounterMode(display=False) as counter:
                results[mode].append(sample(host, nets, conds, batch, shortcuts))
            flops[mode] += counter.get_total_flops()
    original = joined(photos).latents
    latents = {mode: torch.cat(parts) for mode, parts in results.items()}
    exact = latents[EXACT]

    def row(mode: str) -> Row:
        changed = (latents[mode] - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        cosine, cosine_change = _beside(cosines(latents[mode], original), cosines(exact, original))
        distance, distance_change = _beside(nets.distances(latents[mode], original), nets.distances(exact, original))
        return Row(mode, float(changed.mean()), cosine, *cosine_change, distance, *distance_change,
                   flops[mode] / flops[EXACT])

    return [row(mode) for mode in modes]


def cosines(results: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    """One a picture, without each picture's mean."""
    results, original = (latents.flatten(1) - latents.flatten(1).mean(1, keepdim=True) for latents in
                         (results, original))
    return torch.nn.functional.cosine_similarity(results, original)


def _beside(values: torch.Tensor, exact: torch.Tensor) -> tuple[float, tuple[float, float]]:
    """The mean, and the mean of the differences with its standard error."""
    change = values - exact
    return float(values.mean()), (float(change.mean()), float(change.std() / len(change)**0.5))


def main() -> None:
    """Trains or loads, samples, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=32, help="pictures of each mode (32)")
    parser.add_argument("--out", type=Path, help="folder for fast_mode.json")
    parser.add_argument("--more", action="store_true", help="settings that are not shipped, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from benchmarks.flops import start_host
    from benchmarks.passes import parts, passes, schedule, stock_passes, total

    host = start_host()
    nets = world(Path(os.environ.get("CAMOUFLAGE_CACHE") or Path.home() / ".cache" / "camouflage"))
    modes = MODES | (MORE if options.more else {})
    cost = parts(host, 768)
    stock = total(stock_passes(schedule(host, STEPS, None)), cost)
    rows = measure(host, nets, modes, options.seeds)
    print(f"\n{options.seeds} seeds, {STEPS} steps of dpmpp_2m_sde, cfg {CFG:g}, a_s {SCALE:g}; torch "
          f"{torch.__version__}\n\n| Mode | Deviation | Cosine to the original | Change | Distance | Change "
          "| Operations: these networks | full shapes, of stock |\n" + "|---" * 8 + "|")
    written = []
    for row in rows:
        full = total(passes(schedule(host, STEPS, modes[row.mode]), modes[row.mode]), cost) / stock
        print(f"| {row.mode} | {row.deviation:.3f} | {row.cosine:.3f} | {row.cosine_change:+.4f} +- "
              f"{row.cosine_error:.4f} | {row.distance:.3f} | {row.distance_change:+.4f} +- {row.distance_error:.4f} | "
              f"{row.operations:.2f} | {full:.2f} |{'' if row.no_nearer else ' NEARER'}")
        written.append({**asdict(row), "no_nearer": row.no_nearer, "operations_full_shapes": full})
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "fast_mode.json").write_text(json.dumps({"seeds": options.seeds, "modes": written}, indent=1))


if __name__ == "__main__":
    main()
