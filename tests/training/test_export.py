"""What a run exports: the trained numbers, where the loaders look for them, and what the file says of itself."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors import safe_open
from safetensors.torch import load_file

from camouflage import VERSION
from camouflage.files import file_sha256
from camouflage.training import checkpoints, identity, light, loop, networks
from camouflage.training import config as configs
from camouflage.training.checkpoints import EMA, WEIGHTS
from in_host import difference
from light_weights import difference_of_states, random_map
from training_command import train
from training_data import synthetic_dataset
from training_nets import tiny_checkpoint, tiny_ip_adapter

QUICK = ("precision=fp32", "batch_size=2", "schedule.warmup=0", "optimizer.learning_rate=1e-2", "validation.every=0",
         "validation.held_out=1")


def settings(kind, *overrides):
    return configs.load(kind, None, [*QUICK, *overrides])


def trained(kind, folder, widths, *overrides):
    """A run of four steps with a checkpoint every two; ``job`` holds the last weights."""
    base = tiny_checkpoint(folder / "base.safetensors", widths=widths)
    prompt = tiny_ip_adapter(folder / "prompt.safetensors") if kind == "light" else None
    dataset = synthetic_dataset(folder / "dataset", 12, base_model=file_sha256(base))
    config = settings(kind, "steps=4", "checkpoints.every=2", *overrides)
    job = {"light": light, "identity": identity}[kind].job(config, dataset, base, prompt)
    loop.train(job, dataset, config, folder / "run", loop.make_accelerator(config, cpu=True))
    return SimpleNamespace(folder=folder / "run", job=job, base=base, prompt=prompt, dataset=dataset)


@pytest.fixture(scope="module")
def light_run(tmp_path_factory):
    """With a tuned IP-Adapter."""
    return trained("light", tmp_path_factory.mktemp("light"), (32, 64), "ema.decay=0.5", "image_prompt.train=true")


@pytest.fixture(scope="module")
def identity_run(tmp_path_factory):
    """Of one level at the full width, which the host takes for SD 1.5; without an average."""
    return trained("identity", tmp_path_factory.mktemp("identity"), (320,), "ema.use=false")


@pytest.fixture(scope="module")
def control_net(identity_run, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "identity.safetensors"
    assert export(identity_run.folder, file, "--no-ema") == 0
    return file


def export(run: Path, file: Path, *options: str) -> int:
    return train("export", run, "--output", file, *options)


def checkpoint(run, step: int = 4):
    return checkpoints.load(run.folder / "checkpoints" / f"step-{step:08d}")


def parts(run, name: str = EMA, step: int = 4) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Light adapter and IP-Adapter of a checkpoint."""
    tensors = checkpoint(run, step).tensors(name)
    adapter = {key: value for key, value in tensors.items() if key.startswith("adapter.")}
    return adapter, {key: value for key, value in tensors.items() if key not in adapter}


def metadata(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return opened.metadata()


def test_the_file_says_what_it_is(light_run, identity_run, control_net, tmp_path, capsys):
    assert export(light_run.folder, tmp_path / "a.safetensors", "--licence", "CC-BY-4.0") == 0
    told = capsys.readouterr().out
    assert "models/camouflage/light/" in told and "Load Light Adapter" in told and "step 4" in told
    said = metadata(tmp_path / "a.safetensors")
    revision = said.pop("git_revision")
    assert revision == checkpoint(light_run).state["git_revision"]
    assert revision == "unknown" or re.fullmatch(r"[0-9a-f]{40}\+?", revision)
    common = {"camouflage_version": VERSION, "base_model": "base.safetensors", "step": "4", "resolution": "64",
              "dataset_size": "11"}  # one of twelve is held out
    assert said == common | {"camouflage_network": "light", "licence": "CC-BY-4.0", "encoding": "camouflage-signed",
                             "encoding_version": "1", "base_model_sha256": file_sha256(light_run.base)}
    assert metadata(control_net) == common | {
        "camouflage_network": "identity", "licence": "not stated", "git_revision": revision,
        "base_model_sha256": file_sha256(identity_run.base)}


def test_which_numbers_are_written(light_run, identity_run, tmp_path, capsys):
    for place, (options, name, step) in enumerate((((), EMA, 4), (("--no-ema",), WEIGHTS, 4),
                                                   (("--step", "2"), EMA, 2))):
        assert export(light_run.folder, tmp_path / f"{place}.safetensors", *options) == 0
        for ending, tensors in zip(("", "_image_prompt"), parts(light_run, name, step), strict=True):
            assert difference_of_states(load_file(tmp_path / f"{place}{ending}.safetensors"), tensors) == 0.0
    different = [parts(light_run, name, step)[0] for name, step in ((EMA, 4), (WEIGHTS, 4), (EMA, 2))]
    assert all(difference_of_states(a, b) > 1e-4 for a, b in zip(different, different[1:] + different[:1], strict=True))

    assert export(light_run.folder, tmp_path / "half.safetensors", "--dtype", "float16") == 0
    half = load_file(tmp_path / "half.safetensors")
    assert {value.dtype for value in half.values()} == {torch.float16}
    assert difference_of_states(half, {key: value.half() for key, value in different[0].items()}) == 0.0

    assert export(checkpoint(light_run, 2).path, tmp_path / "direct.safetensors") == 0, "a checkpoint by itself"
    assert difference_of_states(load_file(tmp_path / "direct.safetensors"), different[2]) == 0.0

    capsys.readouterr()
    assert export(identity_run.folder, tmp_path / "none.safetensors") == 2
    assert "no moving average" in (said := capsys.readouterr().err) and "--no-ema" in said
    assert not (tmp_path / "none.safetensors").exists()


@torch.no_grad()
def test_the_hosts_features_are_those_of_the_trained_module(host, light_run, tmp_path):
    assert export(light_run.folder, tmp_path / "a.safetensors", "--no-ema") == 0
    ours = host.module("camouflage.comfy.light_adapter").load(tmp_path / "a.safetensors", None)
    for size in ((8, 8), (16, 24), (40, 16), (96, 64)):
        attribute_map = random_map(1, 2, *size)
        wanted = light_run.job.model.adapter(attribute_map)
        assert max(float(feature.abs().max()) for feature in wanted) > 0.1
        assert max(map(difference, ours.features(attribute_map), wanted)) == 0.0


def test_a_tuned_ip_adapter_is_a_file_of_its_own(host, light_run, tmp_path):
    assert export(light_run.folder, tmp_path / "a.safetensors") == 0
    _, wanted = parts(light_run)
    net = host.module("camouflage.comfy.image_prompt").load(tmp_path / "a_image_prompt.safetensors").net.state_dict()
    loaded = {f"image_proj.{key}" if key.startswith(("proj.", "norm.")) else
              re.sub(r"(to_[kv])\.(\d+)\.", lambda m: f"ip_adapter.{2 * int(m[2]) + 1}.{m[1]}_ip.", key): value
              for key, value in net.items()}
    assert difference_of_states(loaded, wanted) == 0.0
    assert difference_of_states(wanted, load_file(light_run.prompt)) > 1e-3, "it was tuned"


@pytest.mark.parametrize("there", ["a.safetensors", "a_image_prompt.safetensors"])
def test_nothing_is_overwritten(light_run, tmp_path, capsys, there):
    (tmp_path / there).write_bytes(b"mine")
    assert export(light_run.folder, tmp_path / "a.safetensors") == 2
    assert f"{there} is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [there] and (tmp_path / there).read_bytes() == b"mine"


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond this, bytes, as on a disk that is full."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the system")
@pytest.mark.parametrize("room", [100_000, 2_000_000])
def test_a_full_disk_leaves_no_file_behind(light_run, tmp_path, capsys, room):
    adapter, prompt = (sum(4 * value.numel() for value in part.values()) for part in parts(light_run))
    assert 100_000 < adapter < 2_000_000 < prompt, "the first or the second file is too large"
    with largest_file(room):
        assert export(light_run.folder, tmp_path / "a.safetensors") == 2
    assert re.search(r"could not be written \(.*[Ff]ile too large.*Is there room", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("bad", "dtype"), [(math.nan, "float32"), (math.inf, "float32"), (1e6, "float16")])
@pytest.mark.parametrize("key", ["adapter.conv_in.bias", "ip_adapter.1.to_k_ip.weight"])
def test_numbers_that_are_not_finite_leave_no_file_behind(light_run, tmp_path, capsys, bad, dtype, key):
    whole = checkpoint(light_run)
    tensors = whole.tensors(EMA)
    tensors[key].view(-1)[3] = bad
    broken = checkpoints.save(tmp_path / "run", 4, {WEIGHTS: tensors, EMA: tensors}, {}, whole.state)
    assert export(broken, tmp_path / "a.safetensors", "--dtype", dtype) == 2
    assert f"{key} is not finite as torch.{dtype}; nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_no_run_is_explained(light_run, tmp_path, capsys):
    (tmp_path / "damaged" / "checkpoints").mkdir(parents=True)
    copied = shutil.copytree(checkpoint(light_run).path, tmp_path / "damaged" / "checkpoints" / "step-00000004")
    (copied / EMA).write_bytes((copied / EMA).read_bytes()[:-1])
    for run, options, words in (
            (tmp_path, (), r"no whole checkpoint in .*checkpoints\. Name the --output folder of a training"),
            (tmp_path, ("--step", "2"), "no whole checkpoint in"),
            (tmp_path / "damaged", (), "no whole checkpoint in"),
            (copied, (), r"is damaged: ema.safetensors is not what was written"),
            (light_run.folder, ("--step", "3"), r"no checkpoint of step 3 in .*, only of 2, 4"),
            (checkpoint(light_run).path, ("--step", "2"), "the checkpoint of step 4, but --step is 2"),
            (tmp_path / "absent", (), "no run and no checkpoint")):
        assert export(run, tmp_path / "a.safetensors", *options) == 2
        assert re.search(words, capsys.readouterr().err), words
    assert not (tmp_path / "a.safetensors").exists()


@torch.no_grad()
def test_the_stock_loader_reads_the_identity_control(host, identity_run, control_net):
    import comfy.controlnet

    ours = comfy.controlnet.load_controlnet(str(control_net))
    assert host.module("camouflage.comfy.control").hint_channels(ours) == 4
    rng = torch.Generator().manual_seed(0)
    noisy, latents = torch.randn(2, 2, 4, 16, 8, generator=rng)
    text = torch.randn(2, 77, 768, generator=rng)
    hint = latents.repeat_interleave(8, -1).repeat_interleave(8, -2)
    down, middle = identity_run.job.model.control_net(noisy, 600, text, hint, return_dict=False)
    found = ours.control_model(x=noisy, hint=hint, timesteps=torch.tensor([600.0, 600.0]), context=text)
    for mine, wanted in zip([*found["output"], *found["middle"]], [*down, middle], strict=True):
        assert float(wanted.abs().max()) > 1e-2, "its last layers are zero no more"
        assert difference(mine, wanted) < 1e-4 * float(wanted.abs().max())


@pytest.mark.parametrize("widths", [(32, 64, 64, 64), (64,)])
def test_the_original_layout_is_what_diffusers_reads(widths):
    levels = len(widths)
    kinds = ("CrossAttnDownBlock2D",) * max(1, levels - 1) + ("DownBlock2D",) * (levels > 1)
    net = ControlNetModel(block_out_channels=widths, down_block_types=kinds, cross_attention_dim=768,
                          conditioning_channels=4)
    names = networks.original_keys(net.state_dict())
    assert len(set(names.values())) == len(names)
    written = {names[key]: value for key, value in net.state_dict().items()}
    assert difference_of_states(convert_controlnet_checkpoint(written, dict(net.config)), net.state_dict()) == 0.0


def test_a_training_can_begin_with_what_was_exported(light_run, identity_run, control_net, tmp_path):
    assert export(light_run.folder, tmp_path / "a.safetensors") == 0
    config = settings("light", f"init={tmp_path / 'a.safetensors'}")
    begun = light.job(config, light_run.dataset, light_run.base, light_run.prompt)
    assert difference_of_states(begun.trained, parts(light_run)[0]) == 0.0
    config = settings("identity", f"init={control_net}")
    begun = identity.job(config, identity_run.dataset, identity_run.base)
    assert difference_of_states(begun.trained, checkpoint(identity_run).tensors(WEIGHTS)) == 0.0
