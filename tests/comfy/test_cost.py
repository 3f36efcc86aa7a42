"""What a model call costs, counted in FLOPs beside the stock graph that says the same."""

from __future__ import annotations

import pytest
from torch.utils.flop_counter import FlopCounterMode

from in_host import pictures
from light_weights import UNET

CONTROLS = ("depth", "pose", "lineart")

TOKENS, WIDTH = 8 * 8, UNET[0]
"""Of the first attention of the UNet and of its ControlNets, for a picture of 64 x 64 pixels."""
FIRST_ATTENTION = 4 * 2 * TOKENS * WIDTH ** 2 + 2 * 2 * TOKENS ** 2 * WIDTH
"""FLOPs: four linear layers and the two products of the attention."""


@pytest.fixture
def flops(sample):
    def count(guider) -> int:
        with FlopCounterMode(display=False) as counter:
            sample(guider, steps=1)
        return counter.get_total_flops()

    return count


def test_a_model_call_costs_no_more_than_the_stock_graphs(host, sd, dual_cfg, flops):
    scene = {f"{name}_map": pictures(seed) for seed, name in enumerate(CONTROLS)}
    scene |= {f"{name}_control_net": sd.nets[name] for name in CONTROLS}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **scene)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(9))

    def ours(scale: float, **options) -> int:
        return flops(host.run("CamouflageGuider", model=sd.model, positive=positive, negative=negative,
                              identity=identity, anonymization_scale=scale, **options)[0])

    stock = flops(dual_cfg(positive, negative, identity))
    plain = flops(host.run("CFGGuider", model=sd.model, positive=positive, negative=negative, cfg=7.0)[0])
    alone = flops(host.run("BasicGuider", model=sd.model, conditioning=identity)[0])
    guided, unguided = ours(1.25), ours(1.0)
    print(f"\nGFLOP a model call: CAMOUFLaGE {guided / 1e9:.2f}, stock nested DualCFG {stock / 1e9:.2f}, "
          f"a_s = 1 {unguided / 1e9:.2f}, stock CFG {plain / 1e9:.2f}, identity alone {alone / 1e9:.2f}")
    assert guided <= stock
    assert unguided == plain - (1 + len(CONTROLS)) * FIRST_ATTENTION, "which no text has reached: once for both texts"
    assert guided == unguided + alone
    assert ours(1.25, end_percent=0.0) == unguided


def test_a_regional_prompt_costs_less_than_in_the_stock_graph(host, sd, dual_cfg, flops):
    """The host adds an entry for the region to every branch; the identity does without it."""
    region, = host.run("ConditioningSetArea", conditioning=sd.positive, width=32, height=64, x=0, y=0, strength=1.0)
    positive, = host.run("ConditioningCombine", conditioning_1=sd.positive, conditioning_2=region)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(9))
    guider, = host.run("CamouflageGuider", model=sd.model, positive=positive, negative=sd.negative, identity=identity)
    assert flops(guider) < flops(dual_cfg(positive, sd.negative, identity))
