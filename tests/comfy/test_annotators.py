"""The annotators on the real libraries: conventions, sizes, batches, reuse, bad files."""

from __future__ import annotations

import shutil

import comfy.model_management as mm
import comfy.utils
import numpy as np
import pytest
import torch

from in_host import difference, pictures, spoil
from sampled import everything, sampled

MAPS = {"CamouflageDepthMap": {}, "CamouflageNormalMap": {}, "CamouflageSegmentationMap": {},
        "CamouflagePoseMap": {"hands": False}, "CamouflageLineartMap": {}}
SMALL = {"resolution": 128}  # px: quick, and plain to see for these networks
pytestmark = pytest.mark.usefixtures("forget")


@pytest.mark.parametrize("node", MAPS)
def test_map_of_a_photo_is_finite_and_shows_something(host, photo, forget, node):
    first, = host.run(node, image=photo, **MAPS[node], **SMALL)
    forget()
    again, = host.run(node, image=photo, **MAPS[node], **SMALL)
    mirrored, = host.run(node, image=photo.flip(2), **MAPS[node], **SMALL)
    assert first.shape == photo.shape and first.dtype == torch.float32
    assert torch.isfinite(first).all() and first.min() >= 0 and first.max() <= 1
    assert first.std() > 0.01, "constant map"
    assert torch.equal(first, again)
    assert difference(first, mirrored) > 0.01, "the map does not depend on the picture"


@pytest.mark.parametrize(("node", "height", "width"), sampled(
    [(node, *size) for node in MAPS for size in ((64, 64), (65, 130), (333, 201), (64, 4096 if everything else 512))],
    10, seed=3))
def test_every_size_comes_back_exactly(host, node, height, width):
    result, = host.run(node, image=pictures(0, 1, height, width), **MAPS[node], resolution=64)
    assert result.shape == (1, height, width, 3)
    assert torch.isfinite(result).all()


def test_the_largest_picture(host):
    for node in sampled(("CamouflageDepthMap", "CamouflageSegmentationMap"), 1):
        result, = host.run(node, image=pictures(0, 1, 4096, 4096), **SMALL)
        assert result.shape == (1, 4096, 4096, 3)


@pytest.mark.parametrize("node", MAPS)
def test_every_picture_of_a_batch_gets_its_own_map(host, photo, forget, node):
    batch = torch.cat([photo, photo.flip(2)])
    together, = host.run(node, image=batch, **MAPS[node], **SMALL)
    forget()
    alone = torch.cat([host.run(node, image=image, **MAPS[node], **SMALL)[0] for image in batch.split(1)])
    if node == "CamouflageDepthMap":  # two pictures in one pass of the network: another order of sums
        assert difference(together, alone) < 1e-5
    else:
        assert torch.equal(together, alone)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("node", MAPS)
def test_rgba_and_greyscale(host, photo, node):
    opaque = torch.cat([photo, torch.ones_like(photo[..., :1])], dim=-1)
    grey = photo.mean(dim=-1, keepdim=True)
    expected, = host.run(node, image=photo, **MAPS[node], **SMALL)
    assert torch.equal(host.run(node, image=opaque, **MAPS[node], **SMALL)[0], expected)
    grey3, = host.run(node, image=grey.expand(-1, -1, -1, 3), **MAPS[node], **SMALL)
    assert torch.equal(host.run(node, image=grey, **MAPS[node], **SMALL)[0], grey3)


@pytest.mark.parametrize("node", [*MAPS, "CamouflageCaption"])
@pytest.mark.parametrize(("shape", "error"), [((1, 1, 4000, 3), "4000 x 1 px"), ((1, 63, 63, 3), "63 x 63 px"),
                                              ((1, 128, 128, 2), "1, 3 or 4 channels")])
def test_pictures_that_cannot_be_annotated(host, node, shape, error):
    with pytest.raises(ValueError, match=error):
        host.run(node, image=torch.rand(shape))


@pytest.mark.parametrize("node", [*MAPS, "CamouflageCaption"])
def test_nan_pixels(host, node):
    image = pictures(0)
    image[0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="'image' has NaN or infinite pixels in picture 0"):
        host.run(node, image=image)


# --- conventions, against the libraries called directly ---------------------------------------------------------


def test_depth_is_the_models_own_prediction_near_is_white(host, photo, miniature_models):
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    folder = miniature_models / "camouflage" / "depth" / "Depth-Anything-V2-Small-hf"
    image = torch.nn.functional.interpolate(photo.movedim(-1, 1), (252, 252), mode="bilinear", antialias=True)
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval().float()
    inputs = AutoImageProcessor.from_pretrained(folder)(images=[image[0].clamp(0, 1)], do_resize=False,
                                                        do_rescale=False, return_tensors="pt")
    with torch.no_grad():
        depth = model(**inputs).predicted_depth
    expected = (depth - depth.min()) / (depth.max() - depth.min())
    ours, = host.run("CamouflageDepthMap", image=image.movedim(1, -1), resolution=252)
    assert difference(ours[..., 0], expected) < 1e-4
    assert torch.equal(ours[..., 0], ours[..., 2])


def test_metric_depth_is_inverted(host, photo, weights_folder):
    folder = weights_folder / "depth" / "Depth-Anything-V2-Small-hf"
    relative, = host.run("CamouflageDepthMap", image=photo, **SMALL)
    metric = weights_folder / "depth" / "metric"
    shutil.copytree(folder, metric)
    config = (metric / "config.json").read_text()
    (metric / "config.json").write_text(config.replace('"depth_estimation_type": "relative"',
                                                       '"depth_estimation_type": "metric"'))
    inverted, = host.run("CamouflageDepthMap", image=photo, model="metric", **SMALL)
    flat = torch.stack([relative.flatten(), inverted.flatten()])
    assert torch.corrcoef(flat)[0, 1] < -0.5


def test_normal_map_is_controlnet_auxs(host, photo, miniature_models):
    from controlnet_aux import NormalBaeDetector

    detector = NormalBaeDetector.from_pretrained(str(miniature_models / "camouflage" / "normal"))
    picture = (photo[0] * 255).round().byte().numpy()
    expected = detector(picture, detect_resolution=256, image_resolution=256, output_type="np")
    ours, = host.run("CamouflageNormalMap", image=photo, resolution=256)
    assert np.array_equal((ours[0] * 255).round().byte().numpy(), expected)


@pytest.mark.parametrize("style", ["fine", "coarse", "standard"])
def test_lineart_is_controlnet_auxs_white_on_black(host, photo, miniature_models, style):
    from controlnet_aux import LineartDetector, LineartStandardDetector

    picture = (photo[0] * 255).round().byte().numpy()
    if style == "standard":
        expected = LineartStandardDetector()(picture, detect_resolution=256, output_type="np")
    else:
        detector = LineartDetector.from_pretrained(str(miniature_models / "camouflage" / "lineart"))
        expected = detector(picture, coarse=style == "coarse", detect_resolution=256, image_resolution=256,
                            output_type="np")
    ours, = host.run("CamouflageLineartMap", image=photo, resolution=256, style=style)
    assert np.array_equal((ours[0] * 255).round().byte().numpy(), expected)


def test_standard_lineart_draws_dark_lines_white_on_black(host):
    drawing = torch.ones(1, 128, 128, 3)
    drawing[:, 60:63, 20:108] = 0.0
    lines, = host.run("CamouflageLineartMap", image=drawing, resolution=128, style="standard")
    assert lines[0, 61, 30:100].min() > 0.4  # the library draws at half white
    assert lines[0, :40].max() < 0.1 and lines[0, 90:].max() < 0.1


def test_standard_lineart_needs_no_weights(host, photo, weights_folder):
    shutil.rmtree(weights_folder / "lineart")
    result, = host.run("CamouflageLineartMap", image=photo, style="standard", **SMALL)
    assert result.shape == photo.shape


def test_segmentation_uses_palette_colours_only(host, photo):
    from controlnet_aux.util import ade_palette

    result, = host.run("CamouflageSegmentationMap", image=photo, resolution=256)
    colours = {tuple(colour) for colour in (result[0] * 255).round().int().flatten(0, 1).unique(dim=0).tolist()}
    assert colours <= {tuple(colour) for colour in ade_palette()}
    assert ade_palette()[12] == [150, 5, 61]  # person


def test_pose_draws_the_face_only_when_asked(host, photo):
    plain, = host.run("CamouflagePoseMap", image=photo, hands=False, face=False, resolution=256)
    face, = host.run("CamouflagePoseMap", image=photo, hands=False, face=True, resolution=256)
    added = (face != plain).any(dim=-1)
    assert added.any() and torch.equal(face[added], torch.ones_like(face[added]))  # face keypoints are white


# --- caption and size -------------------------------------------------------------------------------------------


def test_captions_one_a_picture_and_always_the_same(host, photo, forget):
    batch = torch.cat([photo, photo.flip(2), pictures(5, 1, 256, 256)])
    captions, = host.run("CamouflageCaption", image=batch)
    assert len(captions) == 3 and all(isinstance(caption, str) and caption for caption in captions)
    forget()
    assert captions == host.run("CamouflageCaption", image=batch)[0]
    forget()
    assert host.run("CamouflageCaption", image=photo)[0] == captions[:1]
    started, = host.run("CamouflageCaption", image=photo, prefix="a photo of", max_tokens=5)
    assert started[0].startswith("a photo of")


def test_prepare_image_is_the_stock_lanczos(host):
    image = pictures(0, 2, 400, 600)
    ours, width, height, batch = host.run("CamouflagePrepareImage", image=image, size=384)
    theirs, = host.run("ImageScale", image=image, upscale_method="lanczos", width=384, height=256, crop="center")
    assert (width, height, batch) == (384, 256, 2)
    assert torch.equal(ours, theirs)
    stretched, = host.run("CamouflagePrepareImage", image=pictures(0, 1, 400, 500), size=384, fit="stretch")[:1]
    assert torch.equal(stretched, host.run("ImageScale", image=pictures(0, 1, 400, 500), upscale_method="lanczos",
                                           width=384, height=320, crop="disabled")[0])
    same, *_ = host.run("CamouflagePrepareImage", image=pictures(0, 1, 384, 384), size=384)
    assert torch.equal(same, pictures(0, 1, 384, 384))
    with pytest.raises(ValueError, match=r"'image' is 10000 x 10001 px, 100\.0 megapixels"):
        host.run("CamouflagePrepareImage", image=torch.zeros(1).expand(1, 10_001, 10_000, 3))
    with pytest.raises(ValueError, match="'fit' is 'bend'"):
        host.run("CamouflagePrepareImage", image=image, fit="bend")


def test_prepare_image_takes_a_photo_of_a_phone_and_a_tiny_picture(host):
    photo = pictures(0, 1, 42, 56).repeat_interleave(102, dim=1).repeat_interleave(102, dim=2)
    ours, width, height, _ = host.run("CamouflagePrepareImage", image=photo, size=768, fit="stretch")
    assert (photo.shape[1:3], width, height) == ((4284, 5712), 768, 576)
    small = torch.nn.functional.interpolate(photo.movedim(-1, 1), (576, 768), mode="area").movedim(1, -1)
    assert (ours - small).abs().mean() < 0.03
    assert host.run("CamouflagePrepareImage", image=pictures(0, 1, 20, 20), size=64)[1:3] == (64, 64)


# --- models: loaded once, host's memory management, Cancel ------------------------------------------------------


def test_a_network_is_loaded_once_and_known_to_the_host(host, photo, monkeypatch):
    networks = host.module("camouflage.comfy.networks")
    networks.clear()
    loads = []
    original = networks.Network.__init__
    monkeypatch.setattr(networks.Network, "__init__", lambda self, *a: (loads.append(1), original(self, *a))[1])
    host.run("CamouflageDepthMap", image=photo, **SMALL)
    host.run("CamouflageDepthMap", image=photo.flip(2), **SMALL)
    assert len(loads) == 1
    assert any("ModuleList" in type(patcher.model).__name__ for patcher in mm.loaded_models())


def test_the_cache_is_bounded_and_notices_changed_files(host, photo, weights_folder):
    networks = host.module("camouflage.comfy.networks")
    cache = networks._Cache(size=2)
    built = []
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get((key,), lambda key=key: built.append(key) or object())
    assert built == ["a", "b", "c", "b"]
    before, = host.run("CamouflageLineartMap", image=photo, style="fine", **SMALL)
    fine, coarse = weights_folder / "lineart" / "sk_model.pth", weights_folder / "lineart" / "sk_model2.pth"
    spoil(fine, coarse.read_bytes())
    after, = host.run("CamouflageLineartMap", image=photo, style="fine", **SMALL)
    assert difference(before, after) > 0.01


def test_cancel_stops_an_annotator_and_the_next_run_works(host, photo, monkeypatch):
    seen = []

    def hook(value, total, preview, node_id=None):
        seen.append((value, total))
        mm.interrupt_current_processing()
        mm.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    batch = pictures(6, 5, 128, 128)
    with pytest.raises(mm.InterruptProcessingException):
        host.run("CamouflageNormalMap", image=batch, **SMALL)
    assert seen == [(1, 5)]
    monkeypatch.undo()
    result, = host.run("CamouflageNormalMap", image=photo, **SMALL)
    assert torch.isfinite(result).all()
