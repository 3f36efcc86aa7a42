"""A part of a batch, sampled alone: the same pictures as in the whole batch, or an honest refusal."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from in_host import SIZE, Calls, difference, pictures
from light_weights import ip_adapter, random_map, save, seen, t2i_adapter

BATCH = 3


@pytest.fixture(scope="module")
def selection(host):
    return host.module("camouflage.comfy.selection")


@pytest.fixture(scope="module")
def graph(host, sd, tmp_path_factory):
    """Everything that has a row a picture: captions, ControlNets, the identity and its mask, map, image prompt."""
    prompt, light = host.module("camouflage.comfy.image_prompt"), host.module("camouflage.comfy.light_adapter")
    folder = tmp_path_factory.mktemp("light")
    image = prompt.load(save(ip_adapter(seed=1), folder / "ip.safetensors"))
    adapter = light.load(save(t2i_adapter().state_dict(), folder / "t2i.safetensors"))
    captions, = host.run("CamouflageEncodeCaptions", clip=[sd.clip], captions=["a dog", "a cat", "a woman"],
                         suffix=[""])
    positive, negative = host.run("CamouflageSceneControl", positive=captions, negative=sd.negative,
                                  depth_map=pictures(1, BATCH), depth_control_net=sd.nets["depth"])
    faces = torch.cat([random_map(seed) for seed in range(BATCH)])
    positive, negative = (light.apply(text, adapter, faces, 0.8) for text in (positive, negative))
    masks = torch.stack([torch.full((SIZE, SIZE), level) for level in (1.0, 0.5, 0.2)])
    model = prompt.apply(sd.model, image, seen(1, BATCH), 0.9, mask=masks)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(9, BATCH))
    guider, = host.run("CamouflageGuider", model=model, positive=positive, negative=negative, identity=identity,
                       mask=masks, anonymization_scale=1.5)
    return guider


def sampled(host, sd, guider, noise, steps=3):
    sampler, = host.run("KSamplerSelect", sampler_name="euler")
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=steps, denoise=1.0)
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, seed=7)


@pytest.mark.parametrize("part", [[1], [0, 2]])
def test_pictures_of_a_part_equal_those_of_the_whole_batch(host, sd, graph, selection, part):
    noise = torch.randn(BATCH, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(1))
    whole = sampled(host, sd, graph, noise)
    some = selection.BatchPart(part)
    alone = some.guider(graph)
    scale = float(whole.abs().max())
    with Calls(sd.nets["depth"].control_model) as calls:
        ours = sampled(host, sd, alone, some.rows(noise))
    assert difference(ours, whole[part]) < 1e-4 * scale, "rounding differs with the size of a batch"
    assert calls.count == 3 and len(ours) == len(part)
    others = [picture for picture in range(BATCH) if picture not in part][:len(part)]
    assert difference(ours[:len(others)], whole[others]) > 1e-2 * scale
    assert difference(sampled(host, sd, graph, noise), whole) == 0.0, "what was handed in is as it was"


def test_what_could_know_of_single_pictures_is_refused(host, sd, selection):
    part = selection.BatchPart([0])

    def stock(**extras):
        guider, = host.run("BasicGuider", model=sd.model, conditioning=[[sd.empty[0][0], extras]])
        return guider

    class Theirs(comfy.samplers.CFGGuider):
        def outer_sample(self, *args, **kwargs):
            return super().outer_sample(*args, **kwargs)

    class Control(type(sd.nets["depth"])):
        pass

    control = Control(None)
    control.set_cond_hint(torch.rand(2, 3, 64, 64))
    wrapped, state = sd.model.clone(), torch.rand(2, 3)
    wrapped.add_wrapper(WrappersMP.PREDICT_NOISE, lambda executor, *args: executor(*args) + 0 * state.sum())
    stateful = stock()
    stateful.model_patcher, stateful.model_options = wrapped, wrapped.model_options
    for guider in (Theirs(sd.model), stock(control=control), stock(theirs=torch.rand(2, 4)), stateful):
        with pytest.raises(selection.WholeBatch):
            part.guider(guider)
    assert part.guider(stock(theirs=torch.rand(1, 4), strength=0.5)) is not None
    with pytest.raises(selection.WholeBatch):
        part.check_sampler(object())
    with pytest.raises(selection.WholeBatch):
        part.latent(torch.zeros(2, 4, 3, 8, 8))


def test_safe_sampler_samples_again_what_failed(host, sd, graph, monkeypatch):
    """The second attempt sees a latent of the one picture in which somebody was recognised."""
    from types import SimpleNamespace

    safe = host.module("camouflage.comfy.safe_sampler")
    noise, = host.run("RandomNoise", noise_seed=3)
    sampler, = host.run("KSamplerSelect", sampler_name="euler")
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=2, denoise=1.0)
    latent = {"samples": torch.zeros(BATCH, 4, SIZE // 8, SIZE // 8)}
    sampling = safe.Sampling(noise, graph, sampler, sigmas, latent, SimpleNamespace(decode=lambda samples: samples))
    with torch.inference_mode():
        whole = sampling.run(4, 1.6, lambda done: None)
        again = sampling.run(4, 1.6, lambda done: None, [2])
    assert (whole.together, again.together) == ((0, 1, 2), (2,)) and len(again.samples) == 1
    assert difference(again.samples, whole.samples[2:]) < 1e-4 * float(whole.samples.abs().max())
    assert difference(again.samples, whole.samples[:1]) > 1e-2
