"""Recorded calls (CUDA graphs), with a stand-in that plays back on the CPU: same bits, few operations, all ways out."""

from __future__ import annotations

import gc

import comfy.ldm.modules.attention as attention
import comfy.model_management as mm
import pytest
import torch
import torch._dynamo as dynamo
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper

from in_host import Calls, difference, pictures
from light_weights import ip_adapter, random_map, save, seen, t2i_adapter
from sampled import everything, long
from testing.counting import Operations, StandIn

CONTROLS = ("depth", "normal", "segmentation", "pose", "lineart")
SAMPLER = "dpmpp_2m_sde"


@pytest.fixture(scope="module")
def graphs(host):
    return host.module("camouflage.comfy.acceleration.graphs")


@pytest.fixture
def recorder(graphs, sd, monkeypatch):
    stand_in = StandIn()
    monkeypatch.setattr(graphs, "recorder_for", lambda device: stand_in)
    monkeypatch.setattr(graphs, "_said", set())
    yield stand_in
    graphs.free(sd.model.model)


@pytest.fixture(scope="module")
def base(host, sd):
    """base(seed, names) -> positive, negative and identity of a Base graph for another photo."""

    def make(seed=9, names=CONTROLS):
        scene = {f"{name}_map": pictures(seed * 10 + number) for number, name in enumerate(names)}
        scene |= {f"{name}_control_net": sd.nets[name] for name in names}
        positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **scene)
        identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                             image=pictures(seed))
        return {"positive": positive, "negative": negative, "identity": identity}
    return make


@pytest.fixture(scope="module")
def small(base):
    return base(9, ("depth", "lineart"))


@pytest.fixture
def accelerated(host, sd):
    return lambda model=None, **settings: host.run("CamouflageAccelerate", model=model or sd.model, **settings)[0]


@pytest.fixture
def guider(host):
    return lambda model, conds, **options: host.run("CamouflageGuider", model=model, **conds, **options)[0]


@torch.inference_mode()  # as the host executes nodes
def test_two_pictures_in_a_row_equal_the_stock_graph(accelerated, guider, dual_cfg, sample, base, recorder):
    model = accelerated()
    for seed in (9, 5):  # another photo is another hint, in the same places
        conds = base(seed, ("depth", "pose", "lineart"))
        theirs = sample(dual_cfg(**conds), steps=6, sampler=SAMPLER)
        assert difference(sample(guider(model, conds), steps=6, sampler=SAMPLER), theirs) == 0.0
        # With lineart and without: controls and UNet of the text; controls and UNet of the identity.
        assert recorder.recorded == 6
    assert recorder.played == 38


def test_few_operations_and_waits_outside_of_recordings(sd, accelerated, guider, dual_cfg, sample, base, recorder):
    """Counted between the starts of the last two of five model calls; in the fourth all is recorded."""
    def count(make, model) -> list[int]:
        counts = []
        model = model.clone()

        def note(executor, *args):
            counts.append((operations.launched, operations.waited))
            return executor(*args)

        model.add_wrapper(WrappersMP.PREDICT_NOISE, note)
        with Operations() as operations:
            sample(make(model), steps=5, sampler=SAMPLER)
        return [after - before for before, after in zip(*counts[-2:], strict=True)]

    conds = base()
    ours = count(lambda model: guider(model, conds), accelerated())
    stock = count(lambda model: dual_cfg(**conds, model=model), sd.model)
    print(f"\na model call: {ours[0]} operations outside of recordings, {ours[1]} waits; stock {stock[0]}, {stock[1]}")
    assert ours[0] <= 150 and ours[1] <= 4
    assert stock[0] > 1000 and stock[1] > 12


@long
def test_a_batch_then_one_picture_then_another_strength(accelerated, guider, dual_cfg, sample, small, host, recorder):
    model = accelerated()
    for batch in (2, 1, 2):
        ours = sample(guider(model, small), steps=4, batch=batch, sampler=SAMPLER)
        assert difference(ours, sample(dual_cfg(**small), steps=4, batch=batch, sampler=SAMPLER)) == 0.0
    before = recorder.recorded
    positive, negative = host.run("CamouflageSceneControl", positive=small["positive"], negative=small["negative"])
    weaker = [[text, {**extras, "control": extras["control"].copy()}] for text, extras in (positive[0], negative[0])]
    weaker[1][1]["control"] = weaker[0][1]["control"]
    weaker[0][1]["control"].strength = 0.4
    conds = {"positive": weaker[:1], "negative": weaker[1:], "identity": small["identity"]}
    theirs = sample(dual_cfg(**conds), steps=4, sampler=SAMPLER)
    assert difference(sample(guider(model, conds), steps=4, sampler=SAMPLER), theirs) == 0.0
    assert recorder.recorded > before


def test_two_photos_with_light_equal_our_own_graph(host, sd, accelerated, cfg, sample, recorder, tmp_path):
    """Image prompts and attribute maps differ from photo to photo; the recordings stay, and never show the first."""
    prompt, light = host.module("camouflage.comfy.image_prompt"), host.module("camouflage.comfy.light_adapter")
    image = prompt.load(save(ip_adapter(seed=1), tmp_path / "ip.safetensors"))
    adapter = light.load(save(t2i_adapter().state_dict(), tmp_path / "t2i.safetensors"))
    results = []
    for seed in (1, 2):
        model = prompt.apply(sd.model, image, seen(seed), 0.9, 0.0, 0.8)
        faces = random_map(seed)
        texts = [light.apply(text, adapter, faces, 0.8) for text in (sd.positive, sd.negative)]
        ours = sample(cfg(accelerated(model), *texts), steps=6, sampler=SAMPLER)
        assert difference(ours, sample(cfg(model, *texts), steps=6, sampler=SAMPLER)) == 0.0
        results.append((ours, recorder.recorded))
    assert results[0][1] == results[1][1] == 2, "with the image and, at the end, without"
    assert difference(results[0][0], results[1][0]) > 1e-3


def test_a_mask_and_other_nodes_patches_are_left_to_the_host(host, sd, accelerated, cfg, sample, recorder, graphs,
                                                             tmp_path):
    prompt = host.module("camouflage.comfy.image_prompt")
    image = prompt.load(save(ip_adapter(seed=1), tmp_path / "ip.safetensors"))

    def masked():
        return prompt.apply(sd.model, image, seen(1), 0.9, mask=torch.ones(1, 64, 64))

    def added():
        model = sd.model.clone()
        model.set_model_attn1_output_patch(lambda out, options: out * 0.9)
        return model

    def replaced():
        model = sd.model.clone()
        model.set_model_attn2_replace(lambda q, k, v, options: q * 0.5, "input", 1)
        return model

    def wrapped():
        model = sd.model.clone()
        model.add_wrapper(WrappersMP.DIFFUSION_MODEL, lambda executor, *args, **kwargs: executor(*args, **kwargs) * 0.9)
        return model

    def called():
        model = sd.model.clone()
        model.add_wrapper(WrappersMP.APPLY_MODEL, lambda executor, *args, **kwargs: executor(*args, **kwargs) * 0.9)
        return model

    def optioned():
        model = sd.model.clone()
        model.model_options["transformer_options"]["theirs"] = [1]
        return model

    for make in (masked, added, replaced, wrapped, called, optioned):
        model = make()
        theirs = sample(cfg(model), steps=3)
        assert difference(sample(cfg(accelerated(model)), steps=3), theirs) == 0.0
        assert recorder.recorded == 0, make.__name__
    assert graphs._said == {"another node patches the UNet", "the model is compiled, or called by another node"}


def test_another_packs_attention_in_front_of_ours_is_left_to_the_host(host, sd, accelerated, cfg, sample, recorder,
                                                                      tmp_path):
    prompt = host.module("camouflage.comfy.image_prompt")
    image = prompt.load(save(ip_adapter(seed=1), tmp_path / "ip.safetensors"))
    before = sd.model.clone()
    before.set_model_attn2_replace(lambda q, k, v, options: q * 0.5, "input", 1)
    after = prompt.apply(sd.model, image, seen(1), 0.9)
    patch = after.model_options["transformer_options"]["patches_replace"]["attn2"]["input", 1]
    patch.add(lambda out, q, k, v, options: out * 0.1)
    for model in (prompt.apply(before, image, seen(1), 0.9), after):
        assert difference(sample(cfg(accelerated(model)), steps=3), sample(cfg(model), steps=3)) == 0.0
        assert recorder.recorded == 0


def test_hooks_on_networks_and_weights_that_are_patched_meanwhile(sd, accelerated, guider, dual_cfg, sample, small,
                                                                  recorder, graphs):
    theirs = sample(dual_cfg(**small), steps=3)
    model = accelerated()
    with Calls(sd.nets["depth"].control_model.middle_block), Calls(sd.model.model.diffusion_model.out):
        assert difference(sample(guider(model, small), steps=3), theirs) == 0.0
    hooked = recorder.recorded
    assert hooked == 1, "only the identity's ControlNet"
    layer = sd.model.model.diffusion_model.input_blocks[0][0]
    layer.weight_function = [lambda weight: weight]
    try:
        assert difference(sample(guider(model, small), steps=3), theirs) == 0.0
    finally:
        layer.weight_function = []
    assert graphs._said >= {"a network has hooks", "weights are patched while the network computes (low VRAM)"}


def test_a_moved_weight_is_recorded_anew(sd, accelerated, cfg, sample, recorder):
    model = accelerated()
    first = sample(cfg(model), steps=3)
    recorded = recorder.recorded
    layer = sd.model.model.diffusion_model.out[2]
    kept = layer.weight.data
    try:
        layer.weight.data = kept * 1.01
        moved = sample(cfg(model), steps=3)
        assert recorder.recorded > recorded and difference(moved, sample(cfg(sd.model), steps=3)) == 0.0
        assert difference(moved, first) > 0.0
    finally:
        layer.weight.data = kept


def test_a_failed_recording_is_said_and_the_sampling_goes_on(sd, accelerated, cfg, sample, recorder, graphs):
    recorder.fails = True
    assert difference(sample(cfg(accelerated()), steps=3), sample(cfg(sd.model), steps=3)) == 0.0
    assert recorder.recorded == 0
    said, = graphs._said
    assert said.startswith("a call could not be recorded (RuntimeError: operation not permitted")


def test_no_graphs_where_the_node_says_so_or_no_gpu_is_there(sd, accelerated, cfg, sample, recorder, graphs):
    sample(cfg(accelerated(graphs="off")), steps=3)
    assert recorder.recorded == 0
    assert graphs.recorder_for(torch.device("cpu")) is not None  # the stand-in
    sample(cfg(sd.model), steps=3)
    assert recorder.recorded == 0


def test_on_the_cpu_nothing_is_recorded(graphs):
    assert graphs.recorder_for(torch.device("cpu")) is None


def test_cancel_in_the_middle_and_again(host, sd, accelerated, guider, dual_cfg, sample, small, recorder):
    model = accelerated()
    sample(guider(model, small), steps=3)
    stop = {"after": 2}

    def stopping(executor, *args, **kwargs):
        stop["after"] -= 1
        if stop["after"] == 0:
            raise mm.InterruptProcessingException
        return executor(*args, **kwargs)

    model.add_wrapper(WrappersMP.PREDICT_NOISE, stopping)
    with pytest.raises(mm.InterruptProcessingException):
        sample(guider(model, small), steps=3)
    assert difference(sample(guider(model, small), steps=3), sample(dual_cfg(**small), steps=3)) == 0.0


def test_recordings_go_with_the_model(sd, accelerated, guider, sample, small, recorder, graphs):
    model = accelerated()
    sample(guider(model, small), steps=4)
    held = graphs.graphs_of(sd.model.model, torch.device("cpu"))
    assert len(held) == recorder.recorded > 0
    assert not any(source is not None for recording in held._recordings.values() for source in recording.sources)
    model.detach()
    assert len(held) == 0
    assert graphs.graphs_of(sd.model.model, torch.device("cpu")) is not held


def test_no_more_recordings_than_fit(graphs, monkeypatch):
    monkeypatch.setattr(graphs, "_LARGEST", 2)
    held = graphs.Graphs(StandIn())
    for number in range(5):
        for _ in range(2):
            held.run(number, None, [torch.zeros(2)], [], lambda changing, _: changing[0] + 1)
        assert len(held) <= 2


@long
def test_with_the_hosts_compile_node_the_controls_are_compiled_too(host, sd, accelerated, guider, dual_cfg, sample,
                                                                   base, recorder, monkeypatch):
    """Counted with the backend that only traces: UNet and ControlNets each have a graph for two and one for one.

    The CPU's default attention breaks a graph, because it asks for the free memory; a GPU's is PyTorch's.
    """
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    monkeypatch.setattr(attention, "optimized_attention_masked", attention.attention_pytorch)
    conds = base(9, ("depth", "pose"))
    theirs = sample(dual_cfg(**conds), steps=2)
    model = accelerated()
    set_torch_compile_wrapper(model, backend="eager")
    dynamo.reset()
    dynamo.utils.counters.clear()
    for _ in range(2):
        assert difference(sample(guider(model, conds), steps=2), theirs) == 0.0
    graphs = dynamo.utils.counters["stats"]["unique_graphs"]
    print(f"\n{graphs} graphs, breaks: {dict(dynamo.utils.counters['graph_break'])}")
    assert not dynamo.utils.counters["graph_break"] and recorder.recorded == 0
    assert graphs == 4


@long
def test_light_compiles_without_a_break(host, sd, cfg, sample, tmp_path, monkeypatch):
    prompt, light = host.module("camouflage.comfy.image_prompt"), host.module("camouflage.comfy.light_adapter")
    for module, name in ((attention, "optimized_attention"), (attention, "optimized_attention_masked"),
                         (prompt, "optimized_attention")):
        monkeypatch.setattr(module, name, attention.attention_pytorch)
    image = prompt.load(save(ip_adapter(seed=1), tmp_path / "ip.safetensors"))
    adapter = light.load(save(t2i_adapter().state_dict(), tmp_path / "t2i.safetensors"))
    faces = random_map(1)
    texts = [light.apply(text, adapter, faces, 0.8) for text in (sd.positive, sd.negative)]
    model = prompt.apply(sd.model, image, seen(1), 0.9, 0.0, 0.8 if everything else 1.0)  # the end is traced anew
    theirs = sample(cfg(model, *texts), steps=3)
    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    dynamo.reset()
    dynamo.utils.counters.clear()
    assert difference(sample(cfg(compiled, *texts), steps=3), theirs) == 0.0
    assert not dynamo.utils.counters["graph_break"]


def test_what_is_kept_goes_with_the_sampling_and_the_model(host, sd, accelerated, guider, sample, base, recorder,
                                                           tmp_path):
    """Counts tensors: none is left of a sampling but the places of recordings, and none of these after unloading."""
    prompt = host.module("camouflage.comfy.image_prompt")
    noise = host.module("camouflage.comfy.acceleration.prepared_noise")
    image = prompt.load(save(ip_adapter(seed=1), tmp_path / "ip.safetensors"))
    model, conds = accelerated(prompt.apply(sd.model, image, seen(1), 0.9)), base(9, ("depth", "lineart"))

    def tensors() -> int:
        noise.memory.clear()
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    sample(guider(model, conds), steps=4, sampler=SAMPLER)
    model.detach()
    before = tensors()
    for _ in range(2):
        sample(guider(model, conds), steps=4, sampler=SAMPLER)
        recorded = tensors()
    assert recorder.recorded > 0 and recorded > before
    sample(guider(model, conds), steps=4, sampler=SAMPLER)
    assert tensors() == recorded, "another sampling leaves nothing more"
    model.detach()
    assert tensors() == before


def test_no_weight_is_held_twice(host, sd, base):
    """The views of joined ControlNets and of the UNet share every weight with the networks that the host loaded."""
    joined = host.module("camouflage.comfy.acceleration.joined_controls")
    deep = host.module("camouflage.comfy.acceleration.deep_features").DeepFeatures(sd.model.model.diffusion_model)
    net = sd.nets["depth"].control_model
    *_, view = joined._view(net, None)
    for one, original in ((view, net), (deep._whole, sd.model.model.diffusion_model),
                          (deep._shallow, sd.model.model.diffusion_model)):
        assert {id(weight) for weight in one.parameters()} <= {id(weight) for weight in original.parameters()}
    assert len(list(view.parameters())) == len(list(net.parameters()))
