"""The host's `dpmpp_2m_sde` with `karras` against the diffusers scheduler that the authors' code names."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import comfy.samplers
import pytest
import torch

from in_host import difference

STEPS = 30
SHAPE = (1, 4, 8, 8)


def seeded(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def denoised(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact denoiser of data that lie around -1 and 1, with a deviation of 0.3."""
    variance = 0.09 + sigma**2
    return (0.09 * x + sigma**2 * torch.tanh(x / variance)) / variance


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, as a part of the largest absolute value."""
    return difference(ours, theirs) / float(theirs.abs().max())


@pytest.fixture(scope="module")
def karras(host, sd) -> Callable[[int], torch.Tensor]:
    """karras(steps) -> the host's steps + 1 sigmas."""
    return lambda steps: host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=steps, denoise=1.0)[0]


@pytest.fixture(scope="module")
def through_host(host, sd, karras) -> Callable[..., list[torch.Tensor]]:
    """through_host(sampler_name, steps, ...) -> the state at each model call, and the result."""

    def run(sampler_name: str, steps: int, **options: Any) -> list[torch.Tensor]:
        states = []

        def network(_: object, inputs: dict) -> torch.Tensor:
            states.append(inputs["input"].clone())
            return denoised(inputs["input"], inputs["timestep"].view(-1, 1, 1, 1))

        model = sd.model.clone()
        model.set_model_unet_function_wrapper(network)
        guider, = host.run("BasicGuider", model=model, conditioning=sd.empty)
        chosen, = host.run("KSamplerSelect", sampler_name=sampler_name)
        sampler = comfy.samplers.KSAMPLER(chosen.sampler_function, options)
        noise = SimpleNamespace(seed=0, generate_noise=lambda _: seeded(100))
        result = host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=karras(steps),
                          latent_image={"samples": torch.zeros(SHAPE)})[0]["samples"]
        return [*states, model.model.process_latent_in(result)]

    return run


@pytest.fixture(scope="module")
def ours(through_host) -> list[torch.Tensor]:
    """The host's states before each of the 30 steps and after the last; step n takes noise n, the last takes none."""
    noises = (seeded(step) for step in range(STEPS - 1))
    return through_host("dpmpp_2m_sde", STEPS, noise_sampler=lambda sigma, sigma_next: next(noises))


def scheduler(**options: Any) -> Any:
    """The scheduler of the authors' code with SD 1.5's betas, before its 30 steps."""
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    settings = {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True, **options}
    theirs = DPMSolverMultistepScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **settings)
    theirs.set_timesteps(STEPS)
    return theirs


def through_diffusers(sigmas: torch.Tensor, **options: Any) -> list[torch.Tensor]:
    """Its states before each of the 30 steps and after the last, scaled like the host's."""
    theirs = scheduler(**options)
    theirs.sigmas = sigmas
    sample, states = seeded(100) * theirs.init_noise_sigma, []
    for step, timestep in enumerate(theirs.timesteps):
        x = sample * (1 + sigmas[step]**2).sqrt()
        states.append(x)
        epsilon = (x - denoised(x, sigmas[step])) / sigmas[step]
        sample = theirs.step(epsilon, timestep, sample, variance_noise=seeded(step), return_dict=False)[0]
    return [*states, sample * (1 + sigmas[-1]**2).sqrt()]


def test_the_host_offers_both_names():
    assert "dpmpp_2m_sde" in comfy.samplers.KSampler.SAMPLERS
    assert "karras" in comfy.samplers.KSampler.SCHEDULERS


def test_every_step_equals_diffusers(ours, karras):
    differences = [relative(a, b) for a, b in zip(ours, through_diffusers(karras(STEPS)), strict=True)]
    print(f"largest relative difference of {STEPS} steps: {max(differences):.1e}")
    assert len(differences) == STEPS + 1
    assert max(differences) < 1e-4


@pytest.mark.parametrize("other", [{"solver_order": 1}, {"solver_type": "heun"}, {"algorithm_type": "dpmsolver++"}])
def test_it_equals_no_other_solver(ours, karras, other):
    assert relative(ours[-1], through_diffusers(karras(STEPS), **other)[-1]) > 0.1


def test_both_make_the_same_schedule(sd, ours, karras):
    sigmas, theirs = karras(STEPS), scheduler()
    differences = (sigmas[:-1] / theirs.sigmas[:-1] - 1).abs()
    print(f"sigmas: first {differences[0]:.1e}, inner {differences[1:-1].max():.1e}, last {differences[-1]:.1e}")
    assert differences.max() < 5e-5
    assert sigmas[[0, -2]].tolist() == pytest.approx([14.6146, 0.0292], abs=1e-4)
    assert sigmas[-1] == theirs.sigmas[-1] == 0
    assert torch.equal(sd.model.get_model_object("model_sampling").timestep(sigmas[:-1]), theirs.timesteps)
    assert relative(ours[-1], through_diffusers(theirs.sigmas)[-1]) < 5e-4


def test_the_last_step_of_both_is_the_denoised_prediction(ours, karras):
    """diffusers' other ending, `final_sigmas_type="sigma_min"`, calls the model once more and changes nothing."""
    sigmas = karras(STEPS)
    theirs = through_diffusers(sigmas)
    for states in (ours, theirs):
        assert relative(states[-1], denoised(states[-2], sigmas[-2])) < 1e-6
        assert relative(states[-2], states[-1]) == pytest.approx(0.0044, abs=2e-4)
    kept = through_diffusers(scheduler(final_sigmas_type="sigma_min").sigmas, final_sigmas_type="sigma_min")
    assert difference(kept[-2], kept[-1]) == 0
    assert relative(ours[-1], kept[-1]) == pytest.approx(0.0044, abs=2e-4)


@pytest.mark.parametrize(("sampler_name", "steps", "calls"), [("dpmpp_2m_sde", 30, 30), ("dpmpp_sde", 25, 49)])
def test_model_calls(through_host, sampler_name, steps, calls):
    assert len(through_host(sampler_name, steps)) == calls + 1


def test_the_authors_start_from_the_photo_is_step_14(host, sd, karras):
    """diffusers' img2img of strength 0.55: the last int(30 * 0.55) steps; `denoise` 0.55 begins at another noise."""
    low = host.run("SplitSigmas", sigmas=karras(STEPS), step=14)[1]
    assert len(low) - 1 == int(STEPS * 0.55) == 16 and float(low[0]) == pytest.approx(1.408, abs=1e-3)
    other, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=STEPS, denoise=0.55)
    assert len(other) - 1 == STEPS and float(other[0]) == pytest.approx(1.669, abs=1e-3)
