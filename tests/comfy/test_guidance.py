"""The guidance against the host's own samplers and guiders: the same numbers, to the last bit."""

from __future__ import annotations

import copy

import comfy.hooks
import pytest
import torch

from in_host import SIZE, Calls, difference, pictures
from light_weights import UNET


@pytest.fixture
def guider(host, sd, scene):
    def make(scale=1.25, cfg=7.0, model=None, **options):
        return host.run("CamouflageGuider", model=model or sd.model, positive=options.pop("positive", scene.positive),
                        negative=options.pop("negative", scene.negative),
                        identity=options.pop("identity", scene.identity), cfg=cfg, anonymization_scale=scale,
                        **options)[0]
    return make


@pytest.fixture
def patched(host, sd, scene):
    def make(scale=1.25, model=None, **options):
        return host.run("CamouflageGuidance", model=model or sd.model, identity=scene.identity,
                        anonymization_scale=scale, **options)[0]
    return make


@pytest.mark.parametrize(("scale", "cfg", "sampler"), [(1.25, 7.0, "euler"), (1.25, 7.0, "dpmpp_sde"),
                                                       (2.6, 3.0, "euler"), (0.4, 7.0, "euler")])
def test_equals_the_hosts_nested_dual_cfg(guider, dual_cfg, sample, scene, scale, cfg, sampler):
    ours = sample(guider(scale, cfg), sampler=sampler)
    theirs = sample(dual_cfg(scene.positive, scene.negative, scene.identity, cfg, scale), sampler=sampler)
    assert difference(ours, theirs) == 0.0


def test_scale_one_is_stock_cfg_and_never_evaluates_the_identity(guider, host, sample, sd, scene):
    stock, = host.run("CFGGuider", model=sd.model, positive=scene.positive, negative=scene.negative, cfg=7.0)
    with Calls(sd.nets["tile"].control_model) as calls:
        ours = sample(guider(1.0))
    assert calls.count == 0
    assert difference(ours, sample(stock)) == 0.0
    with Calls(sd.nets["tile"].control_model) as calls:
        guided = sample(guider(1.25))
    assert calls.count == 2  # one a model call
    assert difference(guided, ours) > 1e-2


def test_scale_zero_is_the_identity_alone(guider, host, sample, sd, scene):
    alone, = host.run("BasicGuider", model=sd.model, conditioning=scene.identity)
    assert difference(sample(guider(0.0)), sample(alone)) == 0.0


def test_patched_model_under_stock_ksampler_equals_the_guider(host, guider, patched, sample, scene):
    latent = {"samples": torch.zeros(1, 4, SIZE // 8, SIZE // 8)}
    result, = host.run("KSampler", model=patched(1.25), seed=7, steps=2, cfg=7.0, sampler_name="euler",
                       scheduler="karras", positive=scene.positive, negative=scene.negative, latent_image=latent,
                       denoise=1.0)
    assert difference(result["samples"], sample(guider(1.25))) == 0.0


def test_mask_of_ones_zeros_and_halves(guider, sample):
    plain, off = sample(guider(1.3)), sample(guider(1.0))
    assert difference(sample(guider(1.3, mask=torch.ones(1, SIZE, SIZE))), plain) == 0.0
    assert difference(sample(guider(1.3, mask=torch.zeros(1, SIZE, SIZE))), off) == 0.0
    left = torch.zeros(SIZE, SIZE)
    left[:, : SIZE // 2] = 1.0
    one_step = [sample(guider(1.3, mask=left), steps=1), sample(guider(1.3), steps=1), sample(guider(1.0), steps=1)]
    half = SIZE // 16
    assert difference(one_step[0][..., :half], one_step[1][..., :half]) == 0.0
    assert difference(one_step[0][..., half:], one_step[2][..., half:]) == 0.0


def test_mask_of_zeros_never_evaluates_the_identity(guider, sample, sd):
    with Calls(sd.nets["tile"].control_model) as calls:
        sample(guider(1.3, mask=torch.zeros(1, SIZE, SIZE)))
    assert calls.count == 0


def test_start_and_end_percent(guider, sample, sd):
    def evaluations(**window):
        with Calls(sd.nets["tile"].control_model) as calls:
            result = sample(guider(1.25, **window), steps=3)
        return calls.count, result

    full, everywhere = evaluations()
    first, early = evaluations(end_percent=0.5)
    second, late = evaluations(start_percent=0.5)
    never, nothing = evaluations(start_percent=0.6, end_percent=0.6)
    assert (full, never) == (3, 0) and 0 < first < 3 and first + second == 3
    assert difference(nothing, sample(guider(1.0), steps=3)) == 0.0
    assert min(difference(everywhere, early), difference(everywhere, late), difference(early, late)) > 0.0


def test_batch_of_different_pictures_each_with_its_own_original(host, sd, guider, sample):
    originals = pictures(11, batch=3)

    def identity(images):
        return host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                        image=images)[0]

    together = sample(guider(1.5, identity=identity(originals)), batch=3, steps=1)
    swapped = sample(guider(1.5, identity=identity(originals[[1, 0, 2]])), batch=3, steps=1)
    moved = [difference(together[i:i + 1], swapped[i:i + 1]) for i in range(3)]
    assert moved[0] > 1e-3 and moved[1] > 1e-3 and moved[2] < 1e-5


def test_inpainting_and_partial_denoise_equal_the_host(sd, guider, dual_cfg, sample, scene):
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, SIZE // 4:-SIZE // 4, SIZE // 4:-SIZE // 4] = 1.0
    with torch.inference_mode():
        latent = {"samples": sd.vae.encode(scene.original), "noise_mask": mask.unsqueeze(1)}
    ours = sample(guider(), latent=latent, denoise=0.6)
    theirs = sample(dual_cfg(scene.positive, scene.negative, scene.identity), latent=latent, denoise=0.6)
    assert difference(ours, theirs) == 0.0
    outside = mask[0, ::8, ::8] == 0
    assert difference(ours[..., outside], latent["samples"][..., outside]) < 1e-5


def test_a_regional_prompt_steers_the_text_and_never_dilutes_the_identity(host, sd, guider, sample, scene):
    """One Euler step ends at the denoised prediction, so the branches can be sampled apart with stock guiders."""
    region, = host.run("ConditioningSetArea", conditioning=sd.negative, width=SIZE // 2, height=SIZE, x=SIZE // 2, y=0,
                       strength=1.0)
    positive, = host.run("ConditioningCombine", conditioning_1=scene.positive, conditioning_2=region)
    text, = host.run("CFGGuider", model=sd.model, positive=positive, negative=scene.negative, cfg=7.0)
    alone, = host.run("BasicGuider", model=sd.model, conditioning=scene.identity)
    d_text, d_identity = sample(text, steps=1), sample(alone, steps=1)
    expected = d_identity + 1.25 * (d_text - d_identity)
    ours = sample(guider(positive=positive), steps=1)
    assert difference(ours, expected) < 1e-4 * float(expected.abs().max())
    assert difference(ours, sample(guider(), steps=1)) > 1e-2


def test_lora_and_other_weight_patches_reach_both_branches(sd, guider, dual_cfg, sample, scene):
    model = sd.model.clone()
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    generator = torch.Generator().manual_seed(5)
    model.add_patches({key: (0.1 * torch.randn(UNET[0], UNET[0], generator=generator),)}, 1.0)
    ours = sample(guider(model=model), model=model, steps=1)
    theirs = sample(dual_cfg(scene.positive, scene.negative, scene.identity, model=model), steps=1)
    assert difference(ours, theirs) == 0.0
    assert difference(ours, sample(guider(), steps=1)) > 1e-4


def test_cfg_hooks_of_other_packs_are_called(sd, guider, sample):
    seen = []
    model = sd.model.clone()
    model.set_model_sampler_pre_cfg_function(lambda args: seen.append("pre") or args["conds_out"])
    model.set_model_sampler_post_cfg_function(lambda args: seen.append("post") or args["denoised"] * 0.5)
    halved = sample(guider(model=model), steps=1)
    assert seen == ["pre", "post"]
    assert difference(halved, sample(guider(), steps=1)) > 1e-3


def test_attention_patch_that_only_knows_cond_and_uncond(sd, guider, sample):
    """What packs with image tokens do: they index two sets of tokens by the branch number."""
    branches = []
    model = sd.model.clone()
    shift = [0.05, -0.05]

    def attention(q, k, v, extra_options):
        branches.append(tuple(extra_options["cond_or_uncond"]))
        shifts = torch.tensor([shift[branch] for branch in extra_options["cond_or_uncond"]])  # IndexError at 2
        rows = q.shape[0] // len(shifts)
        return q + shifts.repeat_interleave(rows).view(-1, 1, 1), k, v

    model.set_model_attn2_patch(attention)
    result = sample(guider(model=model))
    assert torch.isfinite(result).all()
    assert set(branches) == {(1, 0), (1,)} or set(branches) == {(0, 1), (1,)}


def test_two_patches_on_one_model_do_not_disturb_each_other_or_the_model(host, sd, scene, patched, sample, guider):
    stock, = host.run("CFGGuider", model=sd.model, positive=scene.positive, negative=scene.negative, cfg=7.0)
    before = sample(stock, steps=1)
    first, second = patched(1.25), patched(2.0)
    results = [sample(host.run("CFGGuider", model=model, positive=scene.positive, negative=scene.negative, cfg=7.0)[0],
                      steps=1) for model in (first, second, first)]
    assert difference(results[0], results[2]) == 0.0
    assert difference(results[0], sample(guider(1.25), steps=1)) == 0.0
    assert difference(results[1], sample(guider(2.0), steps=1)) == 0.0
    assert difference(sample(stock, steps=1), before) == 0.0


def test_cloning_and_deep_copying_options_copies_no_mask(patched):
    mask = torch.ones(1, SIZE, SIZE)
    model = patched(1.25, mask=mask)
    wrapper = model.clone().wrappers["outer_sample"]["camouflage"][0]
    assert wrapper.mask is mask and copy.deepcopy(wrapper) is wrapper


def test_below_one_warns(guider, caplog):
    guider(0.9)
    assert "TOWARDS the original" in caplog.text
    caplog.clear()
    guider(1.0)
    assert not caplog.records


def test_hooks_on_the_identity_are_registered_by_the_guider_and_refused_by_the_patch(host, sd, scene, guider, sample,
                                                                                    dual_cfg):
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    generator = torch.Generator().manual_seed(5)
    hook = comfy.hooks.WeightHook(strength_model=1.0, strength_clip=0.0)
    hook.weights = {key: (0.1 * torch.randn(UNET[0], UNET[0], generator=generator),)}
    hook.need_weight_init = False
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    hooked = comfy.hooks.set_hooks_for_conditioning(scene.identity, hooks)
    ours = sample(guider(identity=hooked), steps=1)
    assert difference(ours, sample(dual_cfg(scene.positive, scene.negative, hooked), steps=1)) == 0.0
    assert difference(ours, sample(guider(), steps=1)) > 1e-4
    model, = host.run("CamouflageGuidance", model=sd.model, identity=hooked)
    stock, = host.run("CFGGuider", model=model, positive=scene.positive, negative=scene.negative, cfg=7.0)
    with pytest.raises(ValueError, match="CAMOUFLaGE Guider"):
        sample(stock)


def test_an_identity_that_does_not_fit_the_latent_is_refused(host, sd, guider, sample):
    def identity(images):
        return host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                        image=images)[0]

    with pytest.raises(ValueError, match="192 x 64, another shape"):
        sample(guider(identity=identity(pictures(1, width=192))))
    with pytest.raises(ValueError, match="3 pictures, but the latent has 2"):
        sample(guider(identity=identity(pictures(1, batch=3))), batch=2)
    larger = identity(pictures(1, height=96, width=96))  # another size, the same shape
    assert torch.isfinite(sample(guider(identity=larger), steps=1)).all()


def test_a_map_that_does_not_fit_the_latent_is_a_warning(host, sd, guider, sample, caplog):
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative,
                                  depth_map=pictures(1, width=192), depth_control_net=sd.nets["depth"])
    assert torch.isfinite(sample(guider(positive=positive, negative=negative), steps=1)).all()
    assert "192 x 64, another shape" in caplog.text


def test_masks_of_a_wrong_count_are_refused(guider, sample):
    with pytest.raises(ValueError, match="'mask' has 3 masks, but 2 pictures"):
        sample(guider(mask=torch.ones(3, SIZE, SIZE)), batch=2)
