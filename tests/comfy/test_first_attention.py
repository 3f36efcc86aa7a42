"""The self-attention before the first text: once for all texts of a call, the same bits, and not where parts differ."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from in_host import SIZE, Attended, Calls, pictures

STEPS, SAMPLER = 3, "dpmpp_2m_sde"


@pytest.fixture(scope="module")
def first_attention(host):
    return host.module("camouflage.comfy.acceleration.first_attention")


@pytest.fixture(scope="module")
def conds(host, sd):
    scene = {"depth_map": pictures(1), "depth_control_net": sd.nets["depth"]}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **scene)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(3))
    return {"positive": positive, "negative": negative, "identity": identity}


# --- The view ---------------------------------------------------------------------------------------------------------

@torch.inference_mode()
@pytest.mark.parametrize("copies", [2, 3])
def test_the_view_of_a_unet_is_the_unet(sd, first_attention, copies):
    unet = sd.model.model.diffusion_model
    first = first_attention.FirstAttention(unet)
    assert {id(weight) for weight in first.network.parameters()} == {id(weight) for weight in unet.parameters()}
    texts = torch.cat([sd.positive[0][0], sd.negative[0][0], sd.empty[0][0]])[:copies]
    for photos in (1, 2):
        latents = torch.randn(photos, 4, 8, 8, generator=torch.Generator().manual_seed(photos)).repeat(copies, 1, 1, 1)
        arguments = latents, torch.full((len(latents),), 300.0), texts.repeat_interleave(photos, 0)
        theirs = unet(*arguments)
        for share, batch in ((1, len(latents)), (copies, photos)):
            first.batch.copies = share
            with Attended(unet) as seen:
                assert torch.equal(first.network(*arguments), theirs)
            assert seen == [batch]
    first.batch.copies = copies
    other = torch.cat([latents[:1], latents[1:] + 1.0])
    assert not torch.equal(first.network(other, *arguments[1:]), unet(other, *arguments[1:])), "only for equal parts"


@torch.inference_mode()
def test_the_view_of_a_controlnet_is_the_controlnet(sd, first_attention):
    net = sd.nets["depth"].control_model
    first = first_attention.FirstAttention(net)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1, 1)
    call = {"x": latents, "hint": pictures(1).movedim(-1, 1), "timesteps": torch.full((2,), 300.0),
            "context": torch.cat([sd.positive[0][0], sd.negative[0][0]])}
    theirs = net(**call)
    first.batch.copies = 2
    with Attended(net) as seen:
        ours = first.network(**call)
    assert seen == [1]
    for name, values in theirs.items():
        assert all(torch.equal(one, other) for one, other in zip(ours[name], values, strict=True))


def test_a_network_that_begins_otherwise_stays_itself(sd, first_attention):
    unet = sd.model.model.diffusion_model
    block = unet.input_blocks[1][1].transformer_blocks[0]
    assert first_attention.FirstAttention(unet).network is not unet

    def stays() -> bool:
        return first_attention.FirstAttention(unet).network is unet

    for part in (unet.input_blocks[1][1], block, block.attn1):
        part.forward = part.forward  # another pack's doing
        try:
            assert stays()
        finally:
            del part.forward
    with Calls(block.attn1.to_q):  # another pack looks at what it computes
        assert stays()
    block.disable_self_attn = True
    try:
        assert stays()
    finally:
        block.disable_self_attn = False
    net = sd.nets["depth"].control_model
    with Calls(net.input_blocks[1]) as seen, torch.inference_mode():
        first_attention.FirstAttention(net).network(torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 64, 64), torch.zeros(1),
                                                    sd.empty[0][0])
    assert seen.count == 1, "hooks around it stay"
    nothing = SimpleNamespace(input_blocks=[[torch.nn.Linear(2, 2)]])
    assert first_attention.FirstAttention(nothing).network is nothing


def test_nothing_is_shared_where_something_else_tells_the_parts_apart(sd, first_attention):
    first = first_attention.FirstAttention(sd.model.model.diffusion_model)
    same, value = {"camouflage_same_latents": True}, torch.zeros(1)
    assert first.copies(same, 2, None) == first.copies(same, 2, None, {"output": [value]}) == 2
    assert first.copies(same, 2, None, {"input": [value, None]}) == 2, "added behind the first text"
    assert first.copies(same, 2, None, {"input": [None, value]}) == 1
    assert first.copies(same, 2, value) == 1
    assert first.copies({}, 2, None) == 1, "nobody says that they are the same"


# --- In a sampling ----------------------------------------------------------------------------------------------------

def _seen(sd, sample, guider, **options) -> tuple[torch.Tensor, list[int], list[int]]:
    with Attended(sd.model.model.diffusion_model) as unet, Attended(sd.nets["depth"].control_model) as net:
        result = sample(guider, steps=STEPS, sampler=SAMPLER, **options)
    return result, unet, net


@pytest.mark.parametrize("photos", [1, 2])
def test_positive_and_negative_share_it(host, sd, sample, conds, dual_cfg, photos):
    theirs, *stock = _seen(sd, sample, dual_cfg(**conds), batch=photos)
    ours, unet, net = _seen(sd, sample, host.run("CamouflageGuider", model=sd.model, **conds)[0], batch=photos)
    assert torch.equal(ours, theirs)
    assert [sorted(seen) for seen in stock] == [[photos] * STEPS + [2 * photos] * STEPS, [2 * photos] * STEPS]
    assert unet == [photos] * (2 * STEPS) and net == [photos] * STEPS


def _area(host, sd, model, conds):
    """Two prompts for two halves: latents of one shape, in one batch, that are not the same."""
    halves = []
    for x in (0, SIZE // 2):
        half, = host.run("ConditioningSetArea", conditioning=conds["positive"], width=SIZE // 2, height=SIZE, x=x, y=0,
                         strength=1.0)
        halves += half
    return model, {**conds, "positive": halves}


def _function(host, sd, model, conds):
    """What a pack that cuts the picture into tiles does: other latents in the same call."""
    def turned(apply, args):
        first, *rest = args["input"].chunk(len(args["cond_or_uncond"]))
        return apply(torch.cat([first, *(part.flip(-1) for part in rest)]), args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(turned)
    return model, conds


def _batching(host, sd, model, conds):
    """Another pack makes the batch."""
    model.add_wrapper(WrappersMP.CALC_COND_BATCH, lambda executor, *args: executor(*args))
    return model, conds


@pytest.mark.parametrize("change", [_area, _function, _batching])
def test_where_the_parts_may_differ_nothing_is_shared(host, sd, cfg, sample, conds, change):
    model, changed = change(host, sd, sd.model.clone(), conds)
    texts = changed["positive"], changed["negative"]
    theirs, *stock = _seen(sd, sample, cfg(model, *texts))
    attach = host.module("camouflage.comfy.acceleration.accelerate").attach
    ours, *seen = _seen(sd, sample, cfg(attach(model), *texts))
    assert torch.equal(ours, theirs) and seen == stock
    assert min(max(counts) for counts in stock) >= 2
