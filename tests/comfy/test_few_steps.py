"""The few-step preset: the published LoRA's layout in the stock loader, its schedule, and eight model calls."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors import safe_open

from camouflage.weights import of_role
from in_host import SIZE, Calls, difference
from testing.miniature.diffusion import CONTEXT, diffusers_configs
from testing.miniature.loras import RANK

FILE = of_role("few-step lora")[0].file
FULL_RANK, FULL_TENSORS = 64, 834


def layout(rank: int, **config: Any) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a LoRA on every layer of the blocks of diffusers' UNet, in kohya's format."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in unet.named_modules():
        if "block" in name and isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            outer, *inner = module.weight.shape
            key = "lora_unet_" + name.replace(".", "_")
            shapes |= {f"{key}.lora_down.weight": (rank, *inner), f"{key}.alpha": (),
                       f"{key}.lora_up.weight": (outer, rank, *(1 for _ in inner[1:]))}
    return shapes


def test_this_layout_at_full_size_takes_exactly_the_published_bytes():
    shapes = layout(FULL_RANK, cross_attention_dim=CONTEXT)
    assert len(shapes) == FULL_TENSORS
    header, end = {}, 0
    for key in sorted(shapes):
        start, end = end, end + 4 * math.prod(shapes[key])
        header[key] = {"dtype": "F32", "shape": list(shapes[key]), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":")))
    assert 8 + math.ceil(text / 8) * 8 + end == of_role("few-step lora")[0].size


@pytest.mark.parametrize("role", ["few-step lora", "few-step lora (12 steps)"])
def test_the_miniature_files_have_this_layout(miniature_models, role):
    with safe_open(miniature_models / of_role(role)[0].path, "pt") as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - not a dict
        assert file.get_tensor(next(iter(found))).dtype == torch.float32
    assert found == layout(RANK, **diffusers_configs()["unet"])


def test_the_host_knows_every_layer_of_the_published_file():
    import comfy.lora
    from comfy.supported_models import SD15

    config = {**SD15.unet_config, "num_res_blocks": [2, 2, 2, 2], "channel_mult": (1, 2, 4, 4),
              "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1] * 9 + [0] * 3,
              "transformer_depth_middle": 1}
    model = SimpleNamespace(state_dict=dict, model_config=SimpleNamespace(unet_config=config))
    known = comfy.lora.model_lora_keys_unet(model, {})
    wanted = {key.split(".")[0] for key in layout(FULL_RANK, cross_attention_dim=CONTEXT)}
    assert len(wanted) == FULL_TENSORS // 3 and wanted <= set(known)


@pytest.fixture(scope="module")
def sd(wide_sd):
    """The LoRA's file fits the miniature files."""
    return wide_sd


@pytest.fixture(scope="module")
def few(host, sd):
    """The model with the LoRA, as the workflow has it."""
    return host.run("LoraLoaderModelOnly", model=sd.model, lora_name=FILE, strength_model=1.0)[0]


def test_the_stock_loader_takes_the_whole_file(host, sd, few, caplog):
    with caplog.at_level(logging.WARNING):
        again, = host.run("LoraLoaderModelOnly", model=sd.model, lora_name=FILE, strength_model=1.0)
    assert "lora key not loaded" not in caplog.text and "NOT LOADED" not in caplog.text
    assert len(again.patches) == len(layout(RANK, **diffusers_configs()["unet"])) // 3
    assert again.patches.keys() == few.patches.keys() and not sd.model.patches


@pytest.mark.parametrize("steps", [8, 12])
def test_sgm_uniform_is_ddim_with_trailing_timesteps(host, sd, few, steps):
    theirs = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                           timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    alphas = theirs.alphas_cumprod[theirs.timesteps]
    wanted = ((1 - alphas) / alphas).sqrt()

    def off(scheduler: str) -> float:
        ours, = host.run("BasicScheduler", model=few, scheduler=scheduler, steps=steps, denoise=1.0)
        assert len(ours) == steps + 1 and ours[-1] == 0
        return float((ours[:-1] / wanted - 1).abs().max())

    assert off("sgm_uniform") < 0.01 < 0.5 < off("karras")


def test_eight_calls_of_each_prediction_and_another_picture_than_without(host, sd, few, scene):
    def sampled(model, steps=2):
        guider, = host.run("CamouflageGuider", model=model, positive=scene.positive, negative=scene.negative,
                           identity=scene.identity)
        noise, = host.run("RandomNoise", noise_seed=7)
        sampler, = host.run("KSamplerSelect", sampler_name="ddim")
        sigmas, = host.run("BasicScheduler", model=model, scheduler="sgm_uniform", steps=steps, denoise=1.0)
        return host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas,
                        latent_image={"samples": torch.zeros(1, 4, SIZE // 8, SIZE // 8)})[0]["samples"]

    with Calls(sd.model.model.diffusion_model) as text_and_identity:
        sampled(few, 8)
    assert text_and_identity.count == 8 * 2  # positive and negative together, and identity alone
    with_it, without, again = sampled(few), sampled(sd.model), sampled(few)
    assert difference(with_it, again) == 0, "the LoRA is taken off and put on whole"
    assert difference(with_it, without) > 0.1 * float(without.std())
