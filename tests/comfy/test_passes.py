"""What exact and fast mode leave of the stock graph's operations at full shapes; small networks really run so often."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.passes import EXACT, STOCK, Call, passes, stock_passes
from camouflage.method.shortcuts import FAST, Shortcuts
from in_host import Attended, host_folder, pictures
from sampled import sampled

ROOT = Path(__file__).resolve().parents[2]
_COUNT = """
import json, sys
from benchmarks.flops import start_host
from benchmarks.passes import ratios
print(json.dumps(ratios(start_host(), 768, 30)))
"""


@pytest.fixture(scope="module")
def tflop() -> dict[str, dict[str, float]]:
    """Counted in a process of its own, whose host takes PyTorch's attention: the CPU's asks for a device's memory."""
    done = subprocess.run([sys.executable, "-c", _COUNT], cwd=ROOT, capture_output=True, text=True, check=True,
                          env={**os.environ, "CAMOUFLAGE_COMFYUI": str(host_folder()), "PYTHONPATH": str(ROOT)})
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("graph", "exact", "fast"), [
    ("Base, one photo", 0.977, 0.5), ("Base, a photo of a batch", 0.977, 0.5), ("Light", 1.0, 0.6)])
def test_the_share_of_the_stock_graphs_operations(tflop, graph, exact, fast):
    share = {mode: count / tflop[graph][STOCK] for mode, count in tflop[graph].items()}
    print(f"\n{graph}: {tflop[graph][STOCK]:.1f} TFLOP;", {mode: round(value, 3) for mode, value in share.items()})
    assert share[EXACT] <= exact and share["fast"] <= fast
    assert 100 < tflop[graph][STOCK] < 450, "full shapes"


SHORTCUTS = {"exact": None, "fast": FAST, "scene": Shortcuts(reuse_scene=True), "deep": Shortcuts(reuse_deep=True),
             "ends": Shortcuts(negative_until=0.3, identity_until=0.7)}


@pytest.mark.parametrize("name", sampled(SHORTCUTS, 3, seed=1))
def test_a_real_sampling_passes_so_often_through_each_part(host, sd, sample, name):
    """Pictures that pass through the UNet's innermost and outermost blocks, the ControlNets, their hints, and the
    self-attention of each before the first text."""
    steps, scene = 6, ("depth", "lineart")
    maps = {}
    for seed, role in enumerate(scene):
        maps |= {f"{role}_map": pictures(seed), f"{role}_control_net": sd.nets[role]}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **maps)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(9))
    model, shortcuts = sd.model, SHORTCUTS[name]
    if shortcuts is not None:
        settings = {part: getattr(shortcuts, part) for part in Shortcuts.__slots__}
        model, = host.run("CamouflageAccelerate", model=model, mode="fast", **settings)
    guider, = host.run("CamouflageGuider", model=model, positive=positive, negative=negative, identity=identity)
    unet, nets = sd.model.model.diffusion_model, [sd.nets[role].control_model for role in (*scene, "tile")]
    with Pictures(unet.middle_block[0]) as deep, Pictures(unet.out) as outer, \
            Pictures(*(net.middle_block for net in nets)) as controls, \
            Pictures(*(net.input_hint_block for net in nets)) as hints, \
            Attended(unet, *nets) as first:
        sample(guider, steps=steps, sampler="dpmpp_2m_sde")
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=steps, denoise=1.0)
    to_sigma, parts = sd.model.get_model_object("model_sampling").percent_to_sigma, shortcuts or Shortcuts()
    calls = [Call(sigma >= to_sigma(0.5), sigma >= to_sigma(parts.negative_until),
                  sigma >= to_sigma(parts.identity_until)) for sigma in sigmas[:-1].tolist()]
    counted = passes(calls, shortcuts, len(scene))
    assert deep.count == counted["unet"] and outer.count == counted["unet"] + counted["shallow"]
    assert controls.count == counted["controlnet"] and hints.count == counted["hint"] == 3
    assert counted["attention"] < 0 and sum(first) == outer.count + controls.count + counted["attention"]


def test_the_stock_graph_passes_so_often(host, sd, sample, dual_cfg):
    maps = {"depth_map": pictures(1), "depth_control_net": sd.nets["depth"], "lineart_map": pictures(2),
            "lineart_control_net": sd.nets["lineart"]}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **maps)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(9))
    nets = [sd.nets[role].control_model for role in ("depth", "lineart", "tile")]
    with Pictures(sd.model.model.diffusion_model.out) as unet, \
            Pictures(*(net.middle_block for net in nets)) as controls, \
            Pictures(*(net.input_hint_block for net in nets)) as hints:
        sample(dual_cfg(positive, negative, identity), steps=8, sampler="dpmpp_2m_sde")
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=8, denoise=1.0)
    end = sd.model.get_model_object("model_sampling").percent_to_sigma(0.5)
    counted = stock_passes([Call(sigma >= end, True, True) for sigma in sigmas[:-1].tolist()], 2)
    assert (unet.count, controls.count, hints.count) == (counted["unet"], counted["controlnet"], counted["hint"])
    assert counted["attention"] == counted["shallow"] == 0


class Pictures:
    """How many pictures pass through modules while it is entered."""

    def __init__(self, *modules):
        self.modules, self.count = modules, 0

    def __enter__(self):
        def add(module, inputs, output):
            self.count += len(output)

        self.handles = [module.register_forward_hook(add) for module in self.modules]
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()
