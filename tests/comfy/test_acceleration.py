"""Acceleration that changes no bit: prepared noise and joined controls, against the stock host."""

from __future__ import annotations

import inspect
import itertools

import comfy.k_diffusion.sampling as k_diffusion
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from in_host import SIZE, Calls, difference, pictures
from sampled import sampled

CONTROLS = ("depth", "normal", "segmentation", "pose", "lineart")
BROWNIAN = [name for name in comfy.samplers.KSAMPLER_NAMES if "_sde" in name and hasattr(k_diffusion, f"sample_{name}")
            and "BrownianTree" in inspect.getsource(getattr(k_diffusion, f"sample_{name}"))]


@pytest.fixture(scope="module")
def noise(host):
    return host.module("camouflage.comfy.acceleration.prepared_noise")


@pytest.fixture(scope="module")
def controls(host):
    return host.module("camouflage.comfy.acceleration.joined_controls")


@pytest.fixture
def prepared(noise, monkeypatch):
    """The noises that samplings get prepared, each with how often the host's own had to take over."""
    made = []

    class Seen(noise.PreparedNoise):
        def __init__(self, *args):
            super().__init__(*args)
            self.live = 0
            if self._shape.numel() > 2:  # not the trial
                made.append(self)

        def begin(self, *args):
            super().begin(*args)
            self.live += self._live is not None

    monkeypatch.setattr(noise, "PreparedNoise", Seen)
    return made


@pytest.fixture(scope="module")
def base(host, sd):
    """Positive, negative and identity of a whole Base graph: five scene controls, one that ends, and the identity's."""
    scene = {f"{name}_map": pictures(seed) for seed, name in enumerate(CONTROLS)}
    scene |= {f"{name}_control_net": sd.nets[name] for name in CONTROLS}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **scene)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(9))
    return {"positive": positive, "negative": negative, "identity": identity}


@pytest.fixture
def guider(host, sd, base):
    return lambda **options: host.run("CamouflageGuider", **{"model": sd.model, **base, **options})[0]


@pytest.fixture
def plain(host, sd):
    """A stock BasicGuider, the cheapest there is, with or without acceleration."""
    accelerate = host.module("camouflage.comfy.acceleration.accelerate")
    return lambda accelerated=False: host.run(
        "BasicGuider", model=accelerate.attach(sd.model.clone()) if accelerated else sd.model, conditioning=sd.empty)[0]


@pytest.mark.parametrize("sampler", sampled(["dpmpp_2m_sde", "euler", "euler_ancestral", "dpmpp_3m_sde", "uni_pc"], 1))
def test_a_whole_base_graph_equals_the_stock_one(guider, dual_cfg, sample, base, sampler):
    theirs = sample(dual_cfg(**base), sampler=sampler, steps=4)
    assert difference(sample(guider(), sampler=sampler, steps=4), theirs) == 0.0
    assert difference(sample(guider(), sampler=sampler, steps=4), theirs) == 0.0  # from memory


def test_stock_apply_nodes_and_other_controls_in_the_chain(host, sd, guider, dual_cfg, sample, base, controls):
    """A stock chain; ours joined around a control that stays as it is (one with a hook on its own get_control)."""
    text = {"positive": sd.positive, "negative": sd.negative}
    for seed, name in enumerate(("depth", "pose", "lineart")):
        text["positive"], text["negative"] = host.run(
            "ControlNetApplyAdvanced", **text, control_net=sd.nets[name], image=pictures(seed), strength=0.7,
            start_percent=0.1 * seed, end_percent=0.8)
    conds = {**base, **text}
    assert difference(sample(guider(**text), steps=3), sample(dual_cfg(**conds), steps=3)) == 0.0
    chain = controls.chain_of(text["positive"][0][1]["control"])
    chain[1].get_control = chain[1].get_control  # another pack's doing
    try:
        joined = controls.join(chain[0], {})
        assert type(joined) is controls.JoinedControls and joined.members == [chain[0]]
        assert joined.previous_controlnet is chain[1]
        assert difference(sample(guider(**text), steps=3), sample(dual_cfg(**conds), steps=3)) == 0.0
    finally:
        del chain[1].get_control


def test_what_is_unusual_is_not_joined(sd, controls):
    def plain(**changes):
        control = sd.nets["depth"].copy()
        for name, value in changes.items():
            setattr(control, name, value)
        return controls.is_plain(control)

    class Theirs(type(sd.nets["depth"])):
        pass

    assert plain()
    assert not any((plain(vae=sd.vae), plain(latent_format=object()), plain(extra_args={"control_type": [1]}),
                    plain(concat_mask=True), plain(global_average_pooling=True), plain(extra_hooks=object()),
                    plain(theirs=1), plain(strength_type=controls.StrengthType.LINEAR_UP),
                    plain(control_model=object())))
    assert not controls.is_plain(Theirs(None)) and not controls.is_plain(None)


def test_positive_and_negative_share_their_joined_control(controls, base):
    joined: dict = {}
    ends = [controls.join(base[name][0][1]["control"], joined) for name in ("positive", "negative")]
    assert ends[0] is ends[1] and len(ends[0].members) == 5
    assert [m.control_model_wrapped for m in ends[0].members] == ends[0].get_models()


def test_hints_are_embedded_once_a_sampling_and_forgotten(guider, sample, sd, controls, monkeypatch):
    kept = []
    original = controls.JoinedControls.cleanup
    monkeypatch.setattr(controls.JoinedControls, "cleanup",
                        lambda self: (original(self), kept.extend((self._chains, self._last, self._embeddings)))[0])
    with Calls(sd.nets["depth"].control_model.input_hint_block) as scene, \
            Calls(sd.nets["tile"].control_model.input_hint_block) as identity, \
            Calls(sd.nets["lineart"].control_model) as lineart:
        sample(guider(), steps=4)
        assert (scene.count, identity.count) == (1, 1)
        assert 0 < lineart.count < 4  # ends at half of the schedule
        sample(guider(), steps=2)
        assert (scene.count, identity.count) == (2, 2)
    assert kept and not any(kept)


@pytest.mark.parametrize("sampler", sampled(BROWNIAN, 4))
def test_every_sde_sampler_of_the_host_gets_its_noise_prepared(plain, sample, prepared, sampler):
    ours = sample(plain(accelerated=True), sampler=sampler, steps=3)
    assert len(prepared) == 1 and prepared[0].live == 0
    assert difference(ours, sample(plain(), sampler=sampler, steps=3)) == 0.0


@pytest.mark.parametrize("sampler", sampled(["euler_ancestral", "lcm", "dpmpp_2s_ancestral", "dpm_adaptive"], 3))
def test_noise_that_is_no_brownian_tree_stays_the_hosts(plain, sample, prepared, sampler):
    assert difference(sample(plain(accelerated=True), sampler=sampler), sample(plain(), sampler=sampler)) == 0.0
    assert not prepared


def test_prepared_noise_is_the_hosts_to_the_bit(noise):
    sigmas = torch.tensor([14.6, 6.0, 2.0, 0.5, 0.0])
    latent = torch.randn(2, 4, 8, 8)
    pairs = list(itertools.pairwise(sigmas[:-1]))
    for seed in (0, 7, 2**64 - 1):
        ours = noise.PreparedNoise(latent, sigmas, seed, pairs)
        ours.begin(latent, sigmas, seed)
        theirs = noise.brownian(latent, sigmas, seed)
        assert all(torch.equal(ours(*pair), theirs(*pair)) for pair in pairs)
        again = noise.brownian(latent, sigmas, seed)
        assert torch.equal(ours(*pairs[0]), again(*pairs[0])), "once more than was foreseen"
        ours.begin(latent, sigmas[1:], seed)  # another wrapper samples a part of the schedule
        part = noise.brownian(latent, sigmas[1:], seed)
        assert torch.equal(ours(*pairs[1]), part(*pairs[1]))
        ours.close()


def test_noise_is_remembered_within_bounds(noise, monkeypatch):
    memory = noise.Memory(most_bytes=2000)
    monkeypatch.setattr(noise, "memory", memory)
    sigmas, latent = torch.tensor([9.0, 4.0, 1.0, 0.0]), torch.zeros(1, 4, 8, 8)
    pairs = [(sigmas[0], sigmas[1])]  # 1024 bytes a value

    def value(seed):
        ours = noise.PreparedNoise(latent, sigmas, seed, pairs)
        ours.begin(latent, sigmas, seed)
        result = ours(*pairs[0])
        ours.close()
        return ours, result

    first, drawn = value(1)
    again, remembered = value(1)
    assert first._worker is not None and again._worker is None and torch.equal(drawn, remembered)
    value(2)
    assert value(1)[0]._worker is not None, "forgotten for seed 2"


def test_a_users_own_noise_sampler_is_left_alone(host, sd, guider, prepared, base):
    asked = []

    def own(sigma, sigma_next):
        asked.append(float(sigma))
        return torch.zeros(1, 4, SIZE // 8, SIZE // 8)

    sampler = comfy.samplers.KSAMPLER(k_diffusion.sample_dpmpp_2m_sde, {"noise_sampler": own})
    random, = host.run("RandomNoise", noise_seed=7)
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=3, denoise=1.0)
    host.run("SamplerCustomAdvanced", noise=random, guider=guider(), sampler=sampler, sigmas=sigmas,
             latent_image={"samples": torch.zeros(1, 4, SIZE // 8, SIZE // 8)})
    assert len(asked) == 2 and not prepared and sampler.extra_options == {"noise_sampler": own}


def test_cancel_in_the_middle_leaves_nothing_behind(host, sd, guider, dual_cfg, sample, base, controls):
    import comfy.model_management as mm

    model: ModelPatcher = sd.model.clone()

    def stop(executor, *args, **kwargs):
        stop.calls += 1
        if stop.calls == 2:
            raise mm.InterruptProcessingException
        return executor(*args, **kwargs)

    stop.calls = 0
    model.add_wrapper(WrappersMP.PREDICT_NOISE, stop)
    interrupted = guider(model=model)
    with pytest.raises(mm.InterruptProcessingException):
        sample(interrupted, sampler="dpmpp_2m_sde", steps=4)
    heads = [entry["control"] for entries in interrupted.conds.values() for entry in entries if "control" in entry]
    assert heads and not any(head._chains for head in heads)
    stop.calls = 9
    theirs = sample(dual_cfg(**base), sampler="dpmpp_2m_sde", steps=4)
    assert difference(sample(interrupted, sampler="dpmpp_2m_sde", steps=4), theirs) == 0.0


def test_safe_sampler_accelerates_any_guider_of_the_hosts(host, sd, plain, sample, prepared):
    accelerate = host.module("camouflage.comfy.acceleration.accelerate")
    stock = plain()
    ours = accelerate.accelerated(stock)
    theirs = sample(stock, sampler="dpmpp_2m_sde", steps=3)
    assert not prepared and difference(sample(ours, sampler="dpmpp_2m_sde", steps=3), theirs) == 0.0
    assert len(prepared) == 1 and stock.model_patcher is sd.model, "the guider handed in stays as it is"
    assert accelerate.accelerated(ours) is ours, "what is accelerated already is taken as it is"
    stock.model_options = dict(stock.model_options)  # another pack's guider, with options of its own
    assert accelerate.accelerated(stock) is stock
