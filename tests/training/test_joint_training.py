"""Adapter and image prompt trained together, as the paper's authors do: the settings light-authors.yaml."""

from __future__ import annotations

import argparse
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from camouflage.commands.launch import make_parser
from camouflage.errors import CamouflageError
from camouflage.files import file_sha256
from camouflage.method.attribute_map import PROBABILITIES
from camouflage.method.faces import Faces
from camouflage.training import checkpoints, export, light, loop, networks, prepare, sidecars, start
from camouflage.training import config as configs
from camouflage.training.checkpoints import EMA
from camouflage.training.dataset import Dataset
from camouflage.training.validation import Sampler
from camouflage.weights import FARL
from in_host import difference
from light_weights import difference_of_states, plus_adapter, random_map, save
from sampled import long
from testing.drawn_faces import draw
from training_command import train
from training_data import AUTHORS, FARL_STATES, restored_model_folders, synthetic_dataset
from training_nets import TEXT, WIDTHS, tiny_checkpoint, tiny_ip_adapter

QUICK = ("precision=fp32", "batch_size=2", "optimizer.learning_rate=1e-3", "validation.every=0",
         "validation.held_out=0", "checkpoints.every=1000", "image_prompt.depth=1")
GROUPS = ("adapter.", "image_proj.", "ip_adapter.")
PLACES = {1: "input_blocks.1", 3: "input_blocks.2", 5: "output_blocks.3", 7: "output_blocks.4", 9: "output_blocks.5",
          11: "middle_block"}  # of the small UNet's cross-attention, by the published numbers


def settings(*overrides):
    return configs.load("light", AUTHORS, [*QUICK, *overrides])


def run(job, dataset, config, output):
    return loop.train(job, dataset, config, output, loop.make_accelerator(config, cpu=True))


def copied(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A base model, and a dataset of hidden states without any meaning."""
    folder = tmp_path_factory.mktemp("small")
    base = tiny_checkpoint(folder / "base.safetensors")
    return SimpleNamespace(base=base, folder=folder / "dataset", dataset=synthetic_dataset(
        folder / "dataset", 12, base_model=file_sha256(base), **FARL_STATES))


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """A run of three steps; weights change by their gradients alone."""
    config = settings("steps=3", "ema.decay=0.5", "optimizer.weight_decay=0")
    job = light.job(config, small.dataset, small.base)
    before = copied(job.trained)
    return SimpleNamespace(job=job, before=before, last=run(job, small.dataset, config,
                                                            tmp_path_factory.mktemp("trained")))


# --- prepare ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(host, miniature_models, tmp_path_factory):
    """Two photos of odd shapes with captions and faces beside them, prepared by the command for the authors' way."""
    folder = tmp_path_factory.mktemp("real")
    photos = {}
    for i, (width, height) in enumerate(((211, 300), (341, 200)), 1):
        pixels, picture = draw(i, width, height, 2)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("two people")
        (folder / f"{i}.faces.json").write_text(Faces((picture,)).to_json())
        photos[prepare.source_of(f"0/{i}.png", folder / f"{i}.png")] = pixels, picture
    arguments = ["prepare", str(folder), "--dataset", str(folder / "data"), "--smallest-side", "64", "--models",
                 str(miniature_models), "--config", AUTHORS.name]
    with restored_model_folders():
        assert train(*arguments, "--resolution", 128) == 0
        dataset = Dataset.open(folder / "data")
        yield SimpleNamespace(options=make_parser().parse_args(["train", *arguments]), info=dataset.info,
                              samples=[(sample, *photos[sample.source]) for sample in dataset])


def test_prepare_stores_what_the_nodes_give(host, real, miniature_models):
    encoder, = host.run("CamouflageFaceEncoder", encoder=f"{FARL}.pth")
    vae, = host.run("VAELoader", vae_name="vae-ft-mse-840000-ema-pruned.safetensors")
    assert len(real.samples) == 2
    for sample, pixels, picture in real.samples:
        photo = torch.from_numpy(pixels.astype(np.float32) / 255)[None]
        image, width, height, _ = host.run("CamouflagePrepareImage", image=photo, size=128, fit="square")
        assert (width, height) == (128, 128) == (sample.picture.width, sample.picture.height)
        look, = host.run("CLIPVisionEncode", clip_vision=encoder, image=image, crop="none")
        states = look.penultimate_hidden_states[0]
        assert states.shape == (197, 768) and states.std() > 0.1
        assert torch.equal(sample.image, states.half().float())
        latent, = host.run("VAEEncode", vae=vae, pixels=image)
        assert torch.equal(sample.latent, (latent["samples"][0] * 0.18215).half().float())
        assert sample.picture == sidecars.scale_and_crop(picture, 128, 128, "square") and sample.picture.faces
    first, second = (sample.image for sample, *_ in real.samples)
    assert (first - second).abs().max() > 0.1
    assert (real.info.image, real.info.fit, real.info.image_shape) == ("FaRL states", "square", [197, 768])
    with torch.no_grad():
        nothing = encoder.model(pixel_values=torch.zeros(1, 3, 224, 224), intermediate_output=-2)[1][0]
    assert torch.equal(real.info.empty_image, nothing.half()) and nothing.std() > 0.1
    assert real.info.image_encoder == file_sha256(miniature_models / "camouflage" / "faces" / f"{FARL}.pth")


def test_the_settings_say_the_size_and_resolution_goes_before_them(real):
    assert prepare.chosen(real.options) == configs.Prepare(512, "square", "FaRL states")
    assert real.info.resolution == 128
    assert prepare.chosen(changed(real.options, "prepare.fit=crop", "prepare.resolution=640")) == configs.Prepare(
        640, "crop", "FaRL states")


def changed(options, *settings):
    return argparse.Namespace(**{**vars(options), "set": list(settings)})


@long
def test_states_of_clip_can_be_stored_too(host, real):
    asked, picture = prepare.Networks(changed(real.options, "prepare.image=CLIP states")), torch.rand(1, 128, 128, 3)
    info = asked.info()
    encoder, = host.run("CLIPVisionLoader", clip_name="CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors")
    look, = host.run("CLIPVisionEncode", clip_vision=encoder, image=picture, crop="none")
    with torch.inference_mode():
        assert torch.equal(asked.image(picture), look.penultimate_hidden_states[0].float())
        nothing = encoder.model(pixel_values=torch.zeros(1, 3, 224, 224), intermediate_output=-2)[1][0]
    assert (info.image, info.image_shape) == ("CLIP states", [257, 1024]) and info.empty_image.any()
    assert torch.equal(info.empty_image, nothing.half())


# --- the new image prompt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_its_keys_and_values_are_the_base_models_to_the_bit(small, precision):
    """What is rounded for the frozen UNet is not rounded in what is trained."""
    state = load_file(small.base)
    job = light.job(settings(f"precision={precision}"), small.dataset, small.base)
    assert {name for name in job.trained if name.startswith("ip_adapter.")} == {
        f"ip_adapter.{number}.{part}_ip.weight" for number in PLACES for part in ("to_k", "to_v")}
    for number, place in PLACES.items():
        for part in ("to_k", "to_v"):
            key = f"model.diffusion_model.{place}.1.transformer_blocks.0.attn2.{part}.weight"
            found = job.trained[f"ip_adapter.{number}.{part}_ip.weight"]
            assert found.dtype == torch.float32 and torch.equal(found, state[key].float())


@pytest.mark.parametrize("queries", [16, 32])
def test_a_new_one_is_seeded_and_its_tokens_are_finite(small, queries):
    unet, numbers = networks.load_unet(small.base), torch.random.get_rng_state()
    first, again, other = (networks.new_image_prompt(unet, 768, queries, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), numbers), "nobody else's numbers are drawn"
    assert {key: value.shape for key, value in first.state.items()} == {
        key: value.shape for key, value in plus_adapter([WIDTHS[0]] * 5 + [WIDTHS[1]], 768, tokens=queries).items()}
    assert difference_of_states(dict(first.state), dict(again.state)) == 0.0
    changed = {key for key, value in first.state.items() if not torch.equal(value, other.state[key])}
    drawn = {key for key in first.state if key.startswith("image_proj.") and "norm" not in key and not
             re.search(r"layers\.\d\.1\.0\.", key)}
    assert changed == drawn, "keys and values are not drawn, and norms begin as 1 and 0"
    assert float(first.state["image_proj.latents"].std()) == pytest.approx(768**-0.5, rel=0.03)
    named = networks.add_image_prompt(unet, first, "new", 1.0)
    assert named.keys() == first.state.keys()
    for size in (1.0, 1e-3, 1e3):
        states = size * torch.randn(2, 1, 197, 768, generator=torch.Generator().manual_seed(0))
        tokens, = unet.encoder_hid_proj([states])
        assert tokens.shape == (2, 1, queries, TEXT) and torch.isfinite(tokens).all() and tokens.std() > 0.1


@pytest.mark.parametrize("queries", [16, 32])
@torch.no_grad()
def test_a_step_with_it_equals_diffusers(small, tmp_path, queries):
    """Its exported file, loaded by diffusers as an IP-Adapter of the Plus kind (four layers, as the authors' has)."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    config = settings("image_prompt.depth=4", f"image_prompt.queries={queries}")
    job = light.job(config, small.dataset, small.base)
    export.write(export.split_image_prompt(job.trained)[1], tmp_path / "prompt.safetensors", {})
    nested = {part: {} for part in ("image_proj", "ip_adapter")}
    for key, value in load_file(tmp_path / "prompt.safetensors").items():
        part, _, rest = key.partition(".")
        nested[part][rest] = value
    theirs = networks.load_unet(small.base)
    theirs._load_ip_adapter_weights([nested])
    layer, = theirs.encoder_hid_proj.image_projection_layers
    assert isinstance(layer, IPAdapterPlusImageProjection) and layer.latents.shape == (1, queries, 768)
    samples = [small.dataset[i] for i in range(3)]
    inputs = job.conditions(samples, [torch.Generator().manual_seed(i) for i in range(3)])
    noisy, timesteps = torch.stack([sample.latent for sample in samples]), torch.tensor([10, 500, 990])
    found, nothing = (job.model(noisy, timesteps, inputs["text"], inputs["maps"], image)
                      for image in (inputs["image"], small.dataset.info.empty_image.float().expand(3, -1, -1)))
    wanted = theirs(noisy, timesteps, inputs["text"], added_cond_kwargs={"image_embeds": [inputs["image"][:, None]]},
                    down_intrablock_additional_residuals=job.model.adapter(inputs["maps"])).sample
    print(f"largest difference: {float((found - wanted).abs().max()):.1e} of {float(wanted.abs().max()):.1f}")
    assert float((found - wanted).abs().max()) < 1e-5
    assert float((found - nothing).abs().max()) > 1e-3, "the picture matters"


# --- the training -------------------------------------------------------------------------------------------------


def test_all_three_groups_learn_and_the_base_model_does_not(small, trained):
    after = copied(trained.job.trained)
    assert {next(group for group in GROUPS if name.startswith(group)) for name in after} == set(GROUPS)
    same = [name for name, value in after.items() if torch.equal(value, trained.before[name])]
    assert same == [], "every tensor has changed"
    assert {value.dtype for value in after.values()} == {torch.float32}
    frozen = {name: value for name, value in trained.job.model.unet.named_parameters() if not value.requires_grad}
    assert difference_of_states(frozen, dict(networks.load_unet(small.base).named_parameters())) == 0.0
    assert all(parameter.grad is None for parameter in frozen.values())


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_everything_that_is_trained_gets_a_gradient_in_half_precision(small, checkpointing):
    config = settings("precision=bf16", f"gradient_checkpointing={checkpointing}")
    job = light.job(config, small.dataset, small.base)
    assert {value.dtype for value in job.model.unet.parameters() if not value.requires_grad} == {torch.bfloat16}
    samples, rngs = [small.dataset[0], small.dataset[1]], [torch.Generator().manual_seed(i) for i in (0, 1)]
    inputs = loop.noised(samples, rngs, "uniform", loop.noise_schedule()) | job.conditions(samples, rngs)
    noise = inputs.pop("noise")
    with torch.autocast("cpu", torch.bfloat16):  # as accelerate does it
        torch.nn.functional.mse_loss(job.model(**inputs).float(), noise).backward()
    for name, value in job.trained.items():
        assert value.dtype == value.grad.dtype == torch.float32, name
        assert torch.isfinite(value.grad).all() and value.grad.abs().max() > 0, name


def test_what_it_sees_of_no_picture_is_the_encoders_word_for_it(small):
    info = small.dataset.info
    config = settings("dropout.text=0", "dropout.image=1", "dropout.both=0")
    inputs = light.Conditions(config, info, with_image=True)([small.dataset[0]], [torch.Generator()])
    assert torch.equal(inputs["image"][0], info.empty_image.float()) and info.empty_image.any()


def test_a_run_does_not_go_on_with_photos_that_were_cut_in_another_way(small, tmp_path):
    config = settings("steps=1", "ema.use=false")
    run(light.job(config, small.dataset, small.base), small.dataset, config, tmp_path / "run")
    other = synthetic_dataset(tmp_path / "data", 12, base_model=file_sha256(small.base),
                              **{**FARL_STATES, "fit": "crop"})
    with pytest.raises(CamouflageError, match=r"another 'dataset\.fit': it was square, now it is crop"):
        run(light.job(config, other, small.base), other, config, tmp_path / "run")


@long  # the training from end to end validates, too
def test_validation_paints_with_both(host, miniature_models, tmp_path):
    """The real sampler, with the temporary files of a validation, which say nothing of themselves."""
    base = miniature_models / "checkpoints" / "Realistic_Vision_V5.1_fp16-no-ema.safetensors"
    dataset = synthetic_dataset(tmp_path / "data", 2, base_model=file_sha256(base), **FARL_STATES)
    sampler = Sampler(base, None, None, argparse.Namespace(comfyui=None, models=[], cpu=True))
    config = settings("validation.pictures=1", "validation.sampler_steps=1")
    job = light.job(config, dataset, base, None, sampler)
    painted = []
    for factor in (1.0, 0.5):  # of the image prompt's weights
        tensors = {name: value.detach() * (1 if name.startswith("adapter.") else factor)
                   for name, value in job.trained.items()}
        report = job.validate(1, tensors, [dataset[0], dataset[1]], torch.device("cpu"))
        painted.append(report.pictures["picture_0"][:, 2 * 64:])
        assert math.isfinite(report.numbers["own_map_beats_none"])
    assert painted[0].shape == (64, 64, 3) and (painted[0] != painted[1]).mean() > 0.1


# --- export -------------------------------------------------------------------------------------------------------


def test_both_files_say_what_they_need_and_load_in_the_nodes(host, small, trained, tmp_path, capsys):
    assert train("export", trained.last.parents[1], "--output", tmp_path / "a.safetensors") == 0
    assert "a_image_prompt.safetensors" in capsys.readouterr().out
    found = checkpoints.load(trained.last)
    average = found.tensors(EMA)
    assert (found.state["image_prompt"], found.state["image_encoder"]) == ("new", FARL)
    assert difference_of_states(average, copied(trained.job.trained)) > 1e-4
    for ending in ("", "_image_prompt"):
        with safe_open(tmp_path / f"a{ending}.safetensors", framework="pt") as opened:
            said = opened.metadata()
        assert (said["encoding"], said["encoding_version"]) == ("camouflage-probabilities", "1")
        assert (said["image_encoder"], said["image_encoder_sha256"]) == (
            "FaRL-Base-Patch16-LAIONFace20M-ep64", small.dataset.info.image_encoder)
        assert said["base_model_sha256"] == file_sha256(small.base)
    adapter = host.module("camouflage.comfy.light_adapter").load(tmp_path / "a.safetensors", None)
    assert adapter.encoding == PROBABILITIES and adapter.layout.channels == WIDTHS
    maps = random_map(1, 2, 16, 24).abs()
    with torch.no_grad(), start.swapped(trained.job.trained, average):
        wanted = trained.job.model.adapter(maps)
    assert max(map(difference, adapter.features(maps), wanted)) == 0.0 < float(wanted[0].abs().max())
    prompt = host.module("camouflage.comfy.image_prompt").load(tmp_path / "a_image_prompt.safetensors")
    assert prompt.encoder == FARL and (prompt.layout.width, prompt.layout.tokens) == (768, 16)
    names = {key: re.sub(r"^(to_[kv])\.(\d+)\.", lambda m: f"ip_adapter.{2 * int(m[2]) + 1}.{m[1]}_ip.", key)
             for key in prompt.net.state_dict()}
    loaded = {names[key]: value for key, value in prompt.net.state_dict().items()}
    assert difference_of_states(loaded, export.split_image_prompt(average)[1]) == 0.0


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("overrides", "words"), [
    (("dropout.text=0.5", "dropout.image=0.4", "dropout.both=0.2"),
     r"must add up to 1 at most, for a sample loses text, image or both, but got 0\.5, 0\.4, 0\.2"),
    (("image_prompt.train=false",), "image_prompt.new is true, but image_prompt.train is false.*Set both to true, or"),
    (("map.region=grown",), "map.region is grown, but in camouflage-probabilities a face's region is its box"),
    (("prepare.resolution=500",), "prepare.resolution must be .* a multiple of 64, but got 500"),
    (("prepare.image=FaRL",), "prepare.image must be one of CLIP embedding, CLIP states, FaRL states, but got 'FaRL'"),
])
def test_settings_that_do_not_go_together_are_refused(overrides, words):
    with pytest.raises(CamouflageError, match=words):
        settings(*overrides)


def test_only_what_the_last_override_makes_of_them_counts():
    config = configs.load("light", None, ["image_prompt.new=true", "image_prompt.train=true", "dropout.text=0.95",
                                          "dropout.image=0", "dropout.both=0.05"])
    assert config.image_prompt.new and math.isclose(config.dropout.text + config.dropout.both, 1)


def test_a_dataset_that_holds_something_else_is_refused(small, tmp_path):
    plain = synthetic_dataset(tmp_path / "plain", 2, base_model=file_sha256(small.base))
    with pytest.raises(CamouflageError, match=r"holds 'CLIP embedding' of every picture, but prepare.image is "
                       r"'FaRL states'\. Prepare the photos again with the settings of this training \(--config\)"):
        light.job(settings(), plain, small.base)
    with pytest.raises(CamouflageError, match="holds 'FaRL states' of every picture, but prepare.image is 'CLIP emb"):
        light.job(configs.load("light"), small.dataset, small.base, tiny_ip_adapter(tmp_path / "prompt.safetensors"))
    with pytest.raises(CamouflageError, match=r"image_prompt.new is true, but prepare.image is 'CLIP embedding': a new "
                       r"image prompt reads hidden states\. .*'FaRL states' \(light-authors\.yaml\) or 'CLIP states'"):
        light.job(settings("prepare.image=CLIP embedding"), plain, small.base)


@pytest.mark.parametrize(("make", "words"), [
    (tiny_ip_adapter, "prompt.safetensors projects image embeddings of width 768, but the dataset holds 'FaRL states' "
                      r"of width 768\. .*--image-encoder, prepare.image"),
    (lambda path: save(plus_adapter([32] * 5 + [64], 1280, depth=1), path),
     "projects hidden states of width 1280, but the dataset holds 'FaRL states' of width 768"),
])
def test_an_image_prompt_that_reads_something_else_is_refused(small, tmp_path, make, words):
    with pytest.raises(CamouflageError, match=words):
        light.job(settings("image_prompt.new=false"), small.dataset, small.base, make(tmp_path / "prompt.safetensors"))


def test_a_published_one_of_the_plus_kind_can_be_trained_too(small, tmp_path):
    state = plus_adapter([32] * 5 + [64], 768, depth=1, tokens=3)
    file = save(state, tmp_path / "prompt.safetensors")
    job = light.job(settings("image_prompt.new=false"), small.dataset, small.base, file)
    assert difference_of_states({key: job.trained[key] for key in state}, state) == 0.0
    assert job.described["image_prompt"] == file_sha256(file)


def test_a_file_beside_a_new_image_prompt_is_refused(small, tmp_path, capsys):
    """By the command, with the name of the shipped settings."""
    prompt = tiny_ip_adapter(tmp_path / "prompt.safetensors")
    assert train("light", "--dataset", small.folder, "--output", tmp_path / "run", "--base-model", small.base, "--cpu",
                 "--config", AUTHORS.name, "--image-prompt", prompt) == 2
    assert re.search("--image-prompt names a file, but the settings want none: image_prompt.new is true",
                     capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
