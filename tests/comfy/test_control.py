"""Scene control and identity control against stock nodes."""

from __future__ import annotations

import pytest
import torch

from in_host import Calls, difference, pictures

DEFAULTS = {"depth": 0.5, "normal": 0.3, "segmentation": 0.5, "pose": 0.8, "lineart": 0.3}


@pytest.fixture(scope="module")
def five(sd):
    """All five maps and ControlNets as inputs of the node."""
    inputs = {}
    for seed, name in enumerate(DEFAULTS):
        inputs[f"{name}_map"] = pictures(20 + seed)
        inputs[f"{name}_control_net"] = sd.nets[name]
    return inputs


@pytest.fixture
def cfg(host, sd):
    return lambda positive, negative: host.run("CFGGuider", model=sd.model, positive=positive, negative=negative,
                                               cfg=7.0)[0]


def test_scene_control_is_a_chain_of_five_stock_nodes(host, sd, five, cfg, sample):
    ours = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **five)
    theirs = (sd.positive, sd.negative)
    for name, strength in DEFAULTS.items():
        theirs = host.run("ControlNetApplyAdvanced", positive=theirs[0], negative=theirs[1],
                          control_net=five[f"{name}_control_net"], image=five[f"{name}_map"], strength=strength,
                          start_percent=0.0, end_percent=0.5 if name == "lineart" else 1.0)
    assert difference(sample(cfg(*ours)), sample(cfg(*theirs))) == 0.0
    assert difference(sample(cfg(*ours)), sample(cfg(sd.positive, sd.negative))) > 1e-2


def test_lineart_is_not_evaluated_after_half_of_the_steps(host, sd, five, cfg, sample):
    def evaluations(**options):
        positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **five,
                                      **options)
        with Calls(sd.nets["lineart"].control_model) as lineart, Calls(sd.nets["depth"].control_model) as depth:
            sample(cfg(positive, negative), steps=4)
        return lineart.count, depth.count

    sigmas, = host.run("BasicScheduler", model=sd.model, scheduler="karras", steps=4, denoise=1.0)
    half = sd.model.get_model_object("model_sampling").percent_to_sigma(0.5)
    early = int((sigmas[:-1] >= half).sum())
    assert 0 < early < 4
    assert evaluations() == (early, 4)
    assert evaluations(lineart_end_percent=1.0) == (4, 4)


def test_every_control_can_be_left_out(host, sd, five, sample, cfg):
    positive, negative = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative)
    assert positive is sd.positive and negative is sd.negative
    strengths = {f"{name}_strength": 0.0 for name in DEFAULTS}
    off = host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **five, **strengths)
    assert difference(sample(cfg(*off)), sample(cfg(sd.positive, sd.negative))) == 0.0


def test_inputs_are_not_changed(host, sd, five):
    host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, **five)
    assert "control" not in sd.positive[0][1] and "control" not in sd.negative[0][1]
    assert all(net.cond_hint_original is None for net in sd.nets.values())


def test_half_a_control_is_an_error_that_names_the_other_half(host, sd):
    with pytest.raises(ValueError, match="'pose_map' is connected, but 'pose_control_net' is not"):
        host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, pose_map=pictures(0))
    with pytest.raises(ValueError, match="'normal_control_net' is connected, but 'normal_map' is not"):
        host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative,
                 normal_control_net=sd.nets["normal"])


def test_maps_of_different_pictures_are_refused(host, sd):
    nets = {"depth_control_net": sd.nets["depth"], "pose_control_net": sd.nets["pose"]}
    with pytest.raises(ValueError, match="'pose_map' is 192 x 64 px and 'depth_map' 64 x 64 px"):
        host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, depth_map=pictures(0),
                 pose_map=pictures(0, width=192), **nets)
    with pytest.raises(ValueError, match="'pose_map' has 2 pictures and 'depth_map' 3"):
        host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, depth_map=pictures(0, 3),
                 pose_map=pictures(0, 2), **nets)


def test_sdxl_conditioning_with_sd15_controlnets_is_refused(host, sd):
    sdxl = [[torch.zeros(1, 77, 2048), {"pooled_output": torch.zeros(1, 1280)}]]
    with pytest.raises(ValueError, match=r"'depth_control_net'.*768 \(SD 1.5\).*2048 \(SDXL\)"):
        host.run("CamouflageSceneControl", positive=sdxl, negative=sdxl, depth_map=pictures(0),
                 depth_control_net=sd.nets["depth"])
    with pytest.raises(ValueError, match="another model family"):
        host.run("CamouflageIdentityControl", conditioning=sdxl, control_net=sd.nets["tile"], image=pictures(0))


def test_three_channel_identity_sees_the_picture(host, sd):
    original = pictures(3)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"],
                         image=original)
    assert torch.equal(identity[0][1]["control"].cond_hint_original, original.movedim(-1, 1))
    assert identity[0][1]["control_apply_to_uncond"] is False


def test_four_channel_identity_sees_the_vae_encoding_in_the_models_scale(host, sd, sample):
    original = pictures(3)
    identity, = host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["identity4"],
                         image=original, vae=sd.vae)
    hint = identity[0][1]["control"].cond_hint_original
    with torch.inference_mode():
        expected = sd.model.model.process_latent_in(sd.vae.encode(original))
    assert difference(hint, expected) == 0.0
    seen = []
    control = sd.nets["identity4"].control_model
    handle = control.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["hint"]),
                                               with_kwargs=True)
    guider, = host.run("BasicGuider", model=sd.model, conditioning=identity)
    sample(guider, steps=1)
    handle.remove()
    assert difference(seen[0], expected.repeat_interleave(8, -1).repeat_interleave(8, -2)) == 0.0


def test_four_channel_identity_without_vae_says_so(host, sd):
    with pytest.raises(ValueError, match="'vae' is not connected"):
        host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["identity4"],
                 image=pictures(3))


def test_nan_original_is_refused(host, sd):
    broken = pictures(3)
    broken[0, 5, 5, 1] = float("nan")
    with pytest.raises(ValueError, match="'image' has NaN"):
        host.run("CamouflageIdentityControl", conditioning=sd.empty, control_net=sd.nets["tile"], image=broken)
    with pytest.raises(ValueError, match="'depth_map' has NaN"):
        host.run("CamouflageSceneControl", positive=sd.positive, negative=sd.negative, depth_map=broken,
                 depth_control_net=sd.nets["depth"])


def test_captions_of_a_batch_each_steer_their_own_picture(host, sd, sample):
    captions = ["a red house", "two dogs on a lawn " * 30, "a red house"]  # the second needs several CLIP windows
    batch, = host.run("CamouflageEncodeCaptions", clip=[sd.clip], captions=captions, suffix=[""])
    guider, = host.run("BasicGuider", model=sd.model, conditioning=batch)
    together = sample(guider, batch=3, steps=1)
    for i, caption in enumerate(captions):
        alone, = host.run("CLIPTextEncode", clip=sd.clip, text=caption)
        single, = host.run("BasicGuider", model=sd.model, conditioning=alone)
        reference = sample(single, batch=3, steps=1)
        assert difference(together[i], reference[i]) < 1e-3 * float(reference.abs().max())
    wrong, = host.run("CLIPTextEncode", clip=sd.clip, text=captions[0])
    single, = host.run("BasicGuider", model=sd.model, conditioning=wrong)
    assert difference(together[1], sample(single, batch=3, steps=1)[1]) > 1e-2


def test_one_caption_is_the_stock_encoding(host, sd):
    ours, = host.run("CamouflageEncodeCaptions", clip=[sd.clip], captions=["a cat"], suffix=[" photo "])
    stock, = host.run("CLIPTextEncode", clip=sd.clip, text="a cat, photo")
    assert difference(ours[0][0], stock[0][0]) == 0.0
