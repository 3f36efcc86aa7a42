"""Validation: it paints what the nodes paint, and it changes nothing of what is trained."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from camouflage.errors import CamouflageError
from camouflage.files import file_sha256
from camouflage.method.attribute_map import PROBABILITIES, SIGNED, AttributeMap
from camouflage.method.faces import Faces
from camouflage.training import config as configs
from camouflage.training import light, loop
from camouflage.training.checkpoints import EMA, WEIGHTS
from camouflage.training.loop import LOGS
from camouflage.training.networks import read
from camouflage.training.validation import Sampler
from camouflage.weights import of_role
from in_host import Calls
from light_weights import MINIATURE, difference_of_states, save, t2i_adapter
from sampled import everything
from training_data import FARL_STATES, synthetic_dataset, synthetic_info, synthetic_sample
from training_nets import tiny_checkpoint, tiny_ip_adapter

CHECKPOINT = "Realistic_Vision_V5.1_fp16-no-ema.safetensors"
SIDE = 8  # latent cells
SEED, STEPS, CFG, WEIGHT = 11, 3, 5.0, 0.8


AUTHORS = "prepare.image=FaRL states", "map.encoding=camouflage-probabilities"


def settings(*overrides):
    return configs.load("light", None, [
        f"validation.seed={SEED}", f"validation.sampler_steps={STEPS}", f"validation.cfg={CFG}",
        f"image_prompt.scale={WEIGHT}", *overrides])


@pytest.fixture(scope="module", params=["authors", *(["public"] if everything else [])])
def scene(request, host, miniature_models, tmp_path_factory) -> SimpleNamespace:
    """Two pictures, their maps, two adapters, and the sampler on the miniature checkpoint with its own VAE.

    Public: an image prompt that reads an embedding, signed maps. Authors: FaRL's states, maps of probabilities. The
    adapters do not say their encoding, as the files of a validation do not.
    """
    authors = request.param == "authors"
    info, chosen = synthetic_info(3, **(FARL_STATES if authors else {})), AUTHORS if authors else ()
    folder = tmp_path_factory.mktemp("adapters")
    samples = [synthetic_sample(seed, (SIDE, SIDE), (2,), info.image_shape) for seed in (1, 2)]
    weight, = of_role("image prompt (trained)" if authors else "image prompt")
    sampler = Sampler(miniature_models / "checkpoints" / CHECKPOINT, None,
                      miniature_models / weight.folder / weight.file,
                      argparse.Namespace(comfyui=None, models=[], cpu=True))
    encoding = PROBABILITIES if authors else SIGNED
    maps = [AttributeMap(light.draw_map(sample.picture, sample, settings(*chosen))[None], encoding)
            for sample in samples]
    adapters = [save(t2i_adapter(MINIATURE, seed=seed).state_dict(), folder / f"{seed}.safetensors") for seed in (0, 1)]

    def paint(adapter, *overrides, count=1):
        return sampler.light(adapter, samples[:count], maps[:count], info, settings(*chosen, *overrides))

    return SimpleNamespace(samples=samples, sampler=sampler, info=info, encoding=encoding, adapters=adapters,
                           paint=paint, painted=paint(adapters[0], count=2))


def test_pictures_are_three_side_by_side_and_depend_on_seed_and_adapter(scene):
    width = 8 * SIDE
    assert all(picture.shape == (width, 3 * width, 3) and picture.dtype == np.uint8 for picture in scene.painted)
    assert all(part.std() > 1 for picture in scene.painted for part in np.split(picture, 3, axis=1))
    with Calls(scene.sampler._loaded.model.model.diffusion_model) as unet:
        again = scene.paint(scene.adapters[0])
    assert unet.count == STEPS, "both prompts in one batch; DPM++ 2M SDE looks once a step"
    assert np.array_equal(again[0], scene.painted[0])
    for adapter, changes in ((scene.adapters[1], ()), (scene.adapters[0], ("validation.seed=12",))):
        other, = scene.paint(adapter, *changes)
        assert np.array_equal(other[:, :2 * width], again[0][:, :2 * width]), "original and map are as they were"
        assert (other[:, 2 * width:] != again[0][:, 2 * width:]).mean() > 0.5
    for decoded, picture in zip(scene.sampler.decode([sample.latent for sample in scene.samples]), scene.painted,
                                strict=True):
        assert np.array_equal(decoded, picture[:, :width])


def test_it_paints_what_the_nodes_paint(host, scene):
    import comfy.clip_vision

    loaded, _, vae = host.run("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    prompt = host.module("camouflage.comfy.image_prompt").load(scene.sampler._files[2])
    adapter = host.module("camouflage.comfy.light_adapter").load(scene.adapters[0], scene.encoding)
    seen_name = "image_embeds" if scene.encoding == SIGNED else "penultimate_hidden_states"
    for sample, picture in zip(scene.samples, scene.painted, strict=True):
        seen = comfy.clip_vision.Output()
        seen[seen_name] = sample.image[None]
        model, = host.run("CamouflageApplyImagePrompt", model=loaded, image_prompt=prompt, clip_vision_output=seen,
                          weight=WEIGHT, clip_vision=scene.info.empty_image[None].float())
        faces = host.module("camouflage.method.faces").Faces.from_json(Faces((sample.picture,)).to_json())
        attribute_map, map_picture, *_ = host.run("CamouflageAttributeMap", faces=faces, width=8 * SIDE,
                                                  height=8 * SIDE, adapter=adapter)
        positive, negative = (
            host.run("CamouflageApplyLightAdapter", conditioning=[[text[None], {}]], light_adapter=adapter,
                     map=attribute_map)[0] for text in (sample.text, scene.info.empty_text.float()))
        latent, = host.run("KSampler", model=model, seed=SEED, steps=STEPS, cfg=CFG, sampler_name="dpmpp_2m_sde",
                           scheduler="karras", positive=positive, negative=negative,
                           latent_image={"samples": torch.zeros(1, 4, SIDE, SIDE)})
        image, = host.run("VAEDecode", vae=vae, samples=latent)
        for found, wanted in zip(np.split(picture, 3, axis=1)[1:], (map_picture, image), strict=True):
            levels = (wanted[0] * 255).round().numpy()
            print(f"largest difference: {np.abs(found - levels).max():g} of 255")
            assert np.abs(found - levels).max() <= 1


def test_an_adapter_that_does_not_fit_is_explained(scene, tmp_path):
    narrow = save(t2i_adapter((32, 64)).state_dict(), tmp_path / "narrow.safetensors")
    with pytest.raises(CamouflageError, match=r"widths \[32, 64\].*'model' has \[320, 640\]"):
        scene.paint(narrow)


class Painter(Sampler):
    """In a sampler's place: notes the weights that it was to paint with."""

    def __init__(self):
        self.seen, self.files, self.tuned = [], [], []

    def light(self, adapter, samples, maps, info, config, image_prompt=None):
        assert maps[0].values.shape == (1, 41, 8, 8) and float(maps[0].values.abs().max()) > 0
        assert maps[0].encoding.name == config.map.encoding and info.empty_text.shape == (77, 768)
        self.files.append(adapter)
        self.seen.append(read(adapter))
        self.tuned.append(image_prompt and read(image_prompt))
        return [np.full((8, 24, 3), 40 * i, np.uint8) for i, _ in enumerate(samples, 1)]


def test_it_changes_no_bit_of_what_is_trained_and_looks_at_the_average(tmp_path):
    base = tiny_checkpoint(tmp_path / "base.safetensors")
    prompt = tiny_ip_adapter(tmp_path / "prompt.safetensors")
    dataset = synthetic_dataset(tmp_path / "dataset", 30, base_model=file_sha256(base))
    painter, last = Painter(), {}
    for name, every in (("with", 1), ("without", 0)):
        config = settings("precision=fp32", "batch_size=2", "steps=3", "schedule.warmup=0", "ema.decay=0.5",
                          "optimizer.learning_rate=1e-2", "checkpoints.every=1", "checkpoints.keep_last=9",
                          "validation.held_out=3", "validation.pictures=2", f"validation.every={every}")
        job = light.job(config, dataset, base, prompt, painter)
        last[name] = loop.train(job, dataset, config, tmp_path / name, loop.make_accelerator(config, cpu=True))
    for file in (WEIGHTS, EMA):
        assert difference_of_states(load_file(last["with"] / file), load_file(last["without"] / file)) == 0.0
    averages = [load_file(last["with"].parent / f"step-{step:08d}" / EMA) for step in (1, 2, 3)]
    assert len(painter.seen) == 3 and not any(file.exists() for file in painter.files), "files of a while"
    assert [difference_of_states(*pair) for pair in zip(painter.seen, averages, strict=True)] == [0.0, 0.0, 0.0]
    assert difference_of_states(averages[2], load_file(last["with"] / WEIGHTS)) > 1e-4

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(tmp_path / "with" / LOGS))
    log.Reload()
    assert [event.step for event in log.Scalars("validation/loss")] == [1, 2, 3]
    assert {"validation/picture_0", "validation/picture_1"} == set(log.Tags()["images"])
    assert {"validation/loss_without_map", "validation/own_map_beats_anothers"} <= set(log.Tags()["scalars"])


def test_pictures_are_painted_with_the_image_prompt_that_is_trained(tmp_path):
    base = tiny_checkpoint(tmp_path / "base.safetensors")
    prompt = tiny_ip_adapter(tmp_path / "prompt.safetensors")
    dataset = synthetic_dataset(tmp_path / "dataset", 20, base_model=file_sha256(base))
    for train in (False, True):
        painter = Painter()
        config = settings("precision=fp32", "validation.pictures=1", f"image_prompt.train={str(train).lower()}")
        job = light.job(config, dataset, base, prompt, painter)
        tensors = {name: parameter.detach() + 1 for name, parameter in job.trained.items()}
        job.validate(1, tensors, [dataset[0], dataset[1]], torch.device("cpu"))
        assert (painter.tuned[0] is not None) == train
        assert painter.seen[0].keys() == {name for name in tensors if name.startswith("adapter.")}
    assert difference_of_states(painter.tuned[0], {name: value + 1 for name, value in read(prompt).items()}) < 1e-6
