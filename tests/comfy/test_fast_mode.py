"""Fast mode: what its parts compute and leave out, where they stand back, and that results come no nearer to a face."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from comfy.patcher_extension import WrappersMP

import sampled
from benchmarks import fast_mode, small_world
from in_host import Calls, difference, pictures
from light_weights import UNET, ip_adapter, random_map, save, seen, t2i_adapter
from testing.counting import StandIn

SAMPLER, STEPS, UNTIL = "dpmpp_2m_sde", 4, 0.5
NOTHING = {"reuse_scene": False, "reuse_deep": False, "negative_until": 1.0, "identity_until": 1.0}
PARTS = {"reuse_scene": True, "reuse_deep": True, "negative_until": UNTIL, "identity_until": UNTIL}


@pytest.fixture(scope="module")
def conds(host, sd):
    """Base with two scene controls, one of which ends."""
    maps = {"depth_map": pictures(1), "depth_control_net": sd.nets["depth"],
            "lineart_map": pictures(2), "lineart_control_net": sd.nets["lineart"]}
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **maps)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=pictures(3))
    return {"positive": positive, "negative": negative, "identity": identity}


@pytest.fixture(scope="module")
def fast(host, sd, conds, sample):
    """fast(model, **parts) -> latent of Base in fast mode with these parts and no others; without any: exact mode."""

    def run(model=None, steps=STEPS, seed=7, sampler=SAMPLER, graphs="off", **parts):
        model, = host.run("CamouflageAccelerate", model=model or sd.model, mode="fast" if parts else "exact",
                          graphs=graphs, **{**NOTHING, **parts})
        return sample(host.run("CamouflageGuider", model=model, **conds)[0], steps=steps, seed=seed, sampler=sampler)
    return run


# --- The UNet in two parts -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def deep(host, sd):
    return host.module("camouflage.comfy.acceleration.deep_features").DeepFeatures(sd.model.model.diffusion_model)


def _controls(host, sd, tmp_path) -> dict[str, Callable[[], dict[str, list] | None]]:
    """By kind a function that makes the control of a call anew, because the UNet takes from its lists."""
    x, sigma, context = torch.zeros(2, 4, 8, 8), torch.ones(2), sd.empty[0][0].repeat(2, 1, 1)
    light = host.module("camouflage.comfy.light_adapter")
    adapter = light.load(save(t2i_adapter().state_dict(), tmp_path / "t2i.safetensors"))

    def made(conditioning):
        control = conditioning[0][1]["control"]
        control.pre_run(sd.model.model, lambda percent: 1e9 if percent == 0 else 0.0)
        return lambda: control.get_control(x, sigma, {"c_crossattn": context}, 2, {})

    scene, _ = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative,
                        depth_map=pictures(1), depth_control_net=sd.nets["depth"])
    return {"none": lambda: None, "controlnet": made(scene), "t2i": made(light.apply(sd.positive, adapter,
                                                                                     random_map(1), 0.8)),
            "both": made(light.apply(scene, adapter, random_map(1), 0.8))}


@torch.inference_mode()
def test_the_whole_is_the_unet_and_the_shallow_part_goes_on_from_its_features(host, sd, deep, tmp_path):
    generator = torch.Generator().manual_seed(2)
    x, other = torch.randn(2, 2, 4, 8, 8, generator=generator)
    context = torch.cat([sd.positive[0][0], sd.negative[0][0]])
    unet = sd.model.model.diffusion_model
    results = []
    for name, control in _controls(host, sd, tmp_path).items():
        def arguments(x, control=control):
            return x, torch.full((2,), 300.0), context, None, control(), {}

        filled = {place for place, values in (control() or {}).items() if any(value is not None for value in values)}
        assert filled == {"none": set(), "controlnet": {"middle", "output"}, "t2i": {"input"},
                          "both": {"input", "middle", "output"}}[name]
        theirs = unet.forward(*arguments(x))
        whole, features = deep.whole(*arguments(x))
        assert torch.equal(whole, theirs), name
        assert features.shape == (2, UNET[1], 8, 8)
        with Calls(unet.middle_block[0]) as middle, Calls(unet.output_blocks[-1][0]) as last:
            assert torch.equal(deep.shallow(features, *arguments(x)), theirs), name
            moved = deep.shallow(features, *arguments(other))
        assert middle.count == 0 and last.count == 2
        assert 1e-3 < difference(moved, unet.forward(*arguments(other))) < difference(theirs, moved)
        results.append(theirs)
    assert all(difference(results[0], result) > 1e-3 for result in results[1:])


def test_a_line_over_the_logarithm_of_the_noise_level(host):
    module = host.module("camouflage.comfy.acceleration.foreseen")

    def foreseen(known, level):
        line = module.Line()
        for one, tensor in reversed(known):
            line.add(one, [tensor, 2 * tensor])
        result, twice = line.at(level)
        torch.testing.assert_close(twice, 2 * result)
        return result

    def at(level):  # 3 at level 1, and 2 more for every e
        return torch.full((1, 2), 3.0 + 2.0 * math.log(level))

    known = [(4.0, at(4.0)), (10.0, at(10.0))]
    torch.testing.assert_close(foreseen(known, 2.5), at(2.5))
    assert torch.equal(foreseen(known, 4.0), at(4.0)), "the same level once more"
    assert torch.equal(foreseen(known, 0.1), 2 * at(4.0) - at(10.0)), "no farther ahead than they lie apart"
    assert torch.equal(foreseen(known, 20.0), at(4.0)), "nor back"
    for levels in ((4.0, None, 2.5), (None, 10.0, 2.5), (4.0, 10.0, None), (4.0, 4.0, 2.5), (4.0, 10.0, 0.0)):
        last, earlier, now = levels
        assert torch.equal(foreseen([(last, at(4.0)), (earlier, at(10.0))], now), at(4.0)), levels
    assert torch.equal(foreseen(known[:1], 2.5), at(4.0))
    torch.testing.assert_close(foreseen([*known, (99.0, at(1.0))], 2.5), at(2.5))  # of three the last two


def test_deep_features_are_foreseen_from_the_last_two_whole_calls(host, sd, fast, monkeypatch):
    module = host.module("camouflage.comfy.acceleration.deep_features")
    whole, given = module.DeepFeatures.whole, module.DeepFeatures.shallow
    computed, shallow = [], []

    def compute(self, x, *args):
        computed.append(whole(self, x, *args))
        return computed[-1]

    def take(self, deep, x, *args):
        shallow.append(deep)
        return given(self, deep, x, *args)

    monkeypatch.setattr(module.DeepFeatures, "whole", compute)
    monkeypatch.setattr(module.DeepFeatures, "shallow", take)
    fast(reuse_deep=True)
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=STEPS, denoise=1.0)
    first, _, third, fourth = sigmas[:-1].log().tolist()
    for branch in range(2):  # text, identity
        (_, one), (_, two) = computed[branch::2]
        start, end = shallow[branch::2]
        assert torch.equal(start, one), "there is but one"
        torch.testing.assert_close(end, two + (two - one) * (fourth - third) / (third - first))


def test_the_scene_is_foreseen_too(host, fast, monkeypatch):
    ours = fast(steps=6, reuse_scene=True)  # in the last three calls the same controls act
    line = host.module("camouflage.comfy.acceleration.foreseen").Line
    monkeypatch.setattr(line, "at", lambda self, level: self._known[0][1])
    assert difference(fast(steps=6, reuse_scene=True), ours) > 1e-4


# --- What is left out ------------------------------------------------------------------------------------------------

class Batches(Calls):
    """Of the UNet: how many pictures each call has."""

    def __enter__(self):
        self.seen: list[int] = []
        self.handle = self.module.register_forward_hook(lambda _, inputs, result: self.seen.append(len(result)))
        return self


@pytest.fixture(scope="module")
def runs(sd, fast):
    """By part, "nothing" or "all": the result, and the calls of the UNet by pictures with the evaluations of its middle
    and of the ControlNets of depth, lineart and identity."""
    unet = sd.model.model.diffusion_model
    modules = [unet.middle_block[0], *(sd.nets[name].control_model.middle_block for name in ("depth", "lineart",
                                                                                             "tile"))]

    def run(parts):
        with ExitStack() as stack:
            batches = stack.enter_context(Batches(unet.input_blocks[0][0]))
            counts = [stack.enter_context(Calls(module)) for module in modules]
            return fast(**parts), (batches.seen, *(calls.count for calls in counts))

    return {"nothing": run({}), "all": run(PARTS)} | {name: run({name: value}) for name, value in PARTS.items()}


@pytest.fixture(scope="module")
def exact(runs):
    return runs["nothing"][0]


def test_every_part_leaves_out_what_it_says(host, sd, runs):
    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=STEPS, denoise=1.0)
    end = sd.model.get_model_object("model_sampling").percent_to_sigma(UNTIL)  # lineart's, too
    until = int((sigmas[:-1] >= end).sum())
    assert until == 2
    half, twice = STEPS // 2, [2, 1]
    assert {name: counts for name, (_, counts) in runs.items()} == {
        "nothing": (twice * STEPS, 2 * STEPS, STEPS, until, STEPS),
        "reuse_scene": (twice * STEPS, 2 * STEPS, half, until // 2, STEPS),
        "reuse_deep": (twice * STEPS, STEPS, STEPS, until, STEPS),
        "negative_until": (twice * until + [1, 1] * (STEPS - until), 2 * STEPS, STEPS, until, STEPS),
        "identity_until": (twice * until + [2] * (STEPS - until), STEPS + until, STEPS, until, until),
        "all": (twice * until + [1] * (STEPS - until), (STEPS + until) // 2, half, until // 2, until)}


def test_every_part_changes_the_result_and_none_of_them_none(fast, runs, exact):
    assert torch.equal(fast(**NOTHING), exact)
    results = [result for name, (result, _) in runs.items()]
    assert all(difference(a, b) > 1e-4 for n, a in enumerate(results) for b in results[:n])


def test_what_is_left_out_has_no_effect(host, sd, fast, sample, conds):
    """Without the identity from the start it is CFG alone; without the negative cfg is 1."""
    def stock(cfg, **ours):
        guider, = host.run("CFGGuider", model=sd.model, positive=conds["positive"], negative=conds["negative"], cfg=cfg)
        return sample(guider, steps=STEPS, sampler=SAMPLER, **ours)

    assert torch.equal(fast(identity_until=0.0), stock(7.0))
    assert difference(fast(identity_until=0.0, negative_until=0.0), stock(1.0)) < 1e-4


def test_the_same_seed_twice_and_another(fast, runs):
    first = runs["all"][0]
    assert torch.equal(fast(**PARTS), first)
    assert difference(fast(seed=8, **PARTS), first) > 0.1


# --- With recorded calls, and with others' nodes ----------------------------------------------------------------------

@pytest.fixture
def recorder(host, sd, monkeypatch):
    graphs, stand_in = host.module("camouflage.comfy.acceleration.graphs"), StandIn()
    monkeypatch.setattr(graphs, "recorder_for", lambda device: stand_in)
    yield stand_in
    graphs.free(sd.model.model)


@pytest.mark.parametrize("parts", [{"reuse_scene": True}, PARTS], ids=["scene", "all"])
def test_recorded_calls_change_no_bit(fast, recorder, parts):
    theirs = fast(steps=6, **parts)
    assert recorder.recorded == 0
    for _ in range(2):
        assert torch.equal(fast(steps=6, graphs="auto", **parts), theirs)
    assert recorder.played > recorder.recorded > 0


def _patched(model):
    model.set_model_attn1_output_patch(lambda out, options: out * 0.9)


def _wrapped(model):
    model.add_wrapper(WrappersMP.DIFFUSION_MODEL, lambda executor, *args, **kwargs: executor(*args, **kwargs) * 0.9)


def _called(model):
    model.add_wrapper(WrappersMP.APPLY_MODEL, lambda executor, *args, **kwargs: executor(*args, **kwargs) * 0.9)


@pytest.mark.parametrize(("change", "parts"), [
    (_patched, {"reuse_deep": True}), (_wrapped, {"reuse_deep": True}),
    (_called, {"reuse_deep": True, "reuse_scene": True})])
def test_where_another_node_changes_the_unet_nothing_is_reused(sd, fast, exact, change, parts):
    model = sd.model.clone()
    change(model)
    theirs = fast(model)
    assert torch.equal(fast(model, **parts), theirs)
    assert difference(theirs, exact) > 1e-4


def test_another_nodes_way_to_evaluate_prompts_keeps_the_negative(sd, fast):
    from comfy.samplers import calc_cond_batch

    calls = []

    def theirs(args):
        calls.append(len(args["conds"]))
        return calc_cond_batch(args["model"], args["conds"], args["input"], args["sigma"], args["model_options"])

    model = sd.model.clone()
    model.set_model_sampler_calc_cond_batch_function(theirs)
    result = fast(model, negative_until=0.0)
    assert calls and torch.equal(result, fast(model))


def test_light_in_fast_mode(host, sd, sample, recorder, tmp_path):
    prompt, light = host.module("camouflage.comfy.image_prompt"), host.module("camouflage.comfy.light_adapter")
    image = prompt.load(save(ip_adapter(seed=1), tmp_path / "ip.safetensors"))
    adapter = light.load(save(t2i_adapter().state_dict(), tmp_path / "t2i.safetensors"))
    prompted, faces = prompt.apply(sd.model, image, seen(1), 0.9), random_map(1)
    positive, negative = (light.apply(text, adapter, faces, 0.8) for text in (sd.positive, sd.negative))

    def run(mode, graphs="off"):
        model, = host.run("CamouflageAccelerate", model=prompted, mode=mode, graphs=graphs, **PARTS)
        guider, = host.run("CFGGuider", model=model, positive=positive, negative=negative, cfg=3.0)
        return sample(guider, steps=2 * STEPS, sampler=SAMPLER)

    unet = sd.model.model.diffusion_model
    with Calls(unet.middle_block[0]) as middle, Batches(unet.input_blocks[0][0]) as batches:
        result = run("fast")
    assert middle.count == STEPS and batches.seen == [2] * STEPS + [1] * STEPS
    assert difference(result, run("exact")) > 1e-4
    assert torch.equal(run("fast", "auto"), result) and recorder.recorded > 0


# --- On trained networks ----------------------------------------------------------------------------------------------

@sampled.long
def test_results_come_no_nearer_to_the_original(host, cache):
    """The networks stay in the cache; the first time they are trained, which takes minutes."""
    nets = small_world.world(cache)
    rows = fast_mode.measure(host, nets, fast_mode.MODES, 32)
    for row in rows:
        print(row)
        assert row.no_nearer, row
