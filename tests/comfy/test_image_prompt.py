"""IP-Adapter in the host against diffusers, and who gets image tokens."""

from __future__ import annotations

import copy
import re

import comfy.clip_vision
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import pytest
import torch

from camouflage.errors import CamouflageError
from image_prompts import Watch, reference
from in_host import difference
from light_weights import (
    EMBEDDING,
    LAYERS,
    SD15_LAYERS,
    UNET,
    ip_adapter,
    patches,
    plus_adapter,
    random_map,
    save,
    seen,
    t2i_adapter,
)

ORDER = {1: ("input", 1), 3: ("input", 2), 5: ("input", 4), 7: ("input", 5), 9: ("input", 7), 11: ("input", 8),
         13: ("output", 3), 15: ("output", 4), 17: ("output", 5), 19: ("output", 6), 21: ("output", 7),
         23: ("output", 8), 25: ("output", 9), 27: ("output", 10), 29: ("output", 11), 31: ("middle", 0)}


@pytest.fixture(scope="module")
def prompt(host):
    from camouflage.comfy import image_prompt

    return image_prompt


@pytest.fixture(scope="module")
def states():
    return [ip_adapter(seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def adapters(prompt, states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ip")
    return [prompt.load(save(state, folder / f"{i}.safetensors")) for i, state in enumerate(states)]


@pytest.mark.parametrize("number", [1, 2])
def test_a_step_equals_diffusers(prompt, sd, adapters, states, unet, cfg, step, number):
    """Two pictures, each with its own tokens; one adapter, then two stacked with weights of their own."""
    weights = [0.8, 1.3][:number]
    outputs = [seen(seed, 2) for seed in range(number)]
    model = sd.model
    for adapter, output, weight in zip(adapters, outputs, weights, strict=False):
        model = prompt.apply(model, adapter, output, weight)
    watch, plain = Watch(model), Watch(sd.model)
    _, x, sigma = step(cfg(watch.model), 2)
    step(cfg(plain.model), 2)
    for branch, text in ((0, sd.positive), (1, sd.negative)):
        embeds = [output.image_embeds * (branch == 0) for output in outputs]
        wanted = reference(unet, states[:number], weights, embeds, x, sigma, text[0][0])
        got, scale = watch.predictions[branch, False], float(wanted.abs().max())
        print(f"{number} adapters, branch {branch}: {difference(got, wanted) / scale:.2e} relative")
        assert difference(got, wanted) < 1e-4 * scale
        assert difference(plain.predictions[branch, False], wanted) > 1e-3 * scale, "the image must matter"
    apart = watch.predictions[0, False] - plain.predictions[0, False]
    assert difference(apart[0], apart[1]) > 1e-3, "each picture has its own tokens"


def test_weight_0_is_the_model_as_it_is(prompt, sd, adapters, cfg, sample):
    stock = sample(cfg(sd.model))
    for weight, start, end in ((0.0, 0.0, 1.0), (1.0, 0.5, 0.5), (1.0, 0.4, 0.6)):  # no step in the last one
        assert difference(sample(cfg(prompt.apply(sd.model, adapters[0], seen(1), weight, start, end))), stock) == 0.0
    assert difference(sample(cfg(prompt.apply(sd.model, adapters[0], seen(1), 1.0))), stock) > 1e-2


def test_start_and_end_are_honoured(prompt, sd, adapters, cfg, sample):
    watch = Watch(prompt.apply(sd.model, adapters[0], seen(1), 1.0, 0.0, 0.5))
    sample(cfg(watch.model), steps=6)
    sigmas = sd.model.get_model_object("model_sampling")
    half = sigmas.percent_to_sigma(0.5)
    from comfy.samplers import calculate_sigmas
    early = int((calculate_sigmas(sigmas, "karras", 6)[:-1] >= half).sum())
    assert 0 < early < 6
    assert len(watch.image()) == early * len(patches(watch.model))


def test_two_applications_do_not_disturb_each_other_or_the_model(prompt, sd, adapters, cfg, sample):
    stock = sample(cfg(sd.model))
    first = prompt.apply(sd.model, adapters[0], seen(1), 1.0)
    alone = sample(cfg(first))
    second = prompt.apply(sd.model, adapters[1], seen(2), 0.7)
    both = prompt.apply(first, adapters[1], seen(2), 0.7)
    assert difference(sample(cfg(both)), alone) > 1e-2
    assert difference(sample(cfg(second)), alone) > 1e-2
    assert difference(sample(cfg(first)), alone) == 0.0
    assert difference(sample(cfg(sd.model)), stock) == 0.0
    assert not patches(sd.model)


def test_the_host_manages_the_weights_and_copies_none(prompt, sd, adapters):
    model = prompt.apply(prompt.apply(sd.model, adapters[0], seen(1), 1.0), adapters[0], seen(2), 1.0)
    managed = model.get_nested_additional_models()
    assert [m.model for m in managed] == [adapters[0].net], "once, however often it is applied"
    assert not sd.model.get_nested_additional_models()
    copied = patches(model.clone())
    assert copied.keys() == patches(model).keys()
    for key, patch in patches(model).items():
        for copied_patch in (copied[key], copy.deepcopy(patch)):
            assert copied_patch is not patch and copied_patch.prompt is patch.prompt
            assert copied_patch.previous is patch.previous and copied_patch.layer == patch.layer
        assert patch.to(torch.float16) is patch


def full_model():
    """SD 1.5 at full size, without memory for its weights."""
    config = comfy.supported_models.SD15({
        "use_checkpoint": False, "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
        "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None, "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "use_linear_in_transformer": False,
        "context_dim": 768, "use_temporal_attention": False, "num_heads": 8, "dtype": torch.float32})
    model = comfy.model_base.BaseModel(config, device="meta")
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def test_all_16_layers_of_sd15_are_reached_in_the_published_order(prompt, tmp_path):
    adapter = prompt.load(save(ip_adapter(SD15_LAYERS, 1024), tmp_path / "ip-adapter_sd15.safetensors"))
    model = prompt.apply(full_model(), adapter, seen(1, width=1024), 1.0)
    assert {adapter.layout.numbers[p.layer]: key for key, p in patches(model).items()} == ORDER
    reached = []

    def attend(attention, q, k, v, *args, **kwargs):
        if k.shape[1] == 4:
            reached.append((kwargs["transformer_options"]["block"], k.shape[-1]))
        return q.clone()

    options = {**model.model_options["transformer_options"], "cond_or_uncond": [0, 1], "sigmas": torch.ones(1),
               "optimized_attention_override": attend}
    x = torch.zeros(2, 4, 64, 64, device="meta")
    model.model.diffusion_model(x, torch.zeros(2, device="meta"), torch.zeros(2, 77, 768, device="meta"),
                                transformer_options=options)
    widths = dict(zip(ORDER.values(), SD15_LAYERS, strict=True))
    wanted = sorted(ORDER.values(), key=lambda block: (("input", "middle", "output").index(block[0]), block[1]))
    assert reached == [(block, widths[block]) for block in wanted]


def test_the_identity_branch_gets_no_image_tokens(host, prompt, sd, scene, adapters, cfg, step, sample):
    """Recorded inside the attention: keys of 4 tokens in the text's call alone; D of the identity is the plain one."""
    positive, negative, scale = scene.positive, scene.negative, 1.25
    watch = Watch(prompt.apply(sd.model, adapters[0], seen(1), 1.0))
    guider, = host.run("CamouflageGuider", model=watch.model, positive=positive, negative=negative,
                       identity=scene.identity, cfg=4.0, anonymization_scale=scale)
    result, *_ = step(guider)
    layers = len(patches(watch.model))
    identity = [call for call in watch.attentions if call.identity]
    text = [call for call in watch.attentions if not call.identity]
    assert layers == 6
    assert len(identity) == 2 * layers, "self- and cross-attention, nothing else"
    assert {call.tokens for call in identity} == {64, 16, 77}, "cells of the picture and tokens of the prompt"
    assert {call.branches for call in identity} == {(1,)}
    assert len(text) == 3 * layers and sum(call.tokens == 4 for call in text) == layers
    plain = Watch(sd.model)
    step(cfg(plain.model, scene.identity, scene.identity))
    assert difference(watch.predictions[1, True], plain.predictions[1, False]) < 1e-4, "as if there were no adapter"
    d_text, *_ = step(cfg(watch.model, positive, negative))
    d_id = watch.predictions[1, True]
    assert difference(result, d_id + scale * (d_text - d_id)) < 1e-3
    watch.attentions.clear()
    sample(guider, steps=3)
    assert sum(call.tokens == 4 for call in watch.attentions) == 3 * layers, "the mark does not outlive its call"


def test_base_and_light_mix(host, prompt, sd, scene, adapters, tmp_path, step):
    light = host.module("camouflage.comfy.light_adapter")
    adapter = light.load(save(t2i_adapter().state_dict(), tmp_path / "light.safetensors"))
    attribute_map = random_map(1)
    positive, negative = (light.apply(c, adapter, attribute_map, 1.0) for c in (scene.positive, scene.negative))
    model = prompt.apply(sd.model, adapters[0], seen(1), 0.6)

    def anonymized(model, positive, negative):
        return step(host.run("CamouflageGuider", model=model, positive=positive, negative=negative,
                             identity=scene.identity, cfg=4.0, anonymization_scale=1.25)[0])[0]

    whole = anonymized(model, positive, negative)
    for other in (anonymized(sd.model, positive, negative), anonymized(model, scene.positive, scene.negative)):
        assert difference(whole, other) > 1e-3
    patched, = host.run("CamouflageGuidance", model=model, identity=scene.identity, anonymization_scale=1.25)
    stock, = host.run("CFGGuider", model=patched, positive=positive, negative=negative, cfg=4.0)
    assert difference(step(stock)[0], whole) == 0.0


def test_branches_that_are_not_cond_get_projected_zeros(prompt, sd, adapters, cfg, step):
    watch = Watch(prompt.apply(sd.model, adapters[0], seen(1), 1.0))
    step(cfg(watch.model))
    call = watch.image()[0]
    net = adapters[0].net
    rows = {0: net.tokens(seen(1).image_embeds), 1: net.tokens(torch.zeros(1, EMBEDDING))}
    wanted = torch.cat([net.to_k[0](rows[branch]) for branch in call.branches])
    assert sorted(call.branches) == [0, 1]
    assert difference(call.keys, wanted) < 1e-5


def test_masks_keep_persons_apart(prompt, sd, adapters, cfg, step):
    left = torch.zeros(128, 128)
    left[:, :64] = 1.0

    def added(*applications):
        """What the first layer's attention gets from the image: 16 x 16 cells x width."""
        model = sd.model
        for output, mask in applications:
            model = prompt.apply(model, adapters[0], output, 1.0, mask=mask)
        patch = patches(model)["input", 1]
        q = torch.randn(1, 256, UNET[0], generator=torch.Generator().manual_seed(0))
        options = {"cond_or_uncond": [0], "n_heads": 8, "original_shape": [1, 4, 16, 16]}
        total = torch.zeros_like(q)
        while isinstance(patch, prompt.LayerPatch):
            total = total + patch.prompt.attend(q, patch.layer, options)
            patch = patch.previous
        return total.reshape(16, 16, UNET[0])

    a, b = seen(1), seen(2)
    both = added((a, left), (b, 1 - left))
    assert difference(both[:, :8], added((a, None))[:, :8]) == 0.0, "left person from the left picture alone"
    assert difference(both[:, 8:], added((b, None))[:, 8:]) == 0.0
    assert difference(added((a, left))[:, 8:], torch.zeros(16, 8, UNET[0])) == 0.0
    assert difference(added((a, torch.ones(1, 64, 64))), added((a, None))) == 0.0
    model = prompt.apply(sd.model, adapters[0], a, 1.0, mask=torch.zeros(128, 128))
    result, *_ = step(cfg(model))
    assert difference(result, step(cfg(sd.model))[0]) < 1e-4
    halves = prompt.apply(prompt.apply(sd.model, adapters[0], a, 1.0, mask=left), adapters[0], a, 1.0, mask=1 - left)
    whole = prompt.apply(sd.model, adapters[0], a, 1.0)
    assert difference(step(cfg(halves))[0], step(cfg(whole))[0]) < 1e-3


@pytest.mark.parametrize(("width", "words"), [
    (768, r"CLIP-L/14\), but .*\[pictures, 1024\] \(CLIP-H/14\)"), (512, "FaRL"), (1280, "CLIP-bigG"), (7, "unknown"),
])
def test_a_wrong_encoder_is_named(prompt, tmp_path, sd, width, words):
    adapter = prompt.load(save(ip_adapter(embedding=1024), tmp_path / "a.safetensors"))
    with pytest.raises(CamouflageError, match=f"'clip_vision_output' is .*{words}"):
        prompt.apply(sd.model, adapter, seen(1, width=width), 1.0)


def test_bad_input_is_refused(prompt, tmp_path, sd, adapters, cfg, sample):
    with pytest.raises(CamouflageError, match="no image embedding"):
        prompt.apply(sd.model, adapters[0], comfy.clip_vision.Output(), 1.0)
    with pytest.raises(CamouflageError, match=r"'clip_vision_output' .* has 3 pictures, but 2 are sampled"):
        sample(cfg(prompt.apply(sd.model, adapters[0], seen(1, 3), 1.0)), batch=2)
    with pytest.raises(CamouflageError, match=r"'mask' .* has 3 pictures, but 2 are sampled"):
        sample(cfg(prompt.apply(sd.model, adapters[0], seen(1), 1.0, mask=torch.ones(3, 64, 64))), batch=2)
    with pytest.raises(CamouflageError, match=r"'mask' .* is 64 x 32 px, another shape"):
        sample(cfg(prompt.apply(sd.model, adapters[0], seen(1), 1.0, mask=torch.ones(32, 64))))
    with pytest.raises(CamouflageError, match=r"'mask' is \[1, 1, 8, 8\]"):
        prompt.apply(sd.model, adapters[0], seen(1), 1.0, mask=torch.ones(1, 1, 8, 8))
    full = prompt.load(save(ip_adapter(SD15_LAYERS), tmp_path / "full.safetensors"))
    widths = re.escape(str(list(LAYERS)))
    with pytest.raises(CamouflageError, match=rf"'adapter' is for 16 .* 'model' has 6: {widths}"):
        prompt.apply(sd.model, full, seen(1), 1.0)


def bad_file(kind, states, folder, miniature_models):
    state, path = states[0], folder / "bad.safetensors"
    if kind == "controlnet":
        return next((miniature_models / "controlnet").glob("*depth*.safetensors"))
    if kind in ("pickle", "disguised"):
        path = folder / ("bad.bin" if kind == "pickle" else "bad.safetensors")
        torch.save(state, path)
    elif kind == "truncated":
        path.write_bytes(save(state, path).read_bytes()[:-1000])
    else:
        save({
            "light adapter": lambda: t2i_adapter((8,)).state_dict(),
            "plus": lambda: {"image_proj.latents": torch.zeros(1, 16, 768), **{k: v for k, v in state.items()
                                                                               if k.startswith("ip_adapter")}},
            "incomplete": lambda: {k: v for k, v in state.items() if k != "ip_adapter.5.to_v_ip.weight"},
            "FaceID": lambda: {f"image_proj.proj.{n}.weight": torch.zeros(4, 512) for n in (0, 2)},
            "full-face": lambda: {f"image_proj.proj.{n}.weight": torch.zeros(4, 4) for n in (0, 2, 3)},
            "FaceID-Plus": lambda: {"image_proj.perceiver_resampler.latents": torch.zeros(1, 4, 768)},
            "SDXL": lambda: plus_adapter(width=8, context=2048, dim=64, heads=1, depth=1),
            "more inside": lambda: {**state, "ip_adapter.1.gate": torch.zeros(2, 2)},
            "LoRA inside": lambda: {**state, "ip_adapter.1.to_q_lora.down.weight": torch.zeros(2, 2)},
        }[kind](), path)
    return path


@pytest.mark.parametrize(("kind", "words"), [
    ("controlnet", "is a ControlNet"), ("pickle", "only .safetensors"), ("disguised", "could not be loaded"),
    ("truncated", "could not be loaded"), ("light adapter", "T2I-Adapter"), ("plus", "another kind of IP-Adapter"),
    ("FaceID", "FaceID adapter: it reads the embedding of a face recogniser"), ("full-face", "is a full-face adapter"),
    ("FaceID-Plus", "FaceID adapter"), ("SDXL", "IP-Adapter for SDXL: .* width 2048"),
    ("incomplete", r"ip_adapter.5.to_v_ip.weight is absent, but must be \[32, 768\]"),
    ("LoRA inside", "FaceID adapter"), ("more inside", r"ip_adapter.1.gate is \[2, 2\], but must be absent"),
])
def test_every_other_file_is_refused(prompt, states, tmp_path, miniature_models, kind, words):
    with pytest.raises(CamouflageError, match=words):
        prompt.load(bad_file(kind, states, tmp_path, miniature_models))
