"""The training of the identity ControlNet, measured through the host's own sampler."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from camouflage.files import file_sha256
from camouflage.training import config as configs
from camouflage.training import export, identity, loop, networks
from camouflage.training.checkpoints import WEIGHTS
from camouflage.training.dataset import Dataset
from camouflage.training.randomness import generator
from camouflage.training.validation import Sampler
from light_weights import difference_of_states
from sampled import long
from training_data import drawn_latents, synthetic_dataset, write_latents
from training_nets import tiny_checkpoint

QUICK = ("precision=fp32", "batch_size=4", "schedule.warmup=0", "validation.every=0", "checkpoints.every=1000",
         "ema.use=false", "validation.held_out=4", "validation.pictures=0", "validation.sampler_steps=6")


def settings(*overrides):
    return configs.load("identity", None, [*QUICK, *overrides])


def sampler(base_model: Path) -> Sampler:
    return Sampler(base_model, None, None, argparse.Namespace(comfyui=None, models=[], cpu=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Dataset]:
    """A base model of one level at the full width, which the host takes for SD 1.5, and drawn pictures."""
    folder = tmp_path_factory.mktemp("identity")
    checkpoint = tiny_checkpoint(folder / "base.safetensors", widths=(320,))
    return checkpoint, write_latents(folder / "dataset", 1.5 * drawn_latents(40), base_model=file_sha256(checkpoint))


@long
def test_it_learns_to_reconstruct_through_the_hosts_sampler(host, files, tmp_path):
    base_model, dataset = files
    config = settings("steps=110", "schedule.kind=cosine", "optimizer.learning_rate=6e-4",
                      "validation.sampler_steps=12")
    through = sampler(base_model)
    job = identity.job(config, dataset, base_model, None, through)
    frozen = {name: value.clone() for name, value in job.model.unet.state_dict().items()}
    held_out = [dataset[i] for i in loop.hold_out(dataset.sources, 4)[1]]
    device = torch.device("cpu")
    before = job.validate(0, job.trained, held_out, device).numbers["reconstruction_distance"]
    last = loop.train(job, dataset, config, tmp_path / "run", loop.make_accelerator(config, cpu=True))
    after = job.validate(110, job.trained, held_out, device).numbers["reconstruction_distance"]
    assert after < 0.1 * before

    export.write(export.network("identity", load_file(last / WEIGHTS)), tmp_path / "net.safetensors", {})
    found = through.identity(tmp_path / "net.safetensors", held_out, dataset.info.empty_text.float(), config)
    far = torch.tensor([[identity.distance(latent, sample.latent) for sample in held_out] for latent in found])
    own, others = far.diagonal().mean(), far[~torch.eye(4, dtype=torch.bool)].mean()
    assert float(own) == pytest.approx(after, rel=1e-4), "the same file gives the same picture"
    assert own < 0.9 * others, "it reconstructs the picture that it sees, one that it was not trained on"
    assert difference_of_states(frozen, job.model.unet.state_dict()) == 0.0
    assert all(parameter.grad is None for parameter in job.model.unet.parameters())


def test_a_new_one_changes_nothing_and_starts_as_the_unets_encoder(files):
    unet = networks.load_unet(files[0])
    net = networks.new_identity(unet, None, seed=3)
    hint, noisy, text = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 8, 8), torch.randn(1, 77, 768)
    down, middle = net(noisy, 10, text, hint, return_dict=False)
    assert all(float(part.abs().max()) == 0.0 for part in (*down, middle))
    shared = {key: value for key, value in net.state_dict().items() if key in unet.state_dict()}
    assert len(shared) > 50
    assert difference_of_states(shared, {key: unet.state_dict()[key] for key in shared}) == 0.0
    assert net.config["conditioning_channels"] == 4
    again = networks.new_identity(unet, None, seed=3)
    assert difference_of_states(net.state_dict(), again.state_dict()) == 0.0


def test_the_hint_is_the_latent_enlarged_as_the_host_does(host, files):
    import comfy.utils

    base_model, dataset = files
    job = identity.job(settings(), dataset, base_model)
    seen = []
    job.model.control_net.controlnet_cond_embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    samples = [dataset[0], dataset[1]]
    inputs = loop.noised(samples, [generator(0), generator(1)], "uniform", loop.noise_schedule())
    inputs |= job.conditions(samples, [])
    inputs.pop("noise")
    with torch.no_grad():
        job.model(**inputs)
    latents = torch.stack([sample.latent for sample in samples])
    wanted = comfy.utils.common_upscale(latents, 64, 64, "nearest-exact", "center")
    assert float((seen[0] - wanted).abs().max()) == 0.0
    assert float((inputs["text"] - dataset.info.empty_text.float()).abs().max()) == 0.0, "the empty prompt"


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    base_model = tiny_checkpoint(tmp_path / "base.safetensors")
    dataset = synthetic_dataset(tmp_path / "dataset", 12, persons=(0, 1), base_model=file_sha256(base_model))

    def until(steps: int, output: Path) -> dict[str, torch.Tensor]:
        config = settings(f"steps={steps}", "ema.use=true", "gradient_checkpointing=true")
        job = identity.job(config, dataset, base_model)
        loop.train(job, dataset, config, output, loop.make_accelerator(config, cpu=True))
        return {name: parameter.detach().clone() for name, parameter in job.trained.items()}

    whole = until(4, tmp_path / "whole")
    until(2, tmp_path / "parts")
    assert difference_of_states(until(4, tmp_path / "parts"), whole) == 0.0
