"""MultiGPU CFG Split (hosts from 0.23 on) copies controls and models for every GPU: its calls, without such a host."""

from __future__ import annotations

import pytest
import torch

from in_host import difference
from light_weights import SIGNED, ip_adapter, random_map, save, seen, t2i_adapter

OTHER = torch.device("cuda", 1)


@pytest.fixture
def control(host, sd, tmp_path):
    from camouflage.comfy import light_adapter

    adapter = light_adapter.load(save(t2i_adapter().state_dict(), tmp_path / "light.safetensors", SIGNED))
    (_, extras), = light_adapter.apply(sd.positive, adapter, random_map(1), 0.7, 0.0, 0.8)
    control = extras["control"]
    control.multigpu_clones = {}  # newer hosts' ControlBase has it
    return control


def read(control):
    inputs = control.get_control(torch.zeros(1, 4, 16, 16), torch.tensor([5.0]), {}, 1, {})["input"]
    return [feature for feature in inputs if feature is not None]


def test_a_light_control_for_another_gpu_has_weights_of_its_own_and_does_the_same(control):
    copied = control.deepclone_multigpu(OTHER, autoregister=True)
    assert control.multigpu_clones == {OTHER: copied}
    assert (copied.strength, copied.timestep_percent_range) == (0.7, (0.0, 0.8))
    assert copied.adapter.patcher.load_device == OTHER and control.adapter.patcher.load_device != OTHER
    ours, theirs = control.adapter.net, copied.adapter.net
    assert not {p.data_ptr() for p in ours.parameters()} & {p.data_ptr() for p in theirs.parameters()}
    assert copied.get_models() == [copied.adapter.patcher]
    wanted = read(control)
    assert len(wanted) == 2 and all(difference(a, b) == 0.0 for a, b in zip(read(copied), wanted, strict=True))


def test_a_copy_that_nobody_registers_is_not_registered(control):
    assert control.deepclone_multigpu(OTHER) is not control and control.multigpu_clones == {}


def test_the_image_prompts_model_can_be_made_anew(host, sd, tmp_path):
    from camouflage.comfy import image_prompt

    adapter = image_prompt.load(save(ip_adapter(seed=1), tmp_path / "ip.safetensors"))
    model = image_prompt.apply(sd.model, adapter, seen(1), 1.0)
    patcher, = model.get_nested_additional_models()
    factory, arguments = adapter.patcher.cached_patcher_init
    new = factory(*arguments)
    assert patcher.model is adapter.net and new.model is not adapter.net
    for (name, ours), (_, theirs) in zip(adapter.net.named_parameters(), new.model.named_parameters(), strict=True):
        assert ours.data_ptr() != theirs.data_ptr() and torch.equal(ours, theirs), name
    assert factory(*arguments, disable_dynamic=True).model is not new.model
    assert new.cached_patcher_init[1] == (new.model,)
