"""Nothing in the guidance assumes SD 1.5: a miniature SD3 (a diffusion transformer with 16 latent channels)."""

from __future__ import annotations

import comfy.ldm.modules.diffusionmodules.mmdit
import comfy.ops
import comfy.sd
import pytest
import torch

from in_host import difference

DEPTH = 2


@pytest.fixture(scope="module")
def sd3():
    """MODEL of a two-block MMDiT (hidden size 128) from a state dict, the way the host loads a file."""
    net = comfy.ldm.modules.diffusionmodules.mmdit.MMDiT(
        input_size=None, patch_size=2, in_channels=16, depth=DEPTH, adm_in_channels=2048, pos_embed_max_size=64,
        num_patches=64 * 64, pos_embed_scaling_factor=None, qkv_bias=True,
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}},
        dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    generator = torch.Generator().manual_seed(0)
    state = {f"model.diffusion_model.{key}": torch.randn(value.shape, generator=generator) * 0.05
             for key, value in net.state_dict().items()}
    model = comfy.sd.load_diffusion_model_state_dict(dict(state))
    assert model is not None and type(model.model).__name__ == "SD3"
    return model


@pytest.fixture(scope="module")
def conditions():
    def cond(seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        return [[torch.randn(1, 20, 4096, generator=generator),
                 {"pooled_output": torch.randn(1, 2048, generator=generator)}]]
    return cond(1), cond(2), cond(3)


def test_guider_patch_and_mask_on_a_diffusion_transformer(host, sample, dual_cfg, sd3, conditions):
    positive, negative, identity = conditions
    latent = {"samples": torch.zeros(1, 16, 16, 16)}

    def guided(scale, **options):
        guider, = host.run("CamouflageGuider", model=sd3, positive=positive, negative=negative, identity=identity,
                           cfg=5.0, anonymization_scale=scale, **options)
        return sample(guider, latent=latent, model=sd3)

    theirs = sample(dual_cfg(positive, negative, identity, cfg=5.0, model=sd3), latent=latent, model=sd3)
    stock, = host.run("CFGGuider", model=sd3, positive=positive, negative=negative, cfg=5.0)
    # Without controls the stock guider runs all three branches in one batch, so the last bit may differ.
    assert difference(guided(1.25), theirs) < 1e-5 * float(theirs.abs().max())
    assert difference(guided(1.0), sample(stock, latent=latent, model=sd3)) == 0.0
    assert difference(guided(1.25), guided(1.0)) > 1e-4
    assert difference(guided(1.25, mask=torch.ones(1, 64, 64)), guided(1.25)) == 0.0
    patched, = host.run("CamouflageGuidance", model=sd3, identity=identity)
    on_patch, = host.run("CFGGuider", model=patched, positive=positive, negative=negative, cfg=5.0)
    assert difference(sample(on_patch, latent=latent, model=sd3), guided(1.25)) == 0.0


def test_a_mask_over_a_latent_without_rows_and_columns_is_refused(host, conditions):
    guidance = host.module("camouflage.comfy.guidance").IdentityGuidance(conditions[2], 1.25, mask=torch.ones(8, 8))
    with pytest.raises(ValueError, match="cannot be laid over"):
        guidance._scales(torch.Size((1, 64, 100)))
