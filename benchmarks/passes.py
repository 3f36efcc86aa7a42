"""Counts what exact and fast mode leave of the operations of the stock graph, at full shapes and without a GPU.

    python -m benchmarks.passes [--size 768] [--steps 30]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set. The networks have SD 1.5's real shapes and lie on
torch's device "meta", as in benchmarks.flops; how often each part of them runs follows from the noise levels of the
host's own sampler (dpmpp_2m_sde, karras). A test compares these counts with those of a real sampling of small networks.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from benchmarks.base import SCENE
from benchmarks.flops import LINEART_END, control_net, half, sd15, sigmas_of, start_host, tflop
from benchmarks.host import Host
from benchmarks.light import CONTEXT
from camouflage.method.shortcuts import FAST, Shortcuts

STOCK, EXACT = "stock graph", "exact"


@dataclass(frozen=True)
class Call:
    """A model call: what acts at its noise level."""

    lineart: bool
    negative: bool
    identity: bool


def passes(calls: Iterable[Call], shortcuts: Shortcuts | None, scene: int = len(SCENE), light: bool = False
           ) -> Counter[str]:
    """Passes of one picture through each part: "unet", "shallow" (its outermost level), "controlnet" (without its hint
    blocks), "hint" and "attention" (the self-attention before the first text; below 0, because every pass of UNet and
    ControlNet has it, and for positive and negative it is computed once).

    Args:
        calls: in order.
        shortcuts: None is exact mode.
        scene: how many scene ControlNets there are; 0 for Light.
        light: without identity.
    """
    counted: Counter[str] = Counter(hint=0 if light else scene + 1)  # once a sampling
    known: set[tuple] = set()  # what a call that reuses finds
    for number, call in enumerate(calls):
        reuses = shortcuts is not None and shortcuts.reuses(number)
        text = 2 if call.negative else 1
        controls = 0 if light else scene if call.lineart else scene - 1
        branches = [(text, controls)] if light or not call.identity else [(text, controls), (1, 0)]
        for pictures, nets in branches:
            deep = reuses and shortcuts is not None and shortcuts.reuse_deep and ("deep", pictures, nets > 0) in known
            counted["shallow" if deep else "unet"] += pictures
            counted["attention"] -= pictures - 1
            known.add(("deep", pictures, nets > 0))
            entry = ("scene", pictures, nets)
            if nets and not (reuses and shortcuts is not None and shortcuts.reuse_scene and entry in known):
                counted["controlnet"] += pictures * nets
                counted["attention"] -= (pictures - 1) * nets
                known.add(entry)
            elif not nets and not light:
                counted["controlnet"] += 1  # the identity's
    return counted


def stock_passes(calls: Iterable[Call], scene: int = len(SCENE), light: bool = False, batch: bool = False
                 ) -> Counter[str]:
    """The same of the stock graph, which leaves nothing out and embeds every hint at every call: of one photo once for
    positive and negative together, of a ``batch`` of photos for each apart."""
    calls = [Call(call.lineart, True, True) for call in calls]
    counted = passes(calls, None, scene, light)
    counted["attention"] = 0
    counted["hint"] = 0 if light else sum((scene if call.lineart else scene - 1) * (1 + batch) + 1 for call in calls)
    return counted


def schedule(host: Host, steps: int, shortcuts: Shortcuts | None) -> list[Call]:
    """The model calls of ``dpmpp_2m_sde`` with ``karras``."""
    sigmas, to_sigma = sigmas_of(host, "dpmpp_2m_sde", steps)
    parts = shortcuts or Shortcuts()
    return [Call(sigma >= to_sigma(LINEART_END), sigma >= to_sigma(parts.negative_until),
                 sigma >= to_sigma(parts.identity_until)) for sigma in sigmas]


def parts(host: Host, size: int) -> dict[str, float]:
    """TFLOP of one pass of each part, for one picture."""
    cells = size // 8
    unet = sd15(320, "meta").get_model_object("diffusion_model")
    deep = host.pack("camouflage.comfy.acceleration.deep_features").DeepFeatures(unet)
    control, hint = control_net(size)
    inputs = (half(1, 4, cells, cells), half(1), half(1, 77, CONTEXT), None, None, {})
    features: list[torch.Tensor] = []
    whole = tflop(lambda: features.append(deep.whole(*inputs)[1]))
    first = host.pack("camouflage.comfy.acceleration.first_attention").FirstAttention(unet)
    first.batch.copies = 2
    both = tflop(lambda: first.network(half(2, 4, cells, cells), half(2), half(2, 77, CONTEXT), None, None, {}))
    return {"unet": whole, "shallow": tflop(lambda: deep.shallow(features[0], *inputs)), "hint": hint,
            "controlnet": control, "attention": 2 * whole - both}


def total(counted: Counter[str], cost: dict[str, float]) -> float:
    """TFLOP of a picture."""
    return sum(cost[name] * count for name, count in counted.items())


def ratios(host: Host, size: int, steps: int) -> dict[str, dict[str, float]]:
    """TFLOP a picture of Base and of Light, for the stock graph, exact mode, every part of fast mode, and all."""
    cost = parts(host, size)
    modes: dict[str, Shortcuts | None] = {
        EXACT: None, "reuse_scene": Shortcuts(reuse_scene=FAST.reuse_scene),
        "reuse_deep": Shortcuts(reuse_deep=FAST.reuse_deep),
        "negative_until": Shortcuts(negative_until=FAST.negative_until), "fast": FAST}
    result = {}
    for pipeline, light, batch in (("Base, one photo", False, False), ("Base, a photo of a batch", False, True),
                                   ("Light", True, False)):
        scene = 0 if light else len(SCENE)
        result[pipeline] = {STOCK: total(stock_passes(schedule(host, steps, None), scene, light, batch), cost)}
        result[pipeline] |= {name: total(passes(schedule(host, steps, mode), mode, scene, light), cost)
                             for name, mode in modes.items()}
    return result


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=768, help="px of the square picture, a multiple of 64 (768)")
    parser.add_argument("--steps", type=int, default=30, help="steps of dpmpp_2m_sde (30)")
    options = parser.parse_args()
    host = start_host()
    for name, tflops in parts(host, options.size).items():
        print(f"{name:12} {tflops:8.3f} TFLOP a pass")
    for pipeline, modes in ratios(host, options.size, options.steps).items():
        print(f"\nCAMOUFLaGE-{pipeline}, {options.size} px, {options.steps} steps, sampling only")
        for name, tflops in modes.items():
            print(f"{name:16} {tflops:8.1f} TFLOP {tflops / modes[STOCK]:8.3f} of the stock graph")


if __name__ == "__main__":
    main()
