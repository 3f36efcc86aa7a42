"""Trains the drawn world's family, paints drawn persons with Base and Light, and has them judged.

    python -m benchmarks.drawn_world --output DIR [--minutes 100] [--people 50] [--seed 0] [--published]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set; it needs no GPU. ``--minutes`` is how long it trains
on two cores; a training that was stopped goes on. Written are networks (DIR/networks), ``results.json``, and plots.
Base samples with the pack's guider and scene controls, Light with its adapter and map, both by the host's own sampler
from noise alone. ``--published`` also writes the files that ComfyUI's stock loaders read (DIR/models, about 1 GB).

The queries are what was painted, the gallery is another drawing of each person. Faces are cut out where the drawing
has them, so that the attacker finds every face; faces that are not there any more are counted apart.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.base import SCENE
from benchmarks.drawn_world_plots import plot, plot_losses
from benchmarks.fast_mode import Noise
from camouflage.evaluation.estimates import estimate
from camouflage.evaluation.identification import rank
from camouflage.method.shortcuts import FAST
from testing.world import family, judges, networks
from testing.world.drawing import (
    CELLS,
    DRAWN,
    Drawing,
    Scene,
    consistent,
    draw,
    picked,
    random_attributes,
    random_identities,
    random_scene,
)

SCALES = (0.0, 0.5, 1.0, 1.25, 2.0)
PAPER = 1.25
STRENGTH = 0.6  # of each scene control
LINEART_END = 0.5
STEPS, SAMPLER, BATCH = 20, "dpmpp_2m_sde", 10
NO_CLAIM = "Drawn persons; no claim about photos"


@dataclass(frozen=True)
class Painter:
    """What samples.

    Attributes:
        host: the host in this process (``benchmarks.host.Host``, or the tests' own).
        nets: the trained family.
        control_nets: CONTROL_NETs by name.
        vae, light_adapter: loaded by the host's and the pack's loaders.
        steps: of the sampler.
    """

    host: Any
    nets: family.Family
    control_nets: dict[str, Any]
    vae: Any
    light_adapter: Any
    steps: int = STEPS

    @property
    def scene(self) -> set[str]:
        """The scene controls that there are."""
        return self.control_nets.keys() - {"identity"}

    def base(self, scale: float, drawing: Drawing, seeds: Sequence[int], without: Collection[str] = (),
             fast: bool = False) -> torch.Tensor:
        """Base's pictures of drawings, cells B x 3 x 16 x 16P, perhaps without some scene controls or in fast mode."""
        text = [[family.no_text(), {}]]
        scene: dict[str, Any] = {"lineart_end_percent": LINEART_END, **{f"{name}_strength": STRENGTH for name in SCENE}}
        for name in sorted(self.scene.difference(without)):
            scene |= {f"{name}_map": drawing.maps[name].movedim(1, -1), f"{name}_control_net": self.control_nets[name]}
        positive, negative = self.host.run("CamouflageSceneControl", positive=text, negative=text, **scene)
        identity, = self.host.run("CamouflageIdentityControl", conditioning=text, image=drawing.pictures,
                                  control_net=self.control_nets["identity"], strength=1.0, vae=self.vae)
        model, = self.host.run("CamouflageAccelerate", model=self.nets.model, mode="fast" if fast else "exact",
                               graphs="off", **asdict(FAST))
        guider, = self.host.run("CamouflageGuider", model=model, positive=positive, negative=negative,
                                identity=identity, cfg=1.0, anonymization_scale=scale, start_percent=0.0,
                                end_percent=1.0)
        return self._sample(guider, seeds, drawing.persons)

    def light(self, drawing: Drawing, seeds: Sequence[int]) -> torch.Tensor:
        """Light's pictures of the attributes and places of drawings, cells B x 3 x 16 x 16P."""
        steered, = self.host.run("CamouflageApplyLightAdapter", conditioning=[[family.no_text(), {}]],
                                 light_adapter=self.light_adapter, map=family.light_maps(drawing),
                                 strength=1.0, start_percent=0.0, end_percent=1.0)
        guider, = self.host.run("CFGGuider", model=self.nets.model, positive=steered, negative=steered, cfg=1.0)
        return self._sample(guider, seeds, drawing.persons)

    def _sample(self, guider: Any, seeds: Sequence[int], persons: int) -> torch.Tensor:
        sampler, = self.host.run("KSamplerSelect", sampler_name=SAMPLER)
        sigmas, = self.host.run("BasicScheduler", model=self.nets.model, scheduler="karras", steps=self.steps,
                                denoise=1.0)
        latent = {"samples": torch.zeros(len(seeds), 4, CELLS, CELLS * persons)}
        with torch.inference_mode():
            found = self.host.run("SamplerCustomAdvanced", noise=Noise(seeds), guider=guider, sampler=sampler,
                                  sigmas=sigmas, latent_image=latent)[0]["samples"]
            return networks.cells(self.nets.model.model.process_latent_in(found))


def painter(host: Any, folder: Path, steps: int = STEPS) -> Painter:
    """Loads what was trained into ``folder``."""
    import comfy.controlnet
    import comfy.sd

    loader = host.pack("camouflage.comfy.light_adapter") if hasattr(host, "pack") else host.module(
        "camouflage.comfy.light_adapter")
    nets = family.load(folder)
    controls = {name: comfy.controlnet.ControlNet(net, load_device=networks.CPU)
                for name, net in nets.control_nets.items()}
    return Painter(host, nets, controls, comfy.sd.VAE(sd=networks.vae_state()), loader.load(nets.light), steps)


def in_batches(paint: Callable[[Drawing, Sequence[int]], torch.Tensor], drawing: Drawing,
               first_seed: int) -> torch.Tensor:
    """Paints all drawings, some at a time; picture i has the seed ``first_seed + i``."""
    count = len(drawing.identities)
    return torch.cat([paint(picked(drawing, slice(start, start + BATCH)),
                            range(first_seed + start, first_seed + min(start + BATCH, count)))
                      for start in range(0, count, BATCH)])


def ranked(judge: judges.Judges, cells: torch.Tensor, drawing: Drawing, gallery: torch.Tensor) -> dict[str, Any]:
    """Rank-1 of one picture of each person in the gallery's embeddings, and how many faces are still there."""
    places, people = drawing.scene.places[:, 0], np.arange(len(cells))
    distances = judges.distances(judge.embeddings(cells, places), gallery)
    hits = rank(distances, people, people).hits[:, 0]
    there = judge.there(cells, places) > 0.5
    read = judge.attributes(cells, places) > 0.5
    return {"rank_1": _json(hits, people), "faces_there": _json(there.numpy(), people),
            "distance_to_own": _json(distances.diagonal(), people),
            "attributes_as_original": _json(agreement(read, drawing.attributes[:, 0]), people),
            "chance_rank_1": 1 / len(people)}


def agreement(read: torch.Tensor, wanted: torch.Tensor) -> np.ndarray:
    """The share of attributes that are read as wanted, one a face; n x 12 booleans both."""
    return (read == wanted).float().mean(1).double().numpy()


def base_curve(paint: Painter, people: torch.Tensor, seed: int,
               report: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[torch.Tensor], Drawing, torch.Tensor]:
    """Base at every scale: rows, pictures, originals, and the gallery's embeddings."""
    rng, judge = torch.Generator().manual_seed(seed), paint.nets.judges
    original, other = (draw(len(people), rng, identities=people) for _ in range(2))
    gallery = judge.embeddings(other.cells, other.scene.places[:, 0])
    rows, painted = [{"method": "original", "scale": None, **ranked(judge, original.cells, original, gallery)}], []
    for scale in SCALES:
        began = time.monotonic()
        painted.append(in_batches(partial(paint.base, scale), original, seed))
        rows.append({"method": "base", "scale": scale, **ranked(judge, painted[-1], original, gallery)})
        report(f"Base, a_s {scale:g}: rank-1 {rows[-1]['rank_1']['value']:.2f}, faces there "
               f"{rows[-1]['faces_there']['value']:.2f} ({time.monotonic() - began:.0f} s)")
    return rows, painted, original, gallery


def outlines_kept(painted: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """How alike the outlines are outside of the heads: the correlation of the gradients' lengths, one a picture."""
    x, y, size, _ = drawing.scene.places[:, 0, :, None, None].unbind(1)
    rows, columns = (torch.arange(side - 1) + 1.0 for side in painted.shape[-2:])
    outside = ((columns - x) / (1.5 * size)) ** 2 + ((rows[:, None] - y) / (1.7 * size)) ** 2 > 1

    def outlines(cells: torch.Tensor) -> torch.Tensor:
        across, down = cells[..., :-1, 1:] - cells[..., :-1, :-1], cells[..., 1:, :-1] - cells[..., :-1, :-1]
        return (across.square() + down.square()).sum(1).sqrt()

    def one(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.corrcoef(torch.stack([a, b]))[0, 1]

    return torch.stack([one(a[there], b[there]) for a, b, there in zip(
        outlines(painted), outlines(drawing.cells), outside, strict=True)])


def outlines_of(scene: Scene, people: int, seed: int) -> float:
    """How alike the outlines of drawings of two persons in one scene are: as much as a scene control can keep."""
    rng = torch.Generator().manual_seed(seed)
    one, other = (Drawing(scene, who, random_attributes(who, rng))
                  for who in (random_identities(people, 1, rng) for _ in range(2)))
    return float(outlines_kept(one.cells, other).mean())


def variants(paint: Painter, original: Drawing, gallery: torch.Tensor, exact: torch.Tensor, seed: int,
             report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Base at the paper's scale as it is, without each of the scene controls, without all of them, and in fast mode.

    Args:
        exact: what Base painted as it is, with the same seeds.
    """
    runs: dict[str, Callable[[Drawing, Sequence[int]], torch.Tensor]] = {
        f"without {name}": partial(paint.base, PAPER, without=[name]) for name in sorted(paint.scene)}
    runs["without any"] = partial(paint.base, PAPER, without=paint.scene)
    runs["fast"] = partial(paint.base, PAPER, fast=True)
    found = []
    for name, run in {"as it is": None, **runs}.items():
        began = time.monotonic()
        cells = in_batches(run, original, seed) if run else exact
        people = np.arange(len(cells))
        found.append({"variant": name, **ranked(paint.nets.judges, cells, original, gallery),
                      "outlines_kept": _json(outlines_kept(cells, original).double().numpy(), people),
                      "changed": _json((cells - exact).abs().mean((1, 2, 3)).double().numpy(), people)})
        report(f"Base {name}: rank-1 {found[-1]['rank_1']['value']:.2f}, outlines kept "
               f"{found[-1]['outlines_kept']['value']:.2f} ({time.monotonic() - began:.0f} s)")
    return found


def light_attributes(paint: Painter, original: Drawing, cells: torch.Tensor) -> dict[str, Any]:
    """What is read from Light's pictures beside their own map, and beside the next person's, which is chance."""
    places, wanted = original.scene.places[:, 0], original.attributes[:, 0]
    read = paint.nets.judges.attributes(cells, places) > 0.5
    people = np.arange(len(cells))
    return {"agreement": _json(agreement(read, wanted), people),
            "agreement_with_anothers": _json(agreement(read, wanted.roll(1, 0)), people),
            "balanced_accuracy": {name: judges.balanced_accuracy(read[:, i], wanted[:, i])
                                  for i, name in enumerate(DRAWN)}}


def separation(paint: Painter, pairs: int, seed: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """Two persons side by side: what edits of one, and an exchange, do to the readings of each.

    The same noise and places throughout; only the map's attributes change.
    """
    rng = torch.Generator().manual_seed(seed)
    who = random_identities(pairs, 2, rng)
    drawing = Drawing(random_scene(pairs, 2, rng), who, random_attributes(who, rng))
    first, second = drawing.attributes.unbind(1)

    def painted(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        changed = Drawing(drawing.scene, who, consistent(torch.stack([left, right], 1)))
        cells = in_batches(paint.light, changed, seed)
        return cells, torch.stack([paint.nets.judges.attributes(cells, drawing.scene.places[:, i]) for i in (0, 1)], 1)

    runs = [painted(first, second), painted(second, second), painted(first, first), painted(second, first)]
    as_is, left, right, exchanged = (read for _, read in runs)
    numbers = np.arange(pairs)
    differ = (first != second).float()

    def moved(read: torch.Tensor, person: int) -> np.ndarray:
        change = (read - as_is)[:, person].abs() * differ
        return (change.sum(1) / differ.sum(1).clamp(min=1)).double().numpy()

    def right_share(read: torch.Tensor, wanted: tuple[torch.Tensor, torch.Tensor]) -> np.ndarray:
        right_ones = [((read[:, i] > 0.5) == wanted[i]).float() * differ for i in (0, 1)]
        return (sum(right_ones).sum(1) / (2 * differ.sum(1).clamp(min=1))).double().numpy()

    result = {"pairs": pairs,
              "left_edited": {"left": _json(moved(left, 0), numbers), "right": _json(moved(left, 1), numbers)},
              "right_edited": {"left": _json(moved(right, 0), numbers), "right": _json(moved(right, 1), numbers)},
              "as_is_read_as_own": _json(right_share(as_is, (first, second)), numbers),
              "exchanged_read_as_exchanged": _json(right_share(exchanged, (second, first)), numbers)}
    return result, [cells for cells, _ in runs]


def _json(values: np.ndarray, persons: np.ndarray) -> dict[str, Any] | None:
    found = estimate(values, persons)
    return None if found is None else found.to_json()


def measure(paint: Painter, people: int, seed: int, output: Path, report: Callable[[str], None] = print) -> dict:
    """Paints, judges, writes ``results.json`` and the plots, and returns what stands in it."""
    judge = paint.nets.judges
    quality = judges.qualities(judge, seed + 1)
    report(f"judges on drawings: rank-1 {quality.rank_1:.2f}, balanced accuracy "
           f"{np.mean(list(quality.balanced_accuracy.values())):.2f}")
    rng = torch.Generator().manual_seed(seed + 2)
    rows, painted, original, gallery = base_curve(paint, random_identities(people, 1, rng), seed + 3, report)
    light = in_batches(paint.light, original, seed + 4)
    rows.append({"method": "light", "scale": None, **ranked(judge, light, original, gallery)})
    attributes = light_attributes(paint, original, light)
    report(f"Light: rank-1 {rows[-1]['rank_1']['value']:.2f}, attributes as in the map "
           f"{attributes['agreement']['value']:.3f}, as in another's "
           f"{attributes['agreement_with_anothers']['value']:.3f}")
    changed = variants(paint, original, gallery, painted[SCALES.index(PAPER)], seed + 3, report)
    pairs, pictures = separation(paint, people // 2, seed + 5)
    results = {"says": NO_CLAIM, "people": people, "seed": seed, "steps": paint.steps, "sampler": SAMPLER,
               "scene_strength": STRENGTH, "scene_controls": sorted(paint.scene),
               "judges": asdict(quality), "rows": rows, "light": attributes, "variants": changed,
               "outlines_of_other_persons": outlines_of(original.scene, people, seed + 6), "separation": pairs}
    (output / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    plot(results, output, {"original": original.cells, **{f"a_s = {scale:g}": cells for scale, cells in
                                                         zip(SCALES, painted, strict=True)}, "Light": light},
         dict(zip(("as drawn", "left edited", "right edited", "exchanged"), pictures, strict=True)), NO_CLAIM)
    return results


def main() -> None:
    """Trains what is missing, paints and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder, made if need be")
    parser.add_argument("--minutes", type=float, default=family.FULL_MINUTES, help="of training, on two cores (100)")
    parser.add_argument("--people", type=int, default=50, help="identities in the gallery (50)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (0)")
    parser.add_argument("--parts", nargs="+", default=family.PARTS, help="of the family, all without this")
    parser.add_argument("--published", action="store_true", help="also write files for ComfyUI's stock loaders")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from benchmarks.flops import start_host

    host = start_host()
    folder = options.output / "networks"
    family.train(folder, family.Recipe(options.seed, options.minutes, tuple(options.parts)), _say)
    plot_losses(json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["losses"], family.AVERAGED,
                options.output / "losses.png", NO_CLAIM)
    if options.published:
        family.publish(folder, options.output / "models")
    measure(painter(host, folder), options.people, options.seed + 100, options.output, _say)


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


if __name__ == "__main__":
    main()
