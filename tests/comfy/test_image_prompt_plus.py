"""IP-Adapters of the Plus kind in the host against diffusers' IPAdapterPlusImageProjection."""

from __future__ import annotations

import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.weights import FARL
from image_prompts import Watch, reference
from in_host import difference, pictures
from light_weights import EMBEDDING, ip_adapter, patches, plus_adapter, save, seen

TOKENS = 16


@pytest.fixture(scope="module")
def prompt(host):
    from camouflage.comfy import image_prompt

    return image_prompt


@pytest.fixture(scope="module")
def states():
    """Two of the Plus kind: the published sizes, and other ones; diffusers assumes four layers."""
    return [plus_adapter(seed=1), plus_adapter(seed=2, dim=128, heads=3, tokens=9)]


@pytest.fixture(scope="module")
def adapters(prompt, states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plus")
    return [prompt.load(save(state, folder / f"{i}.safetensors")) for i, state in enumerate(states)]


@pytest.fixture(scope="module")
def nothing():
    """An encoder's hidden states of a zero tensor."""
    return seen(99).penultimate_hidden_states


def shown(output, nothing, batch):
    """What diffusers is given for the two branches: the pictures' states, and for uncond those of no picture."""
    return output.penultimate_hidden_states, nothing.expand(batch, -1, -1)


@pytest.mark.parametrize("number", [1, 2])
def test_a_step_equals_diffusers(prompt, sd, adapters, states, nothing, unet, cfg, step, number):
    """Two pictures, each with its own tokens; one adapter, then two stacked; cond and uncond apart."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    weights = [0.8, 1.3][:number]
    outputs = [seen(seed, 2) for seed in range(number)]
    model = sd.model
    for adapter, output, weight in zip(adapters, outputs, weights, strict=False):
        model = prompt.apply(model, adapter, output, weight, clip_vision=nothing)
    watch, plain = Watch(model, TOKENS), Watch(sd.model)
    _, x, sigma = step(cfg(watch.model), 2)
    step(cfg(plain.model), 2)
    for branch, text in ((0, sd.positive), (1, sd.negative)):
        embeds = [shown(output, nothing, 2)[branch] for output in outputs]
        wanted = reference(unet, states[:number], weights, embeds, x, sigma, text[0][0])
        assert all(isinstance(layer, IPAdapterPlusImageProjection)
                   for layer in unet.encoder_hid_proj.image_projection_layers)
        got, scale = watch.predictions[branch, False], float(wanted.abs().max())
        print(f"{number} adapters, branch {branch}: {difference(got, wanted) / scale:.2e} relative")
        assert difference(got, wanted) < 1e-4 * scale
        assert difference(plain.predictions[branch, False], wanted) > 1e-3 * scale, "the image must matter"


def test_plain_and_plus_stack(prompt, sd, adapters, states, nothing, unet, cfg, step, tmp_path):
    plain = ip_adapter(seed=5)
    output = seen(1)
    model = prompt.apply(sd.model, adapters[0], output, 0.7, clip_vision=nothing)
    model = prompt.apply(model, prompt.load(save(plain, tmp_path / "plain.safetensors")), output, 0.9)
    watch = Watch(model, TOKENS)
    _, x, sigma = step(cfg(watch.model))
    for branch, text in ((0, sd.positive), (1, sd.negative)):
        embeds = [shown(output, nothing, 1)[branch], output.image_embeds * (branch == 0)]
        wanted = reference(unet, [states[0], plain], [0.7, 0.9], embeds, x, sigma, text[0][0])
        assert difference(watch.predictions[branch, False], wanted) < 1e-4 * float(wanted.abs().max())


def test_masked_ones_equal_diffusers_in_their_halves(prompt, sd, adapters, states, nothing, unet, cfg, step):
    """diffusers' own masks (ip_adapter_masks), made for these cells by its own processor; 64 px halves."""
    from diffusers.image_processor import IPAdapterMaskProcessor

    left = torch.zeros(64, 64)
    left[:, :32] = 1.0
    outputs = [seen(1), seen(2)]
    model = sd.model
    for output, mask in zip(outputs, (left, 1 - left), strict=True):
        model = prompt.apply(model, adapters[0], output, 0.9, mask=mask, clip_vision=nothing)
    watch = Watch(model, TOKENS)
    _, x, sigma = step(cfg(watch.model))
    masks = [IPAdapterMaskProcessor().preprocess([mask], 64, 64).reshape(1, 1, 64, 64) for mask in (left, 1 - left)]
    for branch, text in ((0, sd.positive), (1, sd.negative)):
        embeds = [shown(output, nothing, 1)[branch] for output in outputs]
        wanted = reference(unet, [states[0], states[0]], [0.9, 0.9], embeds, x, sigma, text[0][0], masks)
        assert difference(watch.predictions[branch, False], wanted) < 1e-4 * float(wanted.abs().max())


def test_the_identity_branch_gets_no_image_tokens(host, prompt, sd, scene, adapters, nothing, step, cfg):
    watch = Watch(prompt.apply(sd.model, adapters[0], seen(1), 1.0, clip_vision=nothing), TOKENS)
    guider, = host.run("CamouflageGuider", model=watch.model, positive=scene.positive, negative=scene.negative,
                       identity=scene.identity, cfg=4.0, anonymization_scale=1.25)
    step(guider)
    text = [call for call in watch.attentions if not call.identity]
    # 16 tokens and the 16 cells of the middle level look alike, so count those that are not attention to cells
    layers = len(patches(watch.model))
    assert sum(call.tokens == TOKENS for call in text) - sum(call.tokens == TOKENS for call in watch.attentions
                                                            if call.identity) == layers
    plain = Watch(sd.model)
    step(cfg(plain.model, scene.identity, scene.identity))
    assert difference(watch.predictions[1, True], plain.predictions[1, False]) < 1e-4, "as if there were no adapter"


def test_the_encoder_makes_uncond_of_a_zero_tensor(host, prompt, wide_sd, step, cfg):
    """Through the nodes, with FaRL: every branch's keys are those of the states that transformers' net would give."""
    encoder, = host.run("CamouflageFaceEncoder", encoder=f"{FARL}.pth")
    output, = host.run("CLIPVisionEncode", clip_vision=encoder, image=pictures(1, 1, 96, 80), crop="none")
    adapter, = host.run("CamouflageImagePromptLoader", adapter="camouflage_light_sd15_image_prompt.safetensors")
    assert adapter.encoder == FARL
    model, = host.run("CamouflageApplyImagePrompt", model=wide_sd.model, image_prompt=adapter,
                      clip_vision_output=output, weight=1.0, clip_vision=encoder)
    watch = Watch(model, TOKENS)
    step(cfg(watch.model))
    call = next(call for call in watch.image() if (call.block == ("input", 1) and call.branches == (0, 1))
                or (call.tokens == TOKENS and call.block == ("input", 1)))
    zero = encoder.model(pixel_values=torch.zeros(1, 3, 224, 224), intermediate_output=-2)[1]
    rows = {0: adapter.net.tokens(output.penultimate_hidden_states), 1: adapter.net.tokens(zero)}
    wanted = torch.cat([adapter.net.to_k[0](rows[branch]) for branch in call.branches])
    assert difference(call.keys, wanted) < 1e-4
    assert difference(rows[0], rows[1]) > 1e-2


def test_an_encoder_that_does_not_fit_is_refused(host, prompt, sd, adapters, nothing, tmp_path):
    with pytest.raises(CamouflageError, match=r"\[1, 5, 1024\] \(CLIP-L/14\).*states, 64\].*FaRL"):
        prompt.apply(sd.model, adapters[0], seen(1, width=1024), 1.0, clip_vision=nothing)
    with pytest.raises(CamouflageError, match="'clip_vision' is not connected"):
        prompt.apply(sd.model, adapters[0], seen(1), 1.0)
    with pytest.raises(CamouflageError, match=r"hidden states \[9, 64\].*another encoder: \[5, 64\]"):
        prompt.apply(sd.model, adapters[0], seen(1), 1.0, clip_vision=seen(1, states=9).penultimate_hidden_states)
    clip, = host.run("CLIPVisionLoader", clip_name="CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors")
    trained = prompt.load(save(plus_adapter(depth=1), tmp_path / "trained.safetensors", {"image_encoder": FARL}))
    with pytest.raises(CamouflageError, match=f"another image encoder than {FARL}"):
        prompt.apply(sd.model, trained, seen(1), 1.0, clip_vision=clip)


@pytest.mark.parametrize("queries", [16, 32])
def test_sizes_are_read_from_the_file(prompt, tmp_path, queries):
    adapter = prompt.load(save(plus_adapter(tokens=queries, dim=64, heads=2, depth=3, width=48),
                               tmp_path / "a.safetensors"))
    assert (adapter.layout.tokens, adapter.layout.width, adapter.layout.context) == (queries, 48, 768)
    sizes = adapter.layout.resampler
    assert (sizes.dim, sizes.inner, sizes.depth, sizes.hidden) == (64, 128, 3, 256)
    assert adapter.net.tokens(torch.zeros(2, 7, 48)).shape == (2, queries, 768)


@pytest.mark.parametrize(("change", "words"), [
    ({"image_proj.layers.1.1.3.weight": None}, r"layers.1.1.3.weight is absent, but must be \[768, 3072\]"),
    ({"image_proj.proj_in.bias": torch.zeros(5)}, r"proj_in.bias is \[5\], but must be \[768\]"),
    ({"image_proj.layers.0.0.to_q.weight": torch.zeros(100, 768)}, "another kind of IP-Adapter"),
    ({"image_proj.pos_emb.weight": torch.zeros(5, 768)}, "pos_emb.weight is .* must be absent"),
])
def test_incomplete_ones_are_refused(prompt, states, tmp_path, change, words):
    state = {key: value for key, value in {**states[0], **change}.items() if value is not None}
    with pytest.raises(CamouflageError, match=words):
        prompt.load(save(state, tmp_path / "bad.safetensors"))


def test_the_width_of_the_states_is_that_of_the_encoder(adapters):
    assert adapters[0].layout.width == EMBEDDING and adapters[0].layout.tokens == TOKENS
