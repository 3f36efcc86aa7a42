"""The training as the authors do it: adapter, Resampler, and the image prompt's keys and values together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from camouflage.errors import CamouflageError
from camouflage.files import file_sha256
from camouflage.method.attribute_map import PROBABILITIES
from camouflage.training import checkpoints, light, loop, networks
from camouflage.training import config as configs
from camouflage.training import prepare as preparing
from camouflage.training.checkpoints import EMA, WEIGHTS
from camouflage.training.dataset import Dataset
from camouflage.weights import FARL
from in_host import difference
from light_weights import difference_of_states
from sampled import long
from training_command import SCRIPT, train
from training_data import FARL_STATES, drawn, drawn_latents, prepare_options, synthetic_dataset, write_latents
from training_nets import TEXT, tiny_checkpoint, tiny_ip_adapter, train_a_little

AUTHORS = Path("light-authors.yaml")
QUICK = ("precision=fp32", "batch_size=2", "optimizer.learning_rate=1e-3", "validation.every=0",
         "validation.held_out=0", "image_prompt.depth=1")
GROUPS = ("adapter.", "image_proj.", "ip_adapter.")
PICTURES = 24


def settings(*overrides, quick=QUICK):
    return configs.load("light", AUTHORS, [*quick, *overrides])


def run(job, dataset, config, output):
    return loop.train(job, dataset, config, output, loop.make_accelerator(config, cpu=True))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A base model and a dataset of FaRL states, without any meaning."""
    folder = tmp_path_factory.mktemp("joint")
    base = tiny_checkpoint(folder / "base.safetensors")
    dataset = synthetic_dataset(folder / "dataset", 12, base_model=file_sha256(base), **FARL_STATES)
    return SimpleNamespace(base=base, folder=folder, dataset=dataset)


def test_the_shipped_settings_are_the_authors():
    config = configs.load("light", AUTHORS)
    assert (config.batch_size, config.timestep_sampling, config.optimizer.kind) == (8, "uniform", "adamw")
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay, config.optimizer.max_grad_norm) == (
        1e-4, 1e-2, 1.0)
    assert config.prepare == configs.Prepare(512, "square", "FaRL states")
    assert config.map.encoding == "camouflage-probabilities" and config.map.region == "box"
    assert config.dropout == configs.Dropout(0.05, 0.05, 0.05, 0.0, 0.0)
    prompt = config.image_prompt
    assert (prompt.use, prompt.train, prompt.new, prompt.queries, prompt.depth) == (True, True, True, 16, 4)
    assert configs.load("light", configs.CONFIGS / AUTHORS) == config, "by its path or by its name"


def test_every_setting_of_the_file_says_where_it_comes_from():
    comment, silent = "", []
    for line in (configs.CONFIGS / AUTHORS).read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("#"):
            comment += line
        else:
            if line.strip() and not line.endswith(":") and not re.search("Authors' code: |Our choice: ", comment):
                silent.append(line)
            comment = ""
    assert silent == []


def test_a_new_image_prompt_begins_as_the_unets_attention(small):
    unet = networks.load_unet(small.base)
    layers = networks.cross_attention(unet)
    made = [networks.new_image_prompt(unet, 768, queries, 4, seed) for queries, seed in ((16, 0), (16, 0), (32, 1))]
    for prompt, queries in zip(made, (16, 16, 32), strict=True):
        assert prompt.layout.tokens == queries and prompt.layout.numbers == tuple(range(1, 2 * len(layers), 2))
        for number, layer in zip(prompt.layout.numbers, layers, strict=True):
            for part in ("to_k", "to_v"):
                assert torch.equal(prompt.state[f"ip_adapter.{number}.{part}_ip.weight"], getattr(layer, part).weight)
    assert difference_of_states(dict(made[0].state), dict(made[1].state)) == 0.0, "seeded"
    assert not torch.equal(made[0].state["image_proj.latents"], made[2].state["image_proj.latents"][:, :16])
    assert 0.5 * TEXT**-0.5 < float(made[0].state["image_proj.latents"].std()) < 2 * TEXT**-0.5


@torch.no_grad()
def test_the_unet_sees_states_as_diffusers_does(small):
    """The training's network beside diffusers' own loading of the same image prompt."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    config = settings("image_prompt.depth=4")  # which diffusers assumes
    job = light.job(config, small.dataset, small.base)
    prompt = {key: value for key, value in job.trained.items() if not key.startswith("adapter.")}
    theirs = networks.load_unet(small.base)
    theirs._load_ip_adapter_weights([{part: {key.removeprefix(f"{part}."): value.detach() for key, value in
                                             prompt.items() if key.startswith(f"{part}.")}
                                      for part in ("image_proj", "ip_adapter")}])
    assert isinstance(theirs.encoder_hid_proj.image_projection_layers[0], IPAdapterPlusImageProjection)
    samples = [small.dataset[i] for i in range(2)]
    inputs = {name: torch.stack([getattr(sample, name) for sample in samples]) for name in ("latent", "text", "image")}
    timesteps, maps = torch.tensor([600, 30]), torch.rand(2, 41, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = theirs(inputs["latent"], timesteps, inputs["text"], return_dict=False,
                    added_cond_kwargs={"image_embeds": [inputs["image"][:, None]]},
                    down_intrablock_additional_residuals=job.model.adapter(maps))[0]
    found = job.model(inputs["latent"], timesteps, inputs["text"], maps, inputs["image"])
    assert difference(found, wanted) < 1e-5 * float(wanted.abs().max())
    other = job.model(inputs["latent"], timesteps, inputs["text"], maps, inputs["image"].flip(0))
    assert difference(other, wanted) > 1e-3, "the pictures matter"


def test_all_three_are_trained_and_the_base_model_is_not(small, tmp_path):
    config = settings("steps=3")
    job = light.job(config, small.dataset, small.base)
    before = {name: parameter.detach().clone() for name, parameter in job.trained.items()}
    trained = {id(parameter) for parameter in job.trained.values()}
    frozen = {name: p.clone() for name, p in job.model.named_parameters() if id(p) not in trained}
    run(job, small.dataset, config, tmp_path)
    for group in GROUPS:
        names = [name for name in before if name.startswith(group)]
        assert names and all(not torch.equal(before[name], job.trained[name]) for name in names), group
    assert sum(map(len, (before, frozen))) == sum(1 for _ in job.model.parameters()), "and nothing else is there"
    assert all(torch.equal(frozen[name], p) for name, p in job.model.named_parameters() if name in frozen)


def test_no_picture_is_what_the_dataset_says_it_is(small):
    sample, info = small.dataset[0], small.dataset.info
    config = settings("dropout.text=0", "dropout.image=1", "dropout.both=0")
    inputs = light.Conditions(config, info, with_image=True)([sample], [torch.Generator()])
    assert torch.equal(inputs["image"][0], info.empty_image.float()) and info.empty_image.abs().max() > 0
    assert inputs["image"].shape == (1, *info.image_shape)


@long
def test_the_adapter_learns_to_use_its_map_beside_the_new_image_prompt(tmp_path):
    """The criterion of the training without the image prompt: the own map wins for 23 of 24 pictures."""
    base = train_a_little(tiny_checkpoint(tmp_path / "base.safetensors"), drawn_latents(PICTURES))
    dataset = write_latents(tmp_path / "dataset", drawn_latents(PICTURES), base_model=file_sha256(base), **FARL_STATES)
    config = settings("steps=250", "batch_size=8", "optimizer.learning_rate=2e-3", "checkpoints.every=1000",
                      "ema.use=false")
    job = light.job(config, dataset, base)
    samples = [dataset[i] for i in range(PICTURES)]

    def used():
        return light.map_use(job.model, job.conditions, samples, config, torch.device("cpu"))

    before = used()
    run(job, dataset, config, tmp_path / "run")
    after = used()
    print(before.numbers(), after.numbers())
    assert (before.own < before.other).sum() < 20, "a new adapter knows nothing of maps"
    assert (after.own < after.other).sum() >= PICTURES - 1
    assert (after.own < after.none).sum() >= PICTURES - 1
    assert after.own.mean() < 0.75 * after.other.mean()


def command(small, output: Path) -> list[str]:
    return ["light", "--dataset", str(small.folder / "dataset"), "--output", str(output), "--base-model",
            str(small.base), "--cpu", "--config", str(AUTHORS), "--set", *QUICK, "steps=4", "checkpoints.every=1"]


def state_of(output: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights and averages of the fourth step, and the optimiser's state."""
    checkpoint = checkpoints.load(output / loop.CHECKPOINTS / "step-00000004")
    tensors = {f"{name} {key}": value for name in (WEIGHTS, EMA) for key, value in checkpoint.tensors(name).items()}
    moments = checkpoint.optimizer()["optimizer"]["state"]
    return tensors | {f"{i} {name}": torch.as_tensor(value) for i, values in moments.items()
                      for name, value in values.items()}, checkpoint.state


def test_killed_on_the_way_it_ends_with_the_same_bits(small, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(*command(small, whole)) == 0
    with subprocess.Popen([sys.executable, str(SCRIPT), *command(small, killed)], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as child:
        deadline = time.monotonic() + 120
        while max(checkpoints.steps(killed / loop.CHECKPOINTS), default=0) < 2:
            assert child.poll() is None, child.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert 2 <= max(checkpoints.steps(killed / loop.CHECKPOINTS)) < 4, "it was killed on the way"
    assert train(*command(small, killed)) == 0
    (ours, _), (theirs, state) = state_of(whole), state_of(killed)
    assert difference_of_states(ours, theirs) == 0.0
    assert {key.split()[1].split(".")[0] for key in ours if not key[0].isdigit()} == {
        group.removesuffix(".") for group in GROUPS}
    assert (state["image_prompt"], state["image_encoder"]) == ("new", FARL)


def test_export_writes_two_files_that_the_nodes_load(host, small, tmp_path, capsys):
    config = settings("steps=2", "ema.decay=0.5")
    job = light.job(config, small.dataset, small.base)
    last = run(job, small.dataset, config, tmp_path / "run")
    assert train("export", tmp_path / "run", "--output", tmp_path / "mine.safetensors", "--licence", "CC0") == 0
    files = [tmp_path / "mine.safetensors", tmp_path / "mine_image_prompt.safetensors"]
    average, told = load_file(last / EMA), capsys.readouterr().out
    for file in files:
        assert str(file) in told
        with safe_open(file, framework="pt") as opened:
            said = opened.metadata()
        assert {key: said[key] for key in ("encoding", "encoding_version", "image_encoder", "licence")} == {
            **PROBABILITIES.metadata, "image_encoder": FARL, "licence": "CC0"}
    assert difference_of_states({**load_file(files[0]), **load_file(files[1])}, average) == 0.0
    adapter = host.module("camouflage.comfy.light_adapter").load(files[0], None)
    prompt = host.module("camouflage.comfy.image_prompt").load(files[1])
    assert adapter.encoding == PROBABILITIES and prompt.encoder == FARL
    assert torch.equal(prompt.net.image_proj.latents, average["image_proj.latents"])
    states = small.dataset[0].image[None]
    projected = networks.projection(prompt.layout)
    projected.load_state_dict({key.removeprefix("image_proj."): value for key, value in average.items()
                               if key.startswith("image_proj.")})
    with torch.no_grad():
        assert difference(prompt.net.tokens(states), projected(states)) < 1e-5


@pytest.mark.parametrize(("overrides", "words"), [
    (["dropout.text=0.5", "dropout.image=0.4", "dropout.both=0.2"], "must add up to 1 at most"),
    (["image_prompt.train=false"], "image_prompt.new is true, but image_prompt.train is false"),
    (["map.region=grown"], "in camouflage-probabilities a face's region is its box"),
    (["prepare.resolution=500"], "a multiple of 64, but got 500"),
    (["prepare.image=FaRL"], "must be one of CLIP embedding, CLIP states, FaRL states"),
])
def test_settings_that_do_not_go_together_are_refused(overrides, words):
    with pytest.raises(CamouflageError, match=words):
        settings(*overrides)


def test_a_file_that_is_not_shipped_is_said_with_those_that_are():
    with pytest.raises(CamouflageError, match=r"light-author.yaml cannot be read .*light-authors.yaml, light.yaml"):
        configs.load("light", Path("light-author.yaml"))


def test_a_dataset_of_something_else_is_refused(small, tmp_path):
    plain = synthetic_dataset(tmp_path / "plain", 2, base_model=file_sha256(small.base))
    with pytest.raises(CamouflageError, match="The dataset holds 'CLIP embedding' .* prepare.image is 'FaRL states'"):
        light.job(settings(), plain, small.base)
    with pytest.raises(CamouflageError, match="a new image prompt reads hidden states"):
        light.job(settings("prepare.image=CLIP embedding"), plain, small.base)
    with pytest.raises(CamouflageError, match="The dataset holds 'FaRL states' .* prepare.image is 'CLIP embedding'"):
        light.job(configs.load("light", None, ["precision=fp32"]), small.dataset, small.base,
                  tiny_ip_adapter(tmp_path / "ip.safetensors"))
    with pytest.raises(CamouflageError, match="projects image embeddings of width 768, but the dataset holds 'FaRL"):
        light.job(settings("image_prompt.new=false"), small.dataset, small.base,
                  tiny_ip_adapter(tmp_path / "ip.safetensors"))


def test_an_image_prompt_that_nobody_wants_is_said(small, tmp_path, capsys):
    prompt = tiny_ip_adapter(tmp_path / "ip.safetensors")
    assert train(*command(small, tmp_path / "run"), "--image-prompt", prompt) == 2
    assert "--image-prompt names a file, but the settings want none" in capsys.readouterr().err


def test_prepare_stores_what_the_nodes_give(host, miniature_models, tmp_path):
    """FaRL's states of the square at the centre, and of a zero tensor; in half precision, as everything is stored."""
    photos = drawn(tmp_path / "photos", 2, seed=3, most=2)
    wide = Image.open(photos[0]).convert("RGB").crop((0, 40, 300, 240))  # 300 x 200
    photos[0].with_suffix(".faces.json").unlink()
    wide.save(photos[0])
    options = prepare_options([tmp_path / "photos"], tmp_path / "dataset", config=AUTHORS, resolution=None,
                              set=["prepare.resolution=128"], models=[miniature_models], sidecars=False)
    preparing.prepare(options)
    dataset = Dataset.open(tmp_path / "dataset")
    info = dataset.info
    assert (info.resolution, info.fit, info.image, info.image_shape) == (128, "square", "FaRL states", [197, 768])
    assert info.image_encoder == file_sha256(miniature_models / "camouflage" / "faces" / f"{FARL}.pth")
    encoder, = host.run("CamouflageFaceEncoder", encoder=f"{FARL}.pth")
    zero = encoder.model(pixel_values=torch.zeros(1, 3, 224, 224), intermediate_output=-2)[1][0]
    assert torch.equal(info.empty_image, zero.half())
    assert all(sample.latent.shape == (4, 16, 16) for sample in dataset)
    photo = torch.from_numpy(np.array(wide).astype(np.float32) / 255)[None]
    image, *_ = host.run("CamouflagePrepareImage", image=photo, size=128, fit="square")
    seen, = host.run("CLIPVisionEncode", clip_vision=encoder, image=image, crop="none")
    states = seen.penultimate_hidden_states[0].half().float()
    assert any(torch.equal(sample.image, states) for sample in dataset) and states.std() > 0.1
