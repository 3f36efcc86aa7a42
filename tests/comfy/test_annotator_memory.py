"""Annotators in one pass over a batch, and photos that were seen before: the same results, fewer runs of a network."""

from __future__ import annotations

import os
from types import SimpleNamespace

import comfy.model_management as mm
import comfy.utils
import pytest
import torch

from in_host import Calls, difference, pictures

pytestmark = pytest.mark.usefixtures("forget")
SMALL = {"resolution": 64}  # px
NODES = {"DepthMap": SMALL, "NormalMap": SMALL, "SegmentationMap": SMALL, "PoseMap": {"hands": False, **SMALL},
         "LineartMap": SMALL, "Caption": {"max_tokens": 5}}


@pytest.fixture
def annotate(host):
    """annotate(node, image, **settings) -> its maps, or its captions."""
    return lambda node, image, **settings: host.run(f"Camouflage{node}", image=image, **{**NODES[node], **settings})[0]


@pytest.fixture
def runs(host, monkeypatch):
    """A list with an entry for every time that a network was brought onto its device to look at pictures."""
    network = host.module("camouflage.comfy.networks").Network
    seen, original = [], network.on_device
    monkeypatch.setattr(network, "on_device", lambda self, **sizes: (seen.append(1), original(self, **sizes))[1])
    return seen


def same(first, second) -> bool:
    """Whether two maps, or two lists of captions, are equal."""
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


# --- one pass over a batch --------------------------------------------------------------------------------------


def model_of(host, role, folder, classes, processor="AutoImageProcessor"):
    models = host.module("camouflage.comfy.annotators.transformers_models")
    return models.load_folder(role, folder, classes, processor).tool


@pytest.mark.parametrize(("node", "role", "folder", "classes"), [
    ("DepthMap", "depth", "Depth-Anything-V2-Small-hf", "AutoModelForDepthEstimation"),
    ("SegmentationMap", "segmentation", "upernet-convnext-small", "AutoModelForSemanticSegmentation")])
def test_eight_pictures_are_one_pass(host, annotate, node, role, folder, classes):
    batch = pictures(1, 11, 128, 160)
    model, _ = model_of(host, role, folder, classes)
    with Calls(model) as calls:
        together = annotate(node, batch)
    assert calls.count == 2
    host.module("camouflage.comfy.memo").clear()
    with Calls(model) as calls:
        alone = torch.cat([annotate(node, image) for image in batch.split(1)])
    assert calls.count == 11
    if role == "segmentation":
        assert torch.equal(together, alone)
    assert difference(together, alone) < 1e-5


def test_large_pictures_are_fewer_a_pass(host):
    common, sizes = host.module("camouflage.comfy.annotators.common"), []

    def some(small):
        sizes.append((len(small), *small[0].shape[1:3]))
        return torch.cat(small)

    batch = pictures(2, 9)
    for resolution in (256, 512, 1024, 2048):
        common.map_each_picture(batch, some, resolution, "test", most=8)
    assert sizes == [(8, 256, 256), (1, 256, 256), (8, 512, 512), (1, 512, 512), *[(2, 1024, 1024)] * 4,
                     (1, 1024, 1024), *[(1, 2048, 2048)] * 9]
    common.map_each_picture(batch, some, 512, "one by one")
    assert sizes[-9:] == [(1, 512, 512)] * 9


def small_model(kind):
    """A segmentation or depth model of another kind, and its processor; weights so large that the map shows much."""
    import transformers as tf

    torch.manual_seed(4)
    heads = dict(depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1])
    backbone = dict(num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64, patch_size=16)
    if kind == "segformer":
        config = tf.SegformerConfig(num_labels=150, hidden_sizes=[8] * 4, decoder_hidden_size=8, **heads)
        model, processor = tf.SegformerForSemanticSegmentation(config), tf.SegformerImageProcessor()
    elif kind == "mask2former":
        swin = tf.SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4,
                             out_features=["stage1", "stage2", "stage3", "stage4"])
        config = tf.Mask2FormerConfig(backbone_config=swin, num_labels=150, hidden_dim=32, feature_size=32,
                                      mask_feature_size=32, encoder_feedforward_dim=32, dim_feedforward=32,
                                      num_attention_heads=2, encoder_layers=1, decoder_layers=2, num_queries=4)
        model, processor = tf.Mask2FormerForUniversalSegmentation(config), tf.Mask2FormerImageProcessor()
    elif kind == "dpt":
        config = tf.DPTConfig(hidden_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8] * 4,
                              fusion_hidden_size=8, **backbone)
        model, processor = tf.DPTForDepthEstimation(config), tf.DPTImageProcessor()
    else:
        beit = tf.BeitConfig(hidden_size=16, out_features=["stage1", "stage2", "stage3", "stage4"],
                             reshape_hidden_states=False, **backbone)
        bins = [{"name": name, "n_bins": 8, "min_depth": 0.001, "max_depth": far} for name, far in (("in", 10.0),
                                                                                                 ("out", 80.0))]
        config = tf.ZoeDepthConfig(backbone_config=beit, neck_hidden_sizes=[8] * 4, bin_embedding_dim=8,
                                   num_attractors=[4, 2, 2, 1], bin_configurations=bins, fusion_hidden_size=128,
                                   bottleneck_features=128, num_patch_transformer_layers=4,
                                   patch_transformer_hidden_size=128, patch_transformer_intermediate_size=16,
                                   patch_transformer_num_attention_heads=2)
        model, processor = tf.ZoeDepthForDepthEstimation(config), tf.ZoeDepthImageProcessor()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.xavier_normal_(parameter)
    return model.eval(), processor


def disagree(model, batch):
    """Sets the bias of ZoeDepth's choice between its two heads so that it falls differently for the pictures."""
    with torch.no_grad():
        logits = torch.cat([model(pixel_values=2 * image.movedim(-1, 1) - 1).domain_logits for image in batch.split(1)])
        margin = logits[:, 1] - logits[:, 0]
        model.metric_head.mlp_classifier.linear2.bias[1] -= (margin.min() + margin.max()) / 2


@pytest.mark.parametrize("kind", ["segformer", "mask2former", "dpt", "zoedepth"])
def test_other_models_see_each_picture_by_itself(host, annotate, weights_folder, kind):
    node, role = ("SegmentationMap", "segmentation") if kind.endswith("former") else ("DepthMap", "depth")
    model, processor = small_model(kind)
    batch = pictures(5, 3, 128, 128)
    if kind == "zoedepth":
        disagree(model, batch)
    model.save_pretrained(weights_folder / role / "mine")
    processor.save_pretrained(weights_folder / role / "mine")
    together = annotate(node, batch, model="mine")
    host.module("camouflage.comfy.memo").clear()
    alone = torch.cat([annotate(node, image, model="mine") for image in batch.split(1)])
    assert difference(together, alone) < 1e-5 and together.std() > 0.01


def test_cancel_between_passes_keeps_what_was_computed(annotate, runs, monkeypatch):
    seen = []

    def hook(value, total, preview, node_id=None):
        seen.append((value, total))
        mm.interrupt_current_processing()
        mm.throw_exception_if_processing_interrupted()

    batch = pictures(6, 10, 128, 128)
    for node, part in (("DepthMap", 8), ("LineartMap", 1)):
        monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
        seen.clear()
        with pytest.raises(mm.InterruptProcessingException):
            annotate(node, batch)
        assert seen == [(part, 10)]
        monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
        runs.clear()
        annotate(node, batch[:part])
        assert not runs
        annotate(node, batch)
        assert len(runs) == (1 if part == 8 else 9)


# --- a photo that was seen before -------------------------------------------------------------------------------


@pytest.mark.parametrize("node", NODES)
def test_a_repeated_photo_is_not_annotated_again(annotate, runs, photo, node):
    first = annotate(node, photo)
    once = len(runs)
    assert once > 0 and same(annotate(node, photo.clone()), first) and len(runs) == once
    annotate(node, photo.flip(2))
    assert len(runs) == 2 * once


@pytest.mark.parametrize("node", NODES)
def test_a_picture_that_a_batch_has_twice_is_annotated_once(host, annotate, runs, photo, node):
    a, b = photo, photo.flip(2)
    expected = [annotate(node, image) for image in (a, b, a, a, b)]
    host.module("camouflage.comfy.memo").clear()
    runs.clear()
    result = annotate(node, torch.cat([a, b, a, a, b]))
    assert len(runs) == (1 if node in ("DepthMap", "SegmentationMap") else 2)
    if isinstance(result, torch.Tensor):
        assert difference(result, torch.cat(expected)) < 1e-5
    else:
        assert result == [caption for captions in expected for caption in captions]


def test_standard_lineart_is_remembered_without_a_network(annotate, photo, monkeypatch):
    import controlnet_aux

    first = annotate("LineartMap", photo, style="standard")
    monkeypatch.setattr(controlnet_aux.LineartStandardDetector, "__call__", lambda *_, **__: pytest.fail("drawn again"))
    assert torch.equal(annotate("LineartMap", photo, style="standard"), first)


@pytest.mark.parametrize(("node", "setting"), [
    *[(node, {"resolution": 128}) for node in NODES if node != "Caption"], ("PoseMap", {"hands": True}),
    ("PoseMap", {"face": True}), ("LineartMap", {"style": "fine"}), ("Caption", {"prefix": "a photo of"}),
    ("Caption", {"max_tokens": 7}), ("Caption", {"beams": 1})])
def test_another_setting_is_computed_and_both_are_remembered(annotate, runs, photo, node, setting):
    first = annotate(node, photo)
    once = len(runs)
    second = annotate(node, photo, **setting)
    assert len(runs) > once
    runs.clear()
    assert same(annotate(node, photo), first) and same(annotate(node, photo, **setting), second) and not runs


def test_what_eight_bits_do_not_show_is_another_picture(annotate, runs, photo):
    annotate("DepthMap", photo)
    nearly = photo.clone()
    nearly[0, 10, 10, 0] = nearly[0, 10, 10, 0] * 0.9999 + 1e-6
    assert torch.equal((255 * photo).round(), (255 * nearly).round())
    annotate("DepthMap", nearly)
    annotate("DepthMap", photo[:, :192])
    assert len(runs) == 3


@pytest.mark.parametrize("file", ["model.safetensors", "preprocessor_config.json"])
def test_a_file_that_changed_is_another_network(annotate, runs, photo, weights_folder, file):
    first = annotate("DepthMap", photo)
    path = weights_folder / "depth" / "Depth-Anything-V2-Small-hf" / file
    content = path.read_bytes()
    path.unlink()  # it may be a hard link into the cache
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert torch.equal(annotate("DepthMap", photo), first) and len(runs) == 2


def test_nodes_that_change_a_map_do_not_change_the_memory(annotate, photo):
    for image in (photo, torch.cat([photo, photo])):  # computed, and remembered
        for node in ("DepthMap", "LineartMap", "SegmentationMap"):
            given = annotate(node, image)
            kept = given.clone()
            with torch.inference_mode():
                given[0].zero_()
            assert torch.equal(given[1:], kept[1:])
            assert torch.equal(annotate(node, image), kept) and kept.std() > 0.01


def test_no_picture_is_kept(host, annotate):
    memory = host.module("camouflage.comfy.memo")._memory
    image = pictures(7, 1, 70, 70)  # depth is computed at just this size
    depth, (caption,) = annotate("DepthMap", image), annotate("Caption", image)
    (first, result), (second, text) = memory._results.items()
    assert torch.equal(result, depth) and result.untyped_storage().nbytes() == 4 * depth.numel()
    assert text == caption
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for _, digest in (first, second))


# --- the memory itself ------------------------------------------------------------------------------------------


@pytest.fixture
def memory(host):
    """Memory(...)"""
    return host.module("camouflage.comfy.memo").Memory


def test_the_memory_forgets_what_was_asked_for_longest_ago(memory):
    few = memory(most=2)
    for key in "ab":
        few.keep(key, key.upper())
    assert few.recall("a") == "A"
    few.keep("c", "C")
    assert [few.recall(key) for key in "abc"] == ["A", None, "C"]
    few.clear()
    assert few.recall("a") is None


def test_the_memory_is_bounded_in_bytes(memory):
    small = memory(most_bytes=100)  # two maps of ten numbers
    for key in range(5):
        small.keep(key, torch.full((10,), float(key)))
        small.keep(key, torch.full((10,), float(key)))  # the same one again takes no more
        assert small._bytes == min(key + 1, 2) * 40
    assert [small.recall(key) is None for key in range(5)] == [True, True, True, False, False]
    small.keep("large", torch.zeros(26))
    assert small._bytes == 0 and small.recall("large") is None


def test_the_memory_gives_and_keeps_copies(memory):
    kept, value = memory(), torch.arange(4.0)
    kept.keep("map", value.expand(2, 4)[:1])
    value.zero_()
    kept.recall("map").zero_()
    assert torch.equal(kept.recall("map"), torch.arange(4.0)[None])


# --- encodings by a VAE -----------------------------------------------------------------------------------------


@torch.inference_mode()
def test_a_vae_encodes_a_repeated_picture_of_a_batch_once(host):
    vae, = host.run("VAELoader", vae_name="vae-ft-mse-840000-ema-pruned.safetensors")
    encode = host.module("camouflage.comfy.memo").encode
    a, b, c = pictures(8, 3).split(1)
    batch = torch.cat([b, a, b, c, a])
    given = []
    watched = SimpleNamespace(encode=lambda images: (given.append(images), vae.encode(images))[1])
    assert difference(encode(watched, batch), vae.encode(batch)) < 1e-5
    assert torch.equal(given.pop(), torch.cat([b, a, c]))
    assert torch.equal(encode(watched, batch[1:4]), vae.encode(batch[1:4]))
    assert torch.equal(given.pop(), batch[1:4])  # all different: nothing changes


def test_frames_of_a_video_are_encoded_as_they_are(host):
    seen = []
    vae = SimpleNamespace(latent_dim=3, encode=lambda images: seen.append(images) or images)
    frames = pictures(9, 1).repeat(4, 1, 1, 1)
    assert host.module("camouflage.comfy.memo").encode(vae, frames) is frames and len(seen) == 1


# --- BLIP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prefix", "beams"), [("", 1), ("", 3), ("a photo of", 1), ("a photo of", 4)])
def test_a_caption_encodes_its_picture_once_and_each_token_once(host, annotate, photo, prefix, beams):
    model, _ = model_of(host, "caption", "blip-image-captioning-base", "BlipForConditionalGeneration", "BlipProcessor")
    seen = []
    hook = model.text_decoder.bert.register_forward_hook(
        lambda _, args, kwargs, __: seen.append((args[0] if args else kwargs["input_ids"]).shape), with_kwargs=True)
    with Calls(model.vision_model) as vision:
        annotate("Caption", photo, prefix=prefix, max_tokens=6, beams=beams)
    hook.remove()
    prompt = 1 + len(prefix.split())
    assert vision.count == 1
    assert [tuple(shape) for shape in seen] == [(beams, prompt), *[(beams, 1)] * 5]
