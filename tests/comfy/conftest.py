"""A small Stable Diffusion in the real host, and short ways to sample with its own nodes."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

import narrow
from image_prompts import diffusers_unet, one_step
from in_host import FACE_FILES, NETS, SIZE, enter_host, only_folder, pictures, vouch_for

enter_host()

CHECKPOINT = "Realistic_Vision_V5.1_fp16-no-ema.safetensors"


@pytest.fixture(scope="session")
def texts_and_vae(host, miniature_models):
    """The text encoder and the VAE of the checkpoint, and conditioning of a scene."""
    import comfy.sd

    with torch.inference_mode():
        _, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(miniature_models / "checkpoints" / CHECKPOINT),
                                                                output_model=False)
    texts = {name: host.run("CLIPTextEncode", clip=clip, text=text)[0]
             for name, text in (("positive", "a woman in front of a flag"), ("negative", "blurry"), ("empty", ""))}
    return SimpleNamespace(clip=clip, vae=vae, **texts)


@pytest.fixture(scope="session")
def sd(texts_and_vae):
    """Model and ControlNets with few channels, in memory; a file of tests that needs those of the files says so:
    a fixture of this name there that gives ``wide_sd``."""
    return SimpleNamespace(**vars(narrow.networks()), **vars(texts_and_vae))


@pytest.fixture(scope="module")  # 2.5 GB
def wide_sd(host, texts_and_vae):
    """Model and ControlNets of the miniature files, through the stock loaders, with SD 1.5's own widths."""
    model, *_ = host.run("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    nets = {name: host.run("ControlNetLoader", control_net_name=f"{file}.safetensors")[0]
            for name, file in NETS.items()}
    return SimpleNamespace(model=model, nets=nets, **vars(texts_and_vae))


@pytest.fixture(scope="module")
def scene(host, sd):
    """Positive and negative with two scene controls, identity with the tile ControlNet, and what they show."""
    maps = {"depth_map": pictures(1), "depth_control_net": sd.nets["depth"],
            "pose_map": pictures(2), "pose_control_net": sd.nets["pose"]}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **maps)
    original = pictures(3)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=original)
    return SimpleNamespace(positive=positive, negative=negative, identity=identity, original=original)


@pytest.fixture(scope="module")
def sample(host, sd):
    """sample(guider, ...) -> latent samples, through stock RandomNoise, KSamplerSelect and SamplerCustomAdvanced."""

    def run(guider, *, seed=7, steps=2, sampler="euler", batch=1, latent=None, denoise=1.0, model=None):
        latent = latent or {"samples": torch.zeros(batch, 4, SIZE // 8, SIZE // 8)}
        noise, = host.run("RandomNoise", noise_seed=seed)
        solver, = host.run("KSamplerSelect", sampler_name=sampler)
        sigmas, = host.run("BasicScheduler", model=model or sd.model, scheduler="karras", steps=steps, denoise=denoise)
        return host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=solver, sigmas=sigmas,
                        latent_image=latent)[0]["samples"]

    return run


@pytest.fixture(scope="module")
def dual_cfg(host, sd):
    """The host's own way to say the same: DualCFGGuider, nested."""

    def guider(positive, negative, identity, cfg=7.0, scale=1.25, model=None):
        return host.run("DualCFGGuider", model=model or sd.model, cond1=positive, cond2=negative, negative=identity,
                        cfg_conds=cfg, cfg_cond2_negative=scale, style="nested")[0]

    return guider


@pytest.fixture
def cfg(host, sd):
    """cfg(model, positive, negative) -> a stock CFGGuider of scale 4."""
    return lambda model, positive=None, negative=None: host.run(
        "CFGGuider", model=model, positive=positive or sd.positive, negative=negative or sd.negative, cfg=4.0)[0]


@pytest.fixture(scope="module")
def step(host, sd):
    """step(guider, batch) -> the denoised prediction of one Euler step, its input x and its sigma."""
    return one_step(host, sd)


@pytest.fixture(scope="module")
def unet():
    """diffusers' UNet with the weights of ``sd``; a file of tests may put IP-Adapters into it."""
    return diffusers_unet()


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """1 x 256 x 256 x 3, a public-domain portrait."""
    from skimage import data

    image = torch.from_numpy(data.astronaut()).float()[None] / 255
    return torch.nn.functional.interpolate(image.movedim(-1, 1), (256, 256), mode="area").movedim(1, -1)


@pytest.fixture
def own_networks(host) -> Iterator[None]:
    """For a test with files, and so large networks, of its own: they go with it, cycles and all."""
    yield
    host.module("camouflage.comfy.networks").clear()
    gc.collect()


@pytest.fixture
def forget(host) -> Callable[[], None]:
    """Nothing is known of the pictures of other tests; forget() forgets those of this one."""
    clear = host.module("camouflage.comfy.memo").clear
    clear()
    return clear


@pytest.fixture
def weights_folder(tmp_path, miniature_models, monkeypatch) -> Path:
    """A copy of the annotators' weights that a test may spoil; the only one the host sees."""
    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copyfile(source, target)

    folder = tmp_path / "camouflage"
    shutil.copytree(miniature_models / "camouflage", folder, copy_function=link)
    only_folder(folder, monkeypatch)
    return folder


def face_weights(folder: Path, miniature_models: Path) -> Path:
    """Copies the weights that read faces into a folder, and vouches for them."""
    shutil.copytree(miniature_models / "camouflage" / "faces", folder / "faces")
    shutil.copy(miniature_models / "camouflage" / "SHA256SUMS", folder)
    vouch_for(folder, *FACE_FILES.values())
    return folder


@pytest.fixture
def faces_folder(tmp_path, own_networks, miniature_models, monkeypatch) -> Path:
    """A copy of the weights that read faces, which a test may spoil and write to; the only one the host sees."""
    folder = face_weights(tmp_path / "camouflage", miniature_models)
    only_folder(folder, monkeypatch)
    return folder


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """FaRL's transformers, ours and pyfacer's own, compute the first of their twelve layers alone, and draw no numbers
    for weights that come from a file: the layers of the miniature files are one like the other and do little."""
    from facer.farl import model

    made = model.Transformer.__init__

    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        with ExitStack() as stack:
            for name in ("kaiming_uniform_", "uniform_", "xavier_uniform_"):
                stack.enter_context(mock.patch.object(torch.nn.init, name, lambda tensor, *_, **__: tensor))
            stack.enter_context(mock.patch.object(model, "trunc_normal_", lambda tensor, *_, **__: tensor))
            made(self, *args, **kwargs)
        for block in self.resblocks[1:]:
            block.forward = lambda x: x

    with mock.patch.object(model.Transformer, "__init__", make):
        yield


@pytest.fixture(scope="module")
def read_by(host, miniature_models, shallow, tmp_path_factory) -> Iterator[Path]:
    """The folder whose weights read faces in the tests of one file; the networks stay for all of them."""
    yield face_weights(tmp_path_factory.mktemp("camouflage"), miniature_models)
    host.module("camouflage.comfy.networks").clear()
    gc.collect()


@pytest.fixture
def run(host, read_by, monkeypatch) -> Callable[..., tuple]:
    """run(node's name, **inputs) -> its outputs, with weights that read faces."""
    only_folder(read_by, monkeypatch)
    return lambda name, **inputs: host.run(f"Camouflage{name}", **inputs)


@pytest.fixture
def said(host, monkeypatch) -> list[str]:
    """What the nodes for faces say to the person at the screen."""
    texts: list[str] = []
    for name in ("warn", "show"):
        monkeypatch.setattr(host.module("nodes.faces"), name, texts.append)
    return texts
