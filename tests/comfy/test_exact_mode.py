"""Exact mode against the stock nested DualCFG graph, and Light against itself without acceleration: every bit the same.

A table of what people put into a graph, each with the node *Accelerate* and without, twice in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from in_host import SIZE, pictures
from light_weights import UNET, ip_adapter, plus_adapter, random_map, save, seen, t2i_adapter
from sampled import sampled
from testing.counting import StandIn

KEY = "camouflage_acceleration"
SAMPLERS = ("euler", "dpmpp_2m_sde", "dpmpp_sde", "dpmpp_3m_sde", "euler_ancestral", "uni_pc", "heun", "lcm")
LAYER = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture
def graphs(host, sd, monkeypatch):
    """The stand-in for CUDA graphs, so that the node has something to do on the CPU."""
    module = host.module("camouflage.comfy.acceleration.graphs")
    monkeypatch.setattr(module, "recorder_for", lambda device: StandIn())
    yield module
    module.free(sd.model.model)


@pytest.fixture(scope="module")
def base(host, sd):
    """Conditionings of a Base graph for a batch, with two scene controls, one of which ends."""

    def make(batch: int = 1):
        scene = {}
        for seed, name in enumerate(("depth", "lineart")):
            scene |= {f"{name}_map": pictures(seed, batch), f"{name}_control_net": sd.nets[name]}
        positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **scene)
        identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                             image=pictures(9, batch))
        return {"positive": positive, "negative": negative, "identity": identity}
    return make


def _plain(host, sd, base):
    return sd.model, base(), {}


def _batch(host, sd, base):
    return sd.model, base(3), {"batch": 3}


def _regional(host, sd, base):
    """A second prompt in a masked half, with the controls of the first."""
    conds = base()
    mask = torch.zeros(1, SIZE, SIZE)
    mask[..., :SIZE // 2] = 1.0
    region, = host.run("ConditioningSetMask", conditioning=[[sd.empty[0][0], conds["positive"][0][1]]], mask=mask,
                       strength=0.8, set_cond_area="default")
    positive, = host.run("ConditioningCombine", conditioning_1=conds["positive"], conditioning_2=region)
    return sd.model, {**conds, "positive": positive}, {}


def _inpainting(host, sd, base):
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., SIZE // 4:-SIZE // 4, :] = 1.0
    with torch.inference_mode():
        latent = {"samples": sd.vae.encode(pictures(9)), "noise_mask": mask}
    return sd.model, base(), {"latent": latent, "denoise": 0.7}


def _lora(host, sd, base):
    model = sd.model.clone()
    weights = 0.1 * torch.randn(UNET[0], UNET[0], generator=torch.Generator().manual_seed(5))
    model.add_patches({LAYER: (weights,)}, 1.0)
    return model, base(), {}


def _attention(host, sd, base):
    model = sd.model.clone()
    model.set_model_attn2_patch(lambda q, k, v, options: (q * 1.1, k, v))
    return model, base(), {}


def _cfg_hook(host, sd, base):
    model = sd.model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.9)
    return model, base(), {}


def _called(host, sd, base):
    model = sd.model.clone()
    model.set_model_unet_function_wrapper(lambda apply, args: apply(args["input"], args["timestep"], **args["c"]) * 0.9)
    return model, base(), {}


def _other_schedule(host, sd, base):
    model, = host.run("ModelSamplingDiscrete", model=sd.model, sampling="eps", zsnr=True)
    return model, base(), {"model": model}


GRAPHS = {make.__name__[1:]: make for make in (_plain, _batch, _regional, _inpainting, _lora, _attention, _cfg_hook,
                                               _called, _other_schedule)}
CASES = [(name, "dpmpp_2m_sde") for name in GRAPHS] + [("plain", sampler) for sampler in SAMPLERS]


@pytest.mark.parametrize(("name", "sampler"), sampled(CASES, 4, seed=3))
def test_base_equals_the_stock_graph(host, sd, base, sample, dual_cfg, graphs, name, sampler):
    model, conds, options = GRAPHS[name](host, sd, base)
    theirs = sample(dual_cfg(**conds, model=model), sampler=sampler, steps=4, **options)
    for graph in (model, host.run("CamouflageAccelerate", model=model)[0]):
        for _ in range(2):
            guider, = host.run("CamouflageGuider", model=graph, **conds)
            assert torch.equal(sample(guider, sampler=sampler, steps=4, **options), theirs)


def _light(host, sd, tmp_path, batch: int, plus: bool, percents: tuple[float, float]) -> SimpleNamespace:
    prompt, light = host.module("camouflage.comfy.image_prompt"), host.module("camouflage.comfy.light_adapter")
    state = plus_adapter() if plus else ip_adapter(seed=1)
    image = prompt.load(save(state, tmp_path / "image.safetensors"))
    adapter = light.load(save(t2i_adapter().state_dict(), tmp_path / "light.safetensors"))
    faces = random_map(1).repeat(batch, 1, 1, 1)
    output = seen(1, batch)
    nothing = torch.zeros_like(output["penultimate_hidden_states"][:1]) if plus else None
    model = prompt.apply(sd.model, image, output, 0.9, *percents, clip_vision=nothing)
    texts = [light.apply(text, adapter, faces, 0.8) for text in (sd.positive, sd.negative)]
    return SimpleNamespace(model=model, texts=texts)


@pytest.mark.parametrize(("sampler", "batch", "plus", "percents"), sampled([
    ("dpmpp_2m_sde", 1, False, (0.0, 1.0)), ("dpmpp_2m_sde", 2, False, (0.0, 1.0)),
    ("dpmpp_2m_sde", 1, True, (0.0, 1.0)), ("dpmpp_2m_sde", 1, False, (0.1, 0.7)), ("euler", 2, True, (0.1, 0.7)),
    ("dpmpp_sde", 1, False, (0.0, 1.0)),
], 2, seed=1))
def test_light_equals_itself_without_acceleration(host, sd, cfg, sample, graphs, tmp_path, sampler, batch, plus,
                                                  percents):
    graph = _light(host, sd, tmp_path, batch, plus, percents)
    bare = graph.model.clone()
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE):
        bare.remove_wrappers_with_key(kind, KEY)
    theirs = sample(cfg(bare, *graph.texts), sampler=sampler, steps=5, batch=batch)
    for model in (graph.model, host.run("CamouflageAccelerate", model=graph.model)[0]):
        for _ in range(2):
            assert torch.equal(sample(cfg(model, *graph.texts), sampler=sampler, steps=5, batch=batch), theirs)


def test_the_node_may_stand_before_or_after_other_patches(host, sd, base, sample, dual_cfg, graphs):
    """And the guidance may come as a model patch, with a stock guider."""
    conds = base()
    theirs = sample(dual_cfg(**conds), steps=3)

    def patched(*nodes: Callable) -> torch.Tensor:
        model = sd.model
        for node in nodes:
            model, = node(model)
        guider, = host.run("CFGGuider", model=model, positive=conds["positive"], negative=conds["negative"], cfg=7.0)
        return sample(guider, steps=3)

    def accelerate(model):
        return host.run("CamouflageAccelerate", model=model)

    def guidance(model):
        return host.run("CamouflageGuidance", model=model, identity=conds["identity"])

    for order in ((accelerate, guidance), (guidance, accelerate), (guidance, accelerate, accelerate)):
        assert torch.equal(patched(*order), theirs)
