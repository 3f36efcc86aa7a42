"""The training of the Light adapter: what it learns, what it leaves alone, and that it can be stopped and resumed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from camouflage.errors import CamouflageError
from camouflage.files import file_sha256
from camouflage.method.attribute_map import PROBABILITIES, SIGNED, attribute_map
from camouflage.method.faces import Faces
from camouflage.training import config as configs
from camouflage.training import light, loop
from camouflage.training.checkpoints import EMA, WEIGHTS
from camouflage.training.randomness import generator
from light_weights import difference_of_states
from sampled import long, sampled
from training_data import AUTHORS, FARL_STATES, drawn_latents, synthetic_dataset, synthetic_sample, write_latents
from training_nets import IMAGE, TEXT, tiny_checkpoint, tiny_ip_adapter, train_a_little

PICTURES = 24
QUICK = ("precision=fp32", "batch_size=4", "schedule.warmup=0", "optimizer.learning_rate=1e-3", "validation.every=0",
         "checkpoints.every=1000", "validation.held_out=0")


JOINT = ("image_prompt.depth=1", "image_prompt.queries=4")  # a new image prompt, and a small one


def settings(*overrides, file=None):
    return configs.load("light", file, [*QUICK, *overrides])


def run(job, dataset, config, output):
    return loop.train(job, dataset, config, output, loop.make_accelerator(config, cpu=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A base model that finds noise in drawn pictures, an IP-Adapter for it, and the pictures."""
    folder = tmp_path_factory.mktemp("light")
    checkpoint = train_a_little(tiny_checkpoint(folder / "base.safetensors"), drawn_latents(PICTURES))
    dataset, states = (write_latents(folder / name, drawn_latents(PICTURES), base_model=file_sha256(checkpoint), **info)
                       for name, info in (("dataset", {}), ("states", FARL_STATES)))
    return SimpleNamespace(base=checkpoint, prompt=tiny_ip_adapter(folder / "prompt.safetensors"), dataset=dataset,
                           states=states)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The same without any meaning, for what does not depend on the numbers."""
    folder = tmp_path_factory.mktemp("small")
    checkpoint = tiny_checkpoint(folder / "base.safetensors")
    return SimpleNamespace(base=checkpoint, prompt=tiny_ip_adapter(folder / "prompt.safetensors"),
                           dataset=synthetic_dataset(folder / "dataset", 12, base_model=file_sha256(checkpoint)))


def losses(output: Path) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[int, float] = {}
    files = sorted((output / loop.LOGS).iterdir(), key=lambda file: int(file.suffix[1:]))  # ...9, ...10: of one process
    for file in files:
        log = EventAccumulator(str(file)).Reload()
        found |= {event.step: event.value for event in log.Scalars("train/loss")}
    return found


def digest(tensors) -> str:
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()


@long
@pytest.mark.parametrize("joint", [False, True])
def test_the_adapter_learns_to_use_its_map(files, tmp_path, joint):
    """Beside a frozen image prompt, and, as the authors do it, together with a new one."""
    common = ("batch_size=8", "optimizer.learning_rate=2e-3", "ema.use=false")
    if joint:
        config, dataset, prompt = settings("steps=160", *common, *JOINT, file=AUTHORS), files.states, None
    else:
        config, dataset, prompt = settings("steps=250", *common, "timestep_sampling=uniform",
                                           "dropout.attribute=0"), files.dataset, files.prompt
    job = light.job(config, dataset, files.base, prompt)
    samples = [dataset[i] for i in range(PICTURES)]

    def used():
        return light.map_use(job.model, job.conditions, samples, config, torch.device("cpu"))

    def frozen_part():
        return digest(parameter for parameter in job.model.unet.parameters() if not parameter.requires_grad)

    before, frozen = used(), frozen_part()
    run(job, dataset, config, tmp_path)
    after = used()
    assert (before.own < before.other).sum() < 20, "a new adapter knows nothing of maps"
    assert (after.own < after.other).sum() >= PICTURES - 1
    assert (after.own < after.none).sum() >= PICTURES - 1
    assert after.own.mean() < 0.75 * after.other.mean()
    assert after.own.mean() < 0.9 * after.none.mean()
    assert frozen_part() == frozen, "base model and, if it is not trained, IP-Adapter are as they were"
    assert any(parameter.requires_grad for parameter in job.model.unet.parameters()) == joint
    numbers = after.numbers()
    assert numbers["own_map_beats_anothers"] >= 23 / 24 and numbers["loss"] == pytest.approx(float(after.own.mean()))


def test_frozen_parts_keep_no_gradients(small):
    config = settings()
    job = light.job(config, small.dataset, small.base, small.prompt)
    samples = [small.dataset[i] for i in range(4)]

    def kept():
        weights, found = {p.data_ptr() for p in job.model.parameters()}, {}

        def keep(tensor):
            if tensor.data_ptr() not in weights:
                found[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        rngs = [generator(i) for i in range(4)]
        inputs = loop.noised(samples, rngs, "cubic", loop.noise_schedule()) | job.conditions(samples, rngs)
        noise = inputs.pop("noise")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.nn.functional.mse_loss(job.model(**inputs), noise).backward()
        return sum(found.values())

    frozen = kept()
    trained = {id(parameter) for parameter in job.trained.values()}
    assert trained == {id(p) for p in job.model.adapter.parameters()}
    for name, parameter in job.model.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained) == parameter.requires_grad, name
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in job.trained.values())
    optimizer = loop.make_optimizer(config, list(job.trained.values()))
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == sum(
        p.numel() for p in job.model.adapter.parameters())
    job.model.unet.requires_grad_(True)
    assert frozen < 0.8 * kept(), "activations that only gradients of weights need are not kept"


@pytest.mark.parametrize("stops", sampled([[1], [3], [2, 5], [1, 2, 3, 4, 5, 6]], 1))
def test_a_resumed_run_ends_with_the_same_bits(small, tmp_path, stops):
    more = ("ema.decay=0.9", "accumulation=2", "batch_size=2", "image_prompt.train=true", "checkpoints.keep_last=9")

    def until(steps, output):
        config = settings(f"steps={steps}", *more)
        return run(light.job(config, small.dataset, small.base, small.prompt), small.dataset, config, output)

    whole = until(7, tmp_path / "whole")
    for step in stops:
        until(step, tmp_path / "parts")
    parts = until(7, tmp_path / "parts")
    for name in (WEIGHTS, EMA):
        assert difference_of_states(load_file(whole / name), load_file(parts / name)) == 0.0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert load_file(whole / WEIGHTS).keys() >= {"adapter.conv_in.weight", "image_proj.proj.weight",
                                                 "ip_adapter.1.to_k_ip.weight"}
    assert difference_of_states(load_file(whole / WEIGHTS), load_file(whole / EMA)) > 0


def test_checkpoints_come_when_they_should_and_the_last_is_passed_over_if_damaged(small, tmp_path, capsys):
    config = settings("steps=5", "checkpoints.every=2", "checkpoints.keep_last=2")
    job = light.job(config, small.dataset, small.base, small.prompt)
    last = run(job, small.dataset, config, tmp_path)
    assert sorted(path.name for path in last.parent.iterdir()) == ["step-00000004", "step-00000005"]
    weights = {name: value.clone() for name, value in load_file(last / WEIGHTS).items()}
    (last / WEIGHTS).write_bytes((last / WEIGHTS).read_bytes()[:-5])
    job = light.job(config, small.dataset, small.base, small.prompt)
    assert run(job, small.dataset, config, tmp_path) == last
    assert "Passed over" in capsys.readouterr().out
    assert difference_of_states(load_file(last / WEIGHTS), weights) == 0.0


def test_the_average_is_that_of_its_formula(small, tmp_path):
    config = settings("steps=6", "checkpoints.every=1", "checkpoints.keep_last=6", "ema.decay=0.5")
    job = light.job(config, small.dataset, small.base, small.prompt)
    average = {name: parameter.detach().clone() for name, parameter in job.trained.items()}
    run(job, small.dataset, config, tmp_path)
    for step in range(1, 7):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        decay = min(0.5, step / (9 + step)) if step > 1 else 0.0  # diffusers: (1 + n) / (10 + n), from its second on
        for name, weight in load_file(folder / WEIGHTS).items():
            average[name] = decay * average[name] + (1 - decay) * weight
        assert difference_of_states(average, load_file(folder / EMA)) < 1e-6


def test_gradient_checkpointing_changes_no_loss(small, tmp_path):
    found = []
    for name in ("false", "true"):
        config = settings("steps=3", f"gradient_checkpointing={name}")
        job = light.job(config, small.dataset, small.base, small.prompt)
        assert job.model.unet.is_gradient_checkpointing == (name == "true")
        run(job, small.dataset, config, tmp_path / name)
        found.append(losses(tmp_path / name))
    assert found[0].keys() == {1, 2, 3}
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_the_first_loss_is_the_formulas(small, tmp_path):
    """One step of the loop beside a computation by hand, with the networks of diffusers."""
    config = settings("steps=1", "batch_size=3", "dropout.text=0", "dropout.image=0", "dropout.both=0", "dropout.map=0",
                      "dropout.attribute=0")
    job = light.job(config, small.dataset, small.base, small.prompt)
    samples = [small.dataset[i] for i in loop.BatchSampler(small.dataset.sizes, 3, 0).batch(0)]
    total = 0.0
    with torch.no_grad():
        for place, sample in enumerate(samples):
            rng = generator(0, "picture", 0, place)
            noise = torch.randn(4, 8, 8, generator=rng)
            t = int((1 - float(torch.rand((), generator=rng, dtype=torch.float64))**3) * 1000)
            alpha = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[t]
            noisy = alpha.sqrt() * sample.latent + (1 - alpha).sqrt() * noise
            maps = attribute_map(Faces((sample.picture,)), 8, 8)
            features = job.model.adapter(maps)
            predicted = job.model.unet(noisy[None], t, sample.text[None], down_intrablock_additional_residuals=features,
                                       added_cond_kwargs={"image_embeds": [sample.image[None, None]]}).sample
            total += float((predicted - noise).square().mean()) / 3
    run(job, small.dataset, config, tmp_path)
    assert losses(tmp_path)[1] == pytest.approx(total, rel=1e-5)


def test_dropout_withholds_what_it_says(small):
    config = settings("dropout.text=0.3", "dropout.image=0.2", "dropout.both=0.15", "dropout.map=0.1",
                      "dropout.attribute=0.4")
    info = replace(small.dataset.info, empty_text=torch.full((77, TEXT), 7.0).half(),
                   empty_image=torch.full((IMAGE,), 9.0).half())
    conditions = light.Conditions(config, info, with_image=True)
    sample, count = small.dataset[0], 600
    inputs = conditions([sample] * count, [generator("dropout", i) for i in range(count)])
    no_text, no_image = (inputs["text"] == 7).all((1, 2)), (inputs["image"] == 9).all(1)
    no_map = (inputs["maps"] == 0).all((1, 2, 3))
    for found, wanted in ((no_text & ~no_image, 0.3), (no_image & ~no_text, 0.2), (no_text & no_image, 0.15),
                          (no_map, 0.1), (no_map & (no_text | no_image), 0.065)):
        assert float(found.float().mean()) == pytest.approx(wanted, abs=4 * math.sqrt(wanted / count))
    for i in range(count):  # one number, and what it leads to, exactly
        which, whether = torch.rand(2, generator=generator("dropout", i), dtype=torch.float64).tolist()
        case = "both" if which < 0.15 else "text" if which < 0.45 else "image" if which < 0.65 else "none"
        found = bool(no_text[i]), bool(no_image[i]), bool(no_map[i])
        assert found == (case in ("both", "text"), case in ("both", "image"), whether < 0.1)
    assert ((inputs["text"] == sample.text) | (inputs["text"] == 7)).all()
    assert ((inputs["image"] == sample.image) | (inputs["image"] == 9)).all()
    whole = attribute_map(Faces((sample.picture,)), 8, 8)
    shown = inputs["maps"][~no_map]
    assert ((shown == whole) | (shown == 0)).all(), "an attribute is as the node draws it, or forgotten"
    assert (shown[:, 40] == whole[:, 40]).all(), "keypoints are not forgotten"
    there = (whole[0, :40] != 0).any(-1).any(-1)
    lost = (shown[:, :40] == 0).all((2, 3))[:, there]
    if len(sample.picture.faces) == 1:
        assert float(lost.float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float((shown == 0).float().mean() - (whole == 0).float().mean()) > 0


@pytest.mark.parametrize(("dropped", "wanted"), [
    ("text", (True, False)), ("image", (False, True)), ("both", (True, True)), (None, (False, False))])
def test_a_certain_dropout_drops_nothing_else(small, dropped, wanted):
    names = ("text", "image", "both", "map", "attribute")
    config = settings(*(f"dropout.{name}={int(name == dropped)}" for name in names))
    sample, info = small.dataset[0], small.dataset.info
    inputs = light.Conditions(config, info, with_image=True)([sample] * 20, [generator(i) for i in range(20)])
    assert (inputs["text"] == (info.empty_text if wanted[0] else sample.text)).all()
    assert (inputs["image"] == (info.empty_image if wanted[1] else sample.image)).all()
    assert (inputs["maps"] == attribute_map(Faces((sample.picture,)), 8, 8)).all()


def test_every_attribute_of_every_face_is_dropped_independently():
    picture = synthetic_sample(3, persons=(3,)).picture
    seen = [light.drop_attributes(picture, 0.5, generator(i)) for i in range(200)]
    lost = torch.tensor([[[value is None for value in face.attributes] for face in found.faces] for found in seen])
    assert float(lost.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(lost.float().mean(0).min()) > 0.3 and float(lost.float().mean(0).max()) < 0.7
    assert not (lost[:, 0] == lost[:, 1]).all()
    assert light.drop_attributes(picture, 0.0, generator(0)) == picture


def test_maps_are_those_of_the_node(host, small):
    for i, options in enumerate([(SIGNED, "box", 1.25, 1.5), (SIGNED, "grown", 1.6, 3.0),
                                 (SIGNED, "landmarks", 1.25, 1.0), (PROBABILITIES, "box", 1.25, 1.5)]):
        encoding, region, grow, radius = options
        config = settings(f"map.encoding={encoding.name}", f"map.region={region}", f"map.grow={grow}",
                          f"map.keypoint_radius={radius}")
        sample = small.dataset[i]
        faces = host.module("camouflage.method.faces").Faces.from_json(Faces((sample.picture,)).to_json())
        wanted = host.run("CamouflageAttributeMap", faces=faces, width=64, height=64, region=region, grow=grow,
                          keypoint_radius=radius, adapter=SimpleNamespace(encoding=encoding))[0]
        ours = light.draw_map(sample.picture, sample, config)
        assert wanted.encoding == encoding and float(wanted.values.abs().max()) > 0.5
        assert float((ours - wanted.values[0]).abs().max()) == 0.0


@pytest.mark.parametrize("wanted", [True, False])
def test_torch_is_deterministic_while_it_trains_if_that_is_wanted(small, tmp_path, wanted):
    config = settings("steps=1", f"deterministic={str(wanted).lower()}")
    job = light.job(config, small.dataset, small.base, small.prompt)
    seen = []
    job.model.adapter.register_forward_hook(lambda *_: seen.append(torch.are_deterministic_algorithms_enabled()))
    run(job, small.dataset, config, tmp_path)
    assert seen == [wanted] and not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_is_no_number_ends_the_run_and_saves_nothing(small, tmp_path):
    config = settings("steps=20", "checkpoints.every=3", "optimizer.learning_rate=1")
    job = light.job(config, small.dataset, small.base, small.prompt)
    with torch.no_grad():
        next(iter(job.trained.values())).fill_(math.nan)
    with pytest.raises(CamouflageError, match=r"loss of step 1 is nan.*smaller optimizer.learning_rate"):
        run(job, small.dataset, config, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(("change", "said"), [
    ("seed=1", "'seed'"), ("batch_size=2", "'batch_size'"), ("dropout.map=0.5", "'dropout.map'"),
    ("accumulation=2", "processes times accumulation"), ("map.region=grown", "'map.region'")])
def test_a_run_goes_on_with_its_own_settings_only(small, tmp_path, change, said):
    config = settings("steps=1")
    run(light.job(config, small.dataset, small.base, small.prompt), small.dataset, config, tmp_path)
    other = settings("steps=2", change)
    with pytest.raises(CamouflageError, match=f"another .*{said}|{said}.*another"):
        run(light.job(other, small.dataset, small.base, small.prompt), small.dataset, other, tmp_path)


def test_pictures_without_a_face_are_left_out_or_the_error_says_why(small, tmp_path):
    dataset = synthetic_dataset(tmp_path / "d", 4, persons=(0,), base_model=file_sha256(small.base))
    config = settings("steps=1")
    with pytest.raises(CamouflageError, match=r"None of the dataset's 4 pictures shows a face.*faces_only=false"):
        run(light.job(config, dataset, small.base, small.prompt), dataset, config, tmp_path / "run")
    config = settings("steps=1", "faces_only=false")
    assert run(light.job(config, dataset, small.base, small.prompt), dataset, config, tmp_path / "run").is_dir()


def test_a_map_of_landmarks_that_were_never_read_is_told(small, capsys):
    light.job(settings("map.region=landmarks"), small.dataset, small.base, small.prompt)
    assert "without --landmarks" in capsys.readouterr().out
    light.job(settings(), small.dataset, small.base, small.prompt)
    assert not capsys.readouterr().out


def test_a_single_held_out_picture_has_no_other_map(small):
    job = light.job(settings(), small.dataset, small.base, small.prompt)
    numbers = [light.map_use(job.model, job.conditions, [small.dataset[i] for i in range(count)], settings(),
                             torch.device("cpu")).numbers().keys() for count in (1, 2)]
    assert numbers[1] - numbers[0] == {"loss_with_anothers_map", "own_map_beats_anothers"}


def test_an_ip_adapter_for_another_encoder_is_refused(small, tmp_path):
    dataset = synthetic_dataset(tmp_path / "d", 2, base_model=file_sha256(small.base))
    from light_weights import ip_adapter, save

    other = save(ip_adapter([32] * 5 + [64], 1024), tmp_path / "other.safetensors")
    with pytest.raises(CamouflageError, match=r"image embeddings of width 1024, but the dataset holds "
                       r"'CLIP embedding' of width 768.*--image-encoder"):
        light.job(settings(), dataset, small.base, other)


def test_the_learning_rate_follows_its_schedule():
    config = settings("steps=110", "schedule.warmup=10", "schedule.kind=cosine")
    rates = [loop.rate_factor(config, step) for step in range(111)]
    assert rates[0] == pytest.approx(1 / 11) and rates[9] == pytest.approx(10 / 11) and rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5) and rates[110] == pytest.approx(0.0, abs=1e-12)
    assert {loop.rate_factor(settings("schedule.warmup=0"), step) for step in (0, 50, 10**6)} == {1.0}
