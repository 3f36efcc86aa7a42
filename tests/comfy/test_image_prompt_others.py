"""The image prompt in one model with other nodes that replace cross-attention, applied before and after it."""

from __future__ import annotations

import pytest
import torch

from camouflage.errors import CamouflageError
from in_host import difference
from light_weights import UNET, ip_adapter, patches, save, seen

BLOCK = ("input", 1)


@pytest.fixture(scope="module")
def prompt(host):
    from camouflage.comfy import image_prompt

    return image_prompt


@pytest.fixture(scope="module")
def adapter(prompt, tmp_path_factory):
    return prompt.load(save(ip_adapter(seed=1), tmp_path_factory.mktemp("ip") / "0.safetensors"))


@pytest.fixture(scope="module")
def with_image(prompt, adapter):
    return lambda model: prompt.apply(model, adapter, seen(1), 0.8)


@pytest.fixture
def denoise(host, sd, sample):
    def run(model):
        return sample(host.run("CFGGuider", model=model, positive=sd.positive, negative=sd.negative, cfg=4.0)[0])
    return run


class Attention:
    """What IPAdapter_plus and its relatives put into a model: the text's attention, and what callbacks add to it."""

    def __init__(self, callback, **settings):
        self.callbacks = [(callback, settings)]

    def add(self, callback, **settings):
        self.callbacks.append((callback, settings))

    def __call__(self, q, k, v, options):
        from comfy.ldm.modules.attention import optimized_attention

        out, sigma = optimized_attention(q, k, v, options["n_heads"]), float(options["sigmas"][0])
        for callback, settings in self.callbacks:
            if settings["sigma_end"] <= sigma <= settings["sigma_start"]:
                out = out + callback(out, q, k, v, options, **settings)
        return out


def wave(out, q, k, v, options, height, **_):
    return height * torch.sin(torch.arange(q.shape[-1], dtype=q.dtype)).expand_as(q)


def other(model, key=BLOCK, height=2.0, sigma_start=1e9, sigma_end=0.0):
    """As such a node does it: a clone, the block's key, and `add` if something stands there."""
    model = model.clone()
    settings = {"height": height, "sigma_start": sigma_start, "sigma_end": sigma_end}
    if key in patches(model):
        patches(model)[key].add(wave, **settings)
    else:
        model.set_model_attn2_replace(Attention(wave, **settings), *key)
    return model


def attended(model, key=BLOCK, sigma=1.0):
    """What the attention under a key makes of seeded tensors."""
    q, k, v = torch.randn(3, 1, 256, UNET[0], generator=torch.Generator().manual_seed(0))
    options = {"cond_or_uncond": [0], "n_heads": 8, "sigmas": torch.tensor([sigma])}
    return patches(model)[key](q, k[:, :77], v[:, :77], options)


@pytest.mark.parametrize("key", [BLOCK, (*BLOCK, 0)])
def test_a_node_before_is_kept(sd, with_image, denoise, key):
    before = other(sd.model, key)
    both, image = with_image(before), with_image(sd.model)
    added = wave(None, torch.zeros(1, 256, UNET[0]), None, None, None, 2.0)
    assert difference(attended(both, key), attended(image) + added) < 1e-5
    result = denoise(both)
    assert difference(result, denoise(before)) > 1e-2 and difference(result, denoise(image)) > 1e-2


@pytest.mark.parametrize("first", [None, (*BLOCK, 0)], ids=["image first", "another before both"])
def test_a_node_after_is_kept_and_changes_no_other_model(sd, with_image, denoise, first):
    image = with_image(sd.model if first is None else other(sd.model, first, height=1.0))
    alone, stood = denoise(image), attended(image)
    both = other(image)
    added = wave(None, torch.zeros(1, 256, UNET[0]), None, None, None, 2.0)
    assert difference(attended(both), stood + added) < 1e-5
    result = denoise(both)
    assert difference(result, alone) > 1e-2
    assert difference(denoise(image), alone) == 0.0 and difference(attended(image), stood) == 0.0
    if first is None:
        swapped = denoise(with_image(other(sd.model)))
        assert difference(result, swapped) < 1e-5 * float(swapped.abs().max()), "in either order the same picture"


def test_a_node_after_acts_at_its_own_noise_levels(sd, with_image):
    image = with_image(sd.model)
    both = other(image, sigma_start=5.0, sigma_end=2.0)
    added = wave(None, torch.zeros(1, 256, UNET[0]), None, None, None, 2.0)
    for sigma, there in ((5.1, 0.0), (5.0, 1.0), (2.0, 1.0), (1.9, 0.0)):
        assert difference(attended(both, sigma=sigma), attended(image, sigma=sigma) + there * added) < 1e-5


def test_two_nodes_and_two_image_prompts_all_act(sd, with_image):
    model = other(with_image(other(with_image(sd.model), height=1.0)), height=0.5)
    added = wave(None, torch.zeros(1, 256, UNET[0]), None, None, None, 1.5)
    assert difference(attended(model), attended(with_image(with_image(sd.model))) + added) < 1e-5
    assert difference(attended(model.clone()), attended(model)) == 0.0


@pytest.mark.parametrize(("key", "words"), [
    (BLOCK, "node after the image prompt has replaced the cross-attention of input block 1"),
    ((*BLOCK, 0), "Two nodes have replaced the cross-attention of input block 1"),
])
def test_a_node_that_takes_the_place_is_named_before_sampling(sd, with_image, denoise, key, words):
    model = with_image(sd.model).clone()
    model.set_model_attn2_replace(Attention(wave, height=1.0, sigma_start=1e9, sigma_end=0.0), *key)
    with pytest.raises(CamouflageError, match=words):
        denoise(model)
    if key == BLOCK:
        denoise(with_image(sd.model))  # the model it was made of is whole


def test_of_two_nodes_before_one_would_be_ignored(sd, with_image):
    with pytest.raises(CamouflageError, match="uses only one of them"):
        with_image(other(other(sd.model), (*BLOCK, 0)))


def test_a_node_that_needs_more_than_add_is_told_where_it_belongs(sd, with_image):
    patch = patches(with_image(sd.model))[BLOCK]
    assert not hasattr(patch, "models"), "the host asks for it"
    with pytest.raises(AttributeError, match=r"has no 'set_new_condition'.* before the image prompt"):
        patch.set_new_condition()
