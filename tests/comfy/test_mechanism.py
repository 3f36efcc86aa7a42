"""The paper's mechanism at work: an identity ControlNet that really knows the original, and guidance away from it."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.controlnet
import comfy.sd
import pytest
import torch

from in_host import NETS, difference
from sampled import long

CELLS = 4  # the latent is 4 x 4
STEPS, BATCH, RATE = 40, 4, 5e-4


@pytest.fixture(scope="module")
def small(miniature_models):
    """Model, CLIP, VAE and the 4-channel ControlNet, loaded outside of inference mode so that they can be trained."""
    checkpoint = miniature_models / "checkpoints" / "Realistic_Vision_V5.1_fp16-no-ema.safetensors"
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
    net = comfy.controlnet.load_controlnet(str(miniature_models / "controlnet" / f"{NETS['identity4']}.safetensors"))
    return SimpleNamespace(model=model, vae=vae, net=net,
                           empty=clip.encode_from_tokens_scheduled(clip.tokenize("")),
                           text=clip.encode_from_tokens_scheduled(clip.tokenize("a dog")))


def train_identity(small, latent: torch.Tensor) -> list[float]:
    """Noise prediction on one latent: frozen UNet, empty prompt, the ControlNet sees the latent (x8, nearest)."""
    unet, net = small.model.model.diffusion_model.requires_grad_(False), small.net.control_model
    sampling = small.model.model.model_sampling
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE)
    hint = latent.repeat_interleave(8, -1).repeat_interleave(8, -2).expand(BATCH, -1, -1, -1)
    context = small.empty[0][0].detach().clone().expand(BATCH, -1, -1)
    losses = []
    for _ in range(STEPS):
        timestep = torch.randint(0, 1000, (BATCH,), generator=generator)
        sigma = sampling.sigmas[timestep].view(-1, 1, 1, 1)
        noise = torch.randn(BATCH, *latent.shape[1:], generator=generator)
        x = (latent + sigma * noise) / (sigma**2 + 1).sqrt()
        control = net(x=x, hint=hint, timesteps=timestep.float(), context=context)
        predicted = unet(x, timestep.float(), context=context, control=control)
        loss = (predicted - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@long
def test_identity_pulls_towards_the_original_and_guidance_pushes_away(host, small):
    generator = torch.Generator().manual_seed(1)
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 3, 3, generator=generator), 8 * CELLS,
                                              mode="bicubic").clamp(0, 1).movedim(1, -1)
    with torch.no_grad():
        raw = small.vae.encode(picture).clone()
    original = small.model.model.process_latent_in(raw).detach()

    losses = train_identity(small, original)
    before, after = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    print(f"noise-prediction loss {before:.2f} -> {after:.2f} in {STEPS} steps")
    assert after < before / 3

    identity, = host.run("CamouflageIdentityControl", conditioning=small.empty, control_net=small.net, image=picture,
                         vae=small.vae)

    def distance(scale: float, seed: int) -> float:
        guider, = host.run("CamouflageGuider", model=small.model, positive=small.text, negative=small.empty,
                           identity=identity, cfg=1.0, anonymization_scale=scale)
        noise, = host.run("RandomNoise", noise_seed=seed)
        euler, = host.run("KSamplerSelect", sampler_name="euler")
        sigmas, = host.run("BasicScheduler", model=small.model, scheduler="karras", steps=4, denoise=1.0)
        result = host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=euler, sigmas=sigmas,
                          latent_image={"samples": torch.zeros_like(raw)})[0]["samples"]
        assert difference(result, result) == 0.0  # finite
        return float((small.model.model.process_latent_in(result) - original).square().mean().sqrt())

    for seed in (1, 2, 3):
        distances = {scale: distance(scale, seed) for scale in (0.0, 0.5, 1.0, 1.25, 2.0)}
        print(f"seed {seed}: RMS distance to the original by a_s:",
              {scale: round(value, 3) for scale, value in distances.items()})
        assert distances[0.0] < 0.5 * distances[1.0], "the identity reconstructs"
        assert distances[0.0] < distances[0.5] < distances[1.0] < distances[1.25] < distances[2.0]
