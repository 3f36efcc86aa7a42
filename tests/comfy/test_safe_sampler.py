"""The safe sampler: when it tries again, with what, what it keeps, and what becomes of the rest."""

from __future__ import annotations

import math
import threading
import time
from types import SimpleNamespace

import pytest
import torch

import photos
from in_host import difference, pictures
from sampled import sampled


@pytest.fixture(scope="module")
def faces():
    """The original, and results by what they show of the person: the same one, a stranger, nobody."""
    def square(name, top, left, side):
        picture = torch.from_numpy(photos.load(name)[top:top + side, left:left + side].copy()).float()[None] / 255
        small = torch.nn.functional.interpolate(picture.movedim(-1, 1), (256, 256), mode="area").movedim(1, -1)
        return small[:, :, 48:208]

    original = square("astronaut", 0, 96, 256)
    return {"original": original, "same": original * 0.8, "stranger": square("hopper", 60, 90, 360),
            "nobody": torch.rand(1, 256, 160, 3, generator=torch.Generator().manual_seed(0))}


class Vae:
    """Decodes a latent to the picture whose number it holds."""

    def __init__(self, *pictures):
        self.pictures = pictures

    def decode(self, samples):
        return torch.cat([self.pictures[int(number)] for number in samples[:, 0, 0, 0]])


@pytest.fixture
def scripted(host, sd):
    """scripted(scale, script) -> (a guider whose n-th sampling gives latents script[n], the calls it got)."""
    samplers = __import__("comfy.samplers").samplers

    def make(scale, script):
        calls = []

        class Scripted(samplers.CFGGuider):
            anonymization_scale = scale

            def sample(self, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False,
                       seed=None):
                calls.append((seed, self.anonymization_scale, float(noise.sum())))
                for step in range(len(sigmas) - 1):
                    callback(step, latent_image, latent_image, len(sigmas) - 1)
                numbers = script[min(len(calls), len(script)) - 1]
                numbers = numbers if isinstance(numbers, tuple) else (numbers,)
                return torch.tensor(numbers).float().reshape(-1, 1, 1, 1).expand(-1, *latent_image.shape[1:]).clone()

        guider = Scripted(sd.model)
        return guider, calls

    return make


@pytest.fixture
def run(host):
    def run(guider, vae, original, *, seed=11, batch=1, **settings):
        noise, = host.run("RandomNoise", noise_seed=seed)
        sampler, = host.run("KSamplerSelect", sampler_name="euler")
        latent = {"samples": torch.zeros(batch, 4, 32, 20)}
        settings = {"one_original": batch > 1, **settings}
        return host.run("CamouflageSafeSampler", noise=noise, guider=guider, sampler=sampler,
                        sigmas=torch.tensor([2.0, 1.0, 0.0]), latent=latent, vae=vae, original=original, **settings)

    return run


def test_it_tries_until_nobody_is_recognised(run, scripted, faces):
    guider, calls = scripted(1.25, [0, 0, 1, 0])
    vae = Vae(faces["same"], faces["stranger"])
    image, report, verdict, latent = run(guider, vae, faces["original"], tries=5)
    assert [call[:2] for call in calls] == [(11, 1.25), (12, 1.5), (13, 1.75)]
    assert len({call[2] for call in calls}) == 3, "another seed is other noise"
    (picture,) = report.pictures
    assert [(one.seed, one.anonymization_scale) for one in picture.attempts] == [call[:2] for call in calls]
    assert [[str(v) for v in one.verdicts] for one in picture.attempts] == [["recognisable"]] * 2 + [["safe"]]
    assert [one.kept for one in picture.attempts] == [False, False, True]
    assert picture.verdict == "safe" and picture.passes and verdict.startswith("verdict: safe")
    assert difference(image, (faces["stranger"] * 255).round() / 255) == 0 and latent["samples"].unique() == 1
    assert guider.anonymization_scale == 1.25, "the guider itself is not touched"
    told = report.to_json(0)["sampling"]
    assert told == {"seed": 13, "anonymization_scale": 1.75}, "the manifest names the try that was kept"


def test_the_same_seed_gives_the_same_tries(run, scripted, faces):
    vae, told = Vae(faces["same"], faces["stranger"]), []
    for _ in range(2):
        guider, calls = scripted(1.25, [0, 1])
        report = run(guider, vae, faces["original"])[1]
        told.append((calls, report.pictures))
    assert told[0] == told[1]


@pytest.mark.parametrize(("settings", "scales"), sampled([
    ({"tries": 4, "scale_step": 0.5, "largest_scale": 2.0}, [1.25, 1.75, 2.0, 2.0]),
    ({"tries": 3, "scale_step": 0.0}, [1.25] * 3),
    ({"tries": 2, "largest_scale": 0.0}, [1.25] * 2),
    ({"tries": 1}, [1.25]),
], 2))
def test_the_scale_stays_within_bounds_and_the_rest_is_redacted(run, scripted, faces, settings, scales):
    guider, calls = scripted(1.25, [0])
    report = run(guider, Vae(faces["same"]), faces["original"], **settings)[1]
    assert [call[1] for call in calls] == scales
    (picture,) = report.pictures
    assert picture.verdict == "redacted" and picture.passes and len(picture.attempts) == len(scales)
    assert [one.kept for one in picture.attempts] == [True] + [False] * (len(scales) - 1), "the earliest of equal tries"


def test_what_never_becomes_safe_is_blocked(run, scripted, faces, host):
    guider, calls = scripted(1.25, [0])
    with pytest.raises(Exception, match=r"Not anonymized: person 0 \(.* px at .*\): recognisable"):
        run(guider, Vae(faces["same"]), faces["original"], tries=2, policy="block")
    assert len(calls) == 2


def test_the_policy_report_lets_it_out_but_not_as_anonymized(run, scripted, faces):
    guider, _ = scripted(1.25, [0])
    image, report, _, _ = run(guider, Vae(faces["same"]), faces["original"], tries=1, policy="report")
    assert difference(image, (faces["same"] * 255).round() / 255) == 0 and not report.pictures[0].passes


def test_a_lost_face_is_not_tried_again(run, scripted, faces):
    guider, calls = scripted(1.25, [0])
    report = run(guider, Vae(faces["nobody"]), faces["original"], policy="report")[1]
    assert len(calls) == 1 and report.verdict == "unverifiable"


def test_a_guider_without_a_scale_changes_the_seed_alone(run, scripted, faces):
    guider, calls = scripted(None, [0, 1])
    report = run(guider, Vae(faces["same"], faces["stranger"]), faces["original"])[1]
    assert [call[:2] for call in calls] == [(11, None), (12, None)] and report.verdict == "safe"


def test_seeds_wrap(run, scripted, faces):
    guider, calls = scripted(None, [0])
    run(guider, Vae(faces["same"]), faces["original"], seed=2**64 - 1, tries=2)
    assert [call[0] for call in calls] == [2**64 - 1, 0]


def test_each_picture_of_a_batch_keeps_its_own_best(run, scripted, faces):
    """A guider that samples in its own way gets the whole batch again, but only the picture that failed counts."""
    guider, calls = scripted(1.25, [(1, 0), (0, 1)])
    vae = Vae(faces["same"], faces["stranger"])
    image, report, _, latent = run(guider, vae, faces["original"], batch=2, tries=5)
    assert len(calls) == 2
    assert [[one.kept for one in picture.attempts] for picture in report.pictures] == [[True], [False, True]]
    assert [one.to_json()["batch"] for one in report.pictures[1].attempts] == [{"place": 1, "together": [0, 1]}] * 2
    assert [picture.verdict for picture in report.pictures] == ["safe", "safe"] and len(image) == 2
    assert latent["samples"][:, 0, 0, 0].tolist() == [1, 1]


def test_only_the_picture_that_failed_is_sampled_again(host, sd, scene, faces, sample):
    """Of three pictures the second fails at first: the next attempt calls the model with it alone, to the same end."""
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative,
                                  depth_map=pictures(1, 3), depth_control_net=sd.nets["depth"])

    def guider(scale):
        return host.run("CamouflageGuider", model=sd.model, positive=positive, negative=negative,
                        identity=scene.identity, anonymization_scale=scale)[0]

    settings = {"seed": 5, "sampler": "dpmpp_2m", "batch": 3}
    first, second = sample(guider(1.25), **settings), sample(guider(1.5), **{**settings, "seed": 6})
    shown = [torch.cat([faces["stranger"], faces["same"], faces["stranger"]]), faces["stranger"]]
    noise, = host.run("RandomNoise", noise_seed=5)
    sampler, = host.run("KSamplerSelect", sampler_name="dpmpp_2m")
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=2, denoise=1.0)
    vae, sizes = SimpleNamespace(decode=lambda samples: shown.pop(0)), []
    watch = sd.model.model.diffusion_model.register_forward_pre_hook(lambda net, args: sizes.append(len(args[0])))
    try:
        report, latent = host.run(
            "CamouflageSafeSampler", noise=noise, guider=guider(1.25), sampler=sampler, sigmas=sigmas, vae=vae,
            latent={"samples": torch.zeros(3, 4, 8, 8)}, original=faces["original"], one_original=True)[1::2]
    finally:
        watch.remove()
    assert sizes == [6, 3, 6, 3, 2, 1, 2, 1], "text and identity at each step, of three pictures, then of one"
    assert difference(latent["samples"][::2], first[::2]) == 0.0
    assert difference(latent["samples"][1], second[1]) < 1e-4 * float(second.abs().max())
    assert difference(first[1], second[1]) > 1e-2
    tries = [[(one.seed, one.place, one.together, one.kept) for one in picture.attempts] for picture in report.pictures]
    assert tries == [[(5, 0, (0, 1, 2), True)], [(5, 1, (0, 1, 2), False), (6, 1, (1,), True)],
                     [(5, 2, (0, 1, 2), True)]]


def test_no_face_in_the_original_stops_the_first_sampling(run, scripted, faces):
    guider, _ = scripted(1.25, [0])
    report = run(guider, Vae(faces["nobody"]), faces["nobody"], no_face="pass")[1]
    assert report.pictures[0].passes and report.pictures[0].nobody_passed

    def sample(*_, callback, **__):
        for step in range(3000):
            callback(step, None, None, 3000)
            time.sleep(0.01)

    guider.sample = sample
    for settings, said in (({}, "No face was found in the original"), ({"no_face": "skip"}, "In none of the pictures")):
        with pytest.raises(Exception, match=said):
            run(guider, Vae(), faces["nobody"], **settings)


def test_a_detector_that_needs_the_device_looks_before_the_first_sampling(run, scripted, faces, monkeypatch):
    from camouflage.comfy import safe_sampler
    from camouflage.verification.remembering import Remembering

    monkeypatch.setattr(safe_sampler, "RetinaFace", Remembering)  # CenterFace is one
    guider, calls = scripted(1.25, [1])
    with pytest.raises(Exception, match="No face was found in the original"):
        run(guider, Vae(), faces["nobody"])
    assert not calls
    assert run(guider, Vae(faces["same"], faces["stranger"]), faces["original"])[1].pictures[0].verdict == "safe"


def test_the_original_is_looked_at_while_the_first_sampling_goes_on(run, scripted, faces, monkeypatch):
    from camouflage.comfy import safe_sampler

    look, sampling, looking = safe_sampler.everybody, threading.Event(), threading.Event()

    def everybody(*arguments):
        looking.set()
        assert sampling.wait(60)
        return look(*arguments)

    guider, calls = scripted(1.25, [0, 1])
    sample = guider.sample

    def met(*arguments, **settings):
        sampling.set()
        assert looking.wait(60)
        return sample(*arguments, **settings)

    guider.sample = met
    monkeypatch.setattr(safe_sampler, "everybody", everybody)
    report = run(guider, Vae(faces["same"], faces["stranger"]), faces["original"])[1]
    assert report.pictures[0].verdict == "safe" and len(calls) == 2


def test_progress_counts_tries(run, scripted, faces, monkeypatch):
    import comfy.utils

    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total)))
    guider, _ = scripted(1.25, [0, 1])
    run(guider, Vae(faces["same"], faces["stranger"]), faces["original"], tries=4)
    assert [value for value, total in seen if total == 8] == sorted(value for value, total in seen if total == 8)
    assert (2, 8) in seen and (4, 8) in seen and seen[-1] == (8, 8)


def test_cancel_leaves_between_and_within_tries(run, scripted, faces):
    import comfy.model_management as mm

    guider, calls = scripted(1.25, [0])

    class Cancelling(Vae):
        def decode(self, samples):
            mm.interrupt_current_processing()
            return super().decode(samples)

    with pytest.raises(mm.InterruptProcessingException):
        run(guider, Cancelling(faces["same"]), faces["original"])
    assert len(calls) == 1


@pytest.mark.parametrize("setting", [{"tries": 0}, {"scale_step": -0.1}, {"largest_scale": math.inf},
                                     {"policy": "trust"}, {"redaction": "none"}, {"no_face": "x"},
                                     {"threshold": 3.0}, {"detectors": "x"}, {"recogniser": "x"},
                                     {"smallest_face": -1}])
def test_settings_out_of_range_are_named(run, scripted, faces, setting):
    guider, _ = scripted(1.25, [0])
    with pytest.raises(Exception, match=f"'{next(iter(setting))}' is"):
        run(guider, Vae(faces["same"]), faces["original"], **setting)


def test_the_scale_of_a_real_guider_is_what_its_node_would_make(host, sd, scene, sample):
    guidance = host.module("camouflage.comfy.guidance")

    def guider(scale):
        return host.run("CamouflageGuider", model=sd.model, positive=scene.positive, negative=scene.negative,
                        identity=scene.identity, anonymization_scale=scale)[0]

    low, high = guider(1.25), guider(2.0)
    assert guidance.scale_of(low) == 1.25
    changed = guidance.with_scale(low, 2.0)
    assert guidance.scale_of(changed) == 2.0 and guidance.scale_of(low) == 1.25
    assert difference(sample(changed), sample(high)) == 0.0
    assert difference(sample(low), sample(high)) > 0.01


def test_the_scale_of_a_patched_model_too(host, sd, scene, sample):
    guidance = host.module("camouflage.comfy.guidance")

    def guider(scale):
        model, = host.run("CamouflageGuidance", model=sd.model, identity=scene.identity, anonymization_scale=scale)
        return host.run("CFGGuider", model=model, positive=scene.positive, negative=scene.negative, cfg=7.0)[0]

    assert difference(sample(guidance.with_scale(guider(1.25), 2.0)), sample(guider(2.0))) == 0.0
    plain = host.run("CFGGuider", model=sd.model, positive=scene.positive, negative=scene.negative, cfg=7.0)[0]
    assert guidance.scale_of(plain) is None


def test_one_try_equals_the_stock_sampler(host, sd, scene, faces):
    guider, = host.run("CamouflageGuider", model=sd.model, positive=scene.positive, negative=scene.negative,
                       identity=scene.identity)
    noise, = host.run("RandomNoise", noise_seed=5)
    sampler, = host.run("KSamplerSelect", sampler_name="dpmpp_sde")
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=2, denoise=1.0)
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    stock = host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas,
                     latent_image=latent)[0]["samples"]
    decoded, = host.run("VAEDecode", vae=sd.vae, samples={"samples": stock})
    image, report, _, ours = host.run("CamouflageSafeSampler", noise=noise, guider=guider, sampler=sampler,
                                      sigmas=sigmas, latent=latent, vae=sd.vae, original=faces["original"][:, 40:200],
                                      tries=1, policy="report")
    assert difference(ours["samples"], stock) == 0.0
    assert difference(image, (decoded.clamp(0, 1) * 255).round() / 255) == 0.0
    assert report.pictures[0].attempts[0].anonymization_scale == 1.25
