"""One step of the whole method against an independent computation with diffusers, in single precision."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.utils
import pytest
import torch

from in_host import NETS, difference, pictures
from sampled import sampled

STRENGTHS = {"depth": 0.5, "normal": 0.3, "segmentation": 0.5, "pose": 0.8, "lineart": 0.3}
CFG, SCALE, TIMESTEP = 7.0, 1.25, 600


@pytest.fixture(scope="module")
def theirs(miniature_models):
    """diffusers' networks with the weights of the same files, and its noise schedule."""
    from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint, convert_ldm_unet_checkpoint

    from testing.miniature.diffusion import diffusers_configs

    configs = diffusers_configs()
    unet = UNet2DConditionModel(**configs["unet"])
    checkpoint = miniature_models / "checkpoints" / "Realistic_Vision_V5.1_fp16-no-ema.safetensors"
    weights = convert_ldm_unet_checkpoint(comfy.utils.load_torch_file(str(checkpoint)), dict(unet.config))
    unet.load_state_dict({key: value.float() for key, value in weights.items()})

    def controlnet(file: str, channels: int) -> ControlNetModel:
        net = ControlNetModel(**configs["controlnet"], conditioning_channels=channels)
        state = comfy.utils.load_torch_file(str(miniature_models / "controlnet" / f"{file}.safetensors"))
        converted = convert_controlnet_checkpoint(state, dict(net.config))
        net.load_state_dict({key: value.float() for key, value in converted.items()})
        return net.eval()

    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return SimpleNamespace(unet=unet.eval(), controlnet=controlnet, alphas=schedule.alphas_cumprod)


@pytest.mark.parametrize(("identity_net", "channels"), sampled([("tile", 3), ("identity4", 4)], 1))
@torch.no_grad()
def test_a_step_of_the_whole_equals_diffusers(host, wide_sd, theirs, identity_net, channels):
    sd = wide_sd
    maps = {name: pictures(40 + i) for i, name in enumerate(STRENGTHS)}
    original = pictures(50)
    scene = {f"{name}_map": image for name, image in maps.items()}
    scene |= {f"{name}_control_net": sd.nets[name] for name in maps}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **scene)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets[identity_net],
                         image=original, vae=sd.vae)
    guider, = host.run("CamouflageGuider", model=sd.model, positive=positive, negative=negative, identity=identity,
                       cfg=CFG, anonymization_scale=SCALE)

    # Host: one Euler step from this sigma to 0 ends at the denoised prediction.
    alpha = theirs.alphas[TIMESTEP].double()
    sigma = float(((1 - alpha) / alpha).sqrt())
    noise, = host.run("RandomNoise", noise_seed=3)
    euler, = host.run("KSamplerSelect", sampler_name="euler")
    empty = {"samples": torch.zeros(1, 4, 8, 8)}
    ours = host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=euler,
                    sigmas=torch.tensor([sigma, 0.0]), latent_image=empty)[0]["samples"] * 0.18215

    # diffusers, from the formulas of the handbook of the method.
    x = noise.generate_noise(empty) * sigma
    x_in = x / (sigma**2 + 1) ** 0.5

    def denoised(text, controls):
        down, mid = None, None
        for file, hint, strength in controls:
            net = theirs.controlnet(file, hint.shape[1])
            d, m = net(x_in, TIMESTEP, text, hint, conditioning_scale=strength, return_dict=False)
            down = d if down is None else [a + b for a, b in zip(down, d, strict=True)]
            mid = m if mid is None else mid + m
        noise_prediction = theirs.unet(x_in, TIMESTEP, text, down_block_additional_residuals=down,
                                       mid_block_additional_residual=mid, return_dict=False)[0]
        return x - sigma * noise_prediction

    chain = [(NETS[name], image.movedim(-1, 1), STRENGTHS[name]) for name, image in maps.items()]
    hint = original.movedim(-1, 1)
    if channels == 4:
        latent = sd.vae.encode(original) * 0.18215
        hint = latent.repeat_interleave(8, -1).repeat_interleave(8, -2)
    d_positive, d_negative = denoised(sd.positive[0][0], chain), denoised(sd.negative[0][0], chain)
    d_identity = denoised(sd.empty[0][0], [(NETS[identity_net], hint, 1.0)])
    d_text = d_negative + CFG * (d_positive - d_negative)
    expected = d_identity + SCALE * (d_text - d_identity)

    scale = float(expected.abs().max())
    print(f"relative difference to diffusers: {difference(ours, expected) / scale:.2e}")
    assert difference(ours, expected) < 1e-4 * scale
    assert difference(expected, d_text) > 1e-2 * scale, "the identity must matter for this test to mean anything"
