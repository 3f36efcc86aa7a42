"""Readings of pictures: what the nodes read, in faces that our detectors found; once, and of one frame."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mixed_photos
import own_networks
from camouflage.errors import CamouflageError
from camouflage.evaluation import readings, readings_own
from camouflage.evaluation.cache import SeenCache
from camouflage.evaluation.readings import Reader, reader
from camouflage.evaluation.readings_kept import read_utility
from camouflage.evaluation.seeing import JUDGED, LOST, Seen, Subject
from camouflage.method.faces import ATTRIBUTES
from camouflage.verification.detection import FoundFace
from camouflage.verification.places import same_face
from in_host import only_folder


def face(left: float, top: float, right: float, bottom: float, turn: float = 0.0) -> FoundFace:
    return FoundFace((left, top, right, bottom), ("CenterFace",), ("CenterFace",), turn)


HEAD = face(130, 60, 250, 220)  # of mixed_photos.portrait(384, "hopper")


def seen(pixels: np.ndarray, *faces: FoundFace) -> Seen:
    return Seen((pixels.shape[1], pixels.shape[0]), faces, {}, np.zeros((len(faces), 5, 2)))


def photo(name: str, size: int = 384) -> np.ndarray:
    return np.array(mixed_photos.portrait(size, name))


def as_image(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of somebody's own."""
    folder = tmp_path_factory.mktemp("own")
    own_networks.attribute_network(folder / "attributes")
    own_networks.person_detector(folder / "persons")
    own_networks.text_encoder(folder / "texts")
    return folder


def everything(own: Path) -> Reader:
    found = reader(readings.NAMES, attribute_network=own / "attributes", person_detector=own / "persons",
                   text_encoder=own / "texts")
    assert found is not None
    return found


# --- what is read is what the nodes read --------------------------------------------------------------------------


def test_maps_and_captions_are_those_of_the_nodes(host) -> None:
    pixels = photo("hopper")
    wanted, = host.run("CamouflageSegmentationMap", image=as_image(pixels))
    assert np.array_equal(readings.labels(pixels), (wanted[0] * 255).round().numpy().astype(np.uint8))
    wanted, = host.run("CamouflageDepthMap", image=as_image(pixels))
    assert np.array_equal(readings.depth(pixels), wanted[0, :, :, 0].numpy().astype(np.float16))
    wanted, = host.run("CamouflageCaption", image=as_image(pixels))
    assert readings.caption(pixels) == (wanted if isinstance(wanted, str) else wanted[0])


def test_faces_are_read_at_the_places_that_our_detectors_found(host) -> None:
    """Whom FACER finds itself it reads by its own points; a place where it finds nobody is looked at closer."""
    pixels = photo("hopper")
    alone, = host.run("CamouflageFaceAttributes", image=as_image(pixels))
    own = alone.pictures[0].faces[0]
    ours = face(*np.array(own.box_ltrb) + 0.1 * (own.box_ltrb[2] - own.box_ltrb[0]))
    left, top, right, bottom = next(one for one in ((x, y, x + 60, y + 80) for x in range(0, 320, 40)
                                                    for y in range(0, 300, 40)) if not any(
        same_face(one, other.box_ltrb) for other in (*alone.pictures[0].faces, own)))
    box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    closer, = host.run("CamouflageFaceAttributes", image=as_image(pixels), boxes=[box])
    known, = (one for one in closer.pictures[0].faces if one.box_ltrb == (left, top, right, bottom))
    found = readings.facer_attributes(pixels, [face(left, top, right, bottom), ours])
    assert np.allclose(found, [known.attributes, own.attributes], atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=1e-3)
    assert readings.facer_attributes(pixels, []).shape == (0, len(ATTRIBUTES))


def test_a_picture_too_large_or_too_small_for_annotators_is_read_all_the_same(host, monkeypatch) -> None:
    monkeypatch.setattr(readings, "MOST_PIXELS", 100_000)
    pixels = photo("hopper", 768)
    large = readings.facer_attributes(pixels, [face(260, 120, 500, 440)])
    size = readings._working_size((768, 768), 316)
    assert size == (316, 316)
    monkeypatch.undo()
    small = readings.facer_attributes(readings.resized(pixels, size), [face(*(value * 316 / 768 for value in (
        260, 120, 500, 440)))])
    assert np.allclose(large, small, atol=1e-4)
    assert np.isfinite(readings.facer_attributes(photo("hopper", 40), [face(10, 5, 30, 30)])).all()


# --- networks of one's own ----------------------------------------------------------------------------------------


def test_a_second_attribute_network_gives_the_sigmoids_of_its_crops(host, own) -> None:
    """At twice the face's longer side of 128 px the crop is 256 px: the picture's own pixels."""
    from transformers import ViTForImageClassification, ViTImageProcessor

    pixels = photo("obama")
    found = readings_own.attributes(own / "attributes")(pixels, [face(140, 128, 240, 256)])
    crop = pixels[64:320, 62:318]
    model = ViTForImageClassification.from_pretrained(own / "attributes").eval()
    inputs = ViTImageProcessor.from_pretrained(own / "attributes")(images=[crop], return_tensors="pt")
    with torch.no_grad():
        wanted = torch.sigmoid(model(**inputs).logits)[0].numpy()
    assert np.allclose(found[0], wanted, atol=1e-5)
    assert len(np.unique(wanted > 0.5)) == 2


def test_its_labels_count_by_their_names_in_whatever_order_and_spelling(host, own, tmp_path) -> None:
    order = np.random.default_rng(0).permutation(len(ATTRIBUTES))
    names = [(str.lower, str.upper, lambda name: name.replace("_", " "), lambda name: name.replace("_", ""))[i % 4](
        ATTRIBUTES[k]) for i, k in enumerate(order)]
    shuffled = own_networks.attribute_network(tmp_path / "shuffled", names)
    pixels, faces = photo("biden"), [HEAD, face(100, 100, 200, 200, turn=90.0)] * 6
    one, other = (readings_own.attributes(folder)(pixels, faces) for folder in (own / "attributes", shuffled))
    assert one.shape == (12, len(ATTRIBUTES)) and np.allclose(one, other, atol=1e-6)
    assert not np.allclose(one[0], one[1], atol=1e-2)


def test_persons_are_those_of_the_detector_that_it_is_sure_of(host, own) -> None:
    from transformers import YolosForObjectDetection, YolosImageProcessor

    pixels = photo("astronaut")[:300]
    found = readings_own.persons(own / "persons")(pixels)
    model = YolosForObjectDetection.from_pretrained(own / "persons").eval()
    processor = YolosImageProcessor.from_pretrained(own / "persons")
    with torch.no_grad():
        outputs = model(**processor(images=[pixels], return_tensors="pt"))
    scores = outputs.logits.softmax(-1)[0, :, 1]
    x, y, width, height = (outputs.pred_boxes[0] * torch.tensor([384, 300, 384, 300])).T
    wanted = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)
    wanted = wanted[scores.argsort(descending=True)][:int((scores > 0.5).sum())]
    assert len(found) and np.allclose(found, wanted.numpy(), atol=1e-2)


def test_texts_are_as_near_as_the_encoder_says(host, own) -> None:
    from transformers import AutoTokenizer, CLIPModel

    model, tokenizer = CLIPModel.from_pretrained(own / "texts"), AutoTokenizer.from_pretrained(own / "texts")
    words = ["a man in a hat", "the sea"]
    with torch.no_grad():
        wanted = model(**tokenizer(words, return_tensors="pt", padding=True), pixel_values=torch.zeros(1, 3, 32, 32)
                       ).text_embeds.numpy()
    found = np.array([readings_own.text_encoder(own / "texts")(text) for text in words])
    assert np.allclose(found / np.linalg.norm(found, axis=1, keepdims=True), wanted, atol=1e-5)
    long = readings_own.text_encoder(own / "texts")("a man in a hat " * 40)
    assert np.isfinite(long).all()


def test_a_folder_of_another_kind_is_refused_in_a_sentence(host, own, tmp_path) -> None:
    with pytest.raises(CamouflageError, match="must know CelebA's 40 .* but 1 are not there: Young"):
        readings_own.attributes(own_networks.attribute_network(tmp_path / "39", ATTRIBUTES[:-1]))
    with pytest.raises(CamouflageError, match="must have a label 'person' .* but it has cat, dog"):
        readings_own.persons(own_networks.person_detector(tmp_path / "pets", ("cat", "dog")))
    with pytest.raises(CamouflageError, match="must be a CLIP model, but its config.json says 'vit'"):
        reader(["captions"], text_encoder=own / "attributes")
    with pytest.raises(CamouflageError, match="must have config.json and weights"):
        reader([], person_detector=tmp_path)
    lacking = shutil.copytree(own / "attributes", tmp_path / "lacking")
    from safetensors.torch import load_file, save_file

    state = load_file(lacking / "model.safetensors")
    save_file({key: value for key, value in state.items() if key != "classifier.weight"},
              lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(CamouflageError, match="1 weights are not in the file, classifier.weight"):
        readings_own.attributes(lacking)(photo("hopper"), [HEAD])


# --- asking for them ----------------------------------------------------------------------------------------------


def test_nothing_is_read_unasked(host) -> None:
    assert reader([]) is None


def test_what_cannot_be_read_is_refused(host, own, tmp_path, monkeypatch) -> None:
    with pytest.raises(CamouflageError, match="no reading 'poses'. Choose from attributes, captions, maps"):
        reader(["poses"])
    with pytest.raises(CamouflageError, match="A text encoder compares captions"):
        reader(["maps"], text_encoder=own / "texts")
    only_folder(tmp_path, monkeypatch)
    for names, role in ((["attributes"], "face detector"), (["captions"], "caption"), (["maps"], "segmentation")):
        with pytest.raises(CamouflageError, match=f"Weights for '{role}' are missing. 'python run.py weights get'"):
            reader(names)


# --- pairs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A photo, and another person's in its place: cut to a square, as Prepare Image cuts."""
    wide = np.concatenate([np.zeros((384, 96, 3), np.uint8), photo("hopper"), np.zeros((384, 96, 3), np.uint8)], 1)
    paths = tmp_path / "original.png", tmp_path / "anonymized.png"
    Image.fromarray(wide).save(paths[0])
    Image.fromarray(photo("obama")).save(paths[1])
    return paths


def opened(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_the_scene_is_read_in_the_anonymized_pictures_frame(host, own, pair, tmp_path) -> None:
    """The middle of the original is what was cut out, so its own middle is read the same."""
    wide = opened(pair[0])
    Image.fromarray(wide[:, 96:480]).save(pair[1])
    with SeenCache(tmp_path, "") as cache:
        found = everything(own).pair(pair, (seen(wide), seen(wide[:, 96:480])), opened, cache)
    for name in ("captions", "caption_embeddings", "persons"):
        assert np.array_equal(*found[name]), name
    assert found["segmentation"][0].tolist() == [1, 1] and found["depth"][0].tolist() == pytest.approx([1, 0])


def test_what_was_read_is_not_read_again(host, own, pair, tmp_path, monkeypatch) -> None:
    """Neither is a network loaded; with another network it is read anew."""
    from camouflage.comfy import memo, networks

    looked = seen(opened(pair[0]), face(226, 60, 346, 220)), seen(opened(pair[1]), HEAD)
    with SeenCache(tmp_path, "") as cache:
        first = everything(own).pair(pair, looked, opened, cache)
        networks.clear()
        memo.clear()
        again = everything(own)
        with monkeypatch.context() as patch:
            patch.setattr(networks._cache, "get", lambda *_: pytest.fail("a network was loaded"))
            second = again.pair(pair, looked, lambda path: pytest.fail("a picture was opened"), cache)
            assert first.keys() == second.keys() and len(first) == 7
            for name, values in first.items():
                assert all(np.array_equal(*both) for both in zip(values, second[name], strict=True)), name
            own_networks.attribute_network(tmp_path / "other", seed=1)
            other = reader([], attribute_network=tmp_path / "other")
            assert other is not None
            with pytest.raises(pytest.fail.Exception, match="a network was loaded"):
                other.pair(pair, looked, opened, cache)
        held = b"".join(file.read_bytes() for file in cache.folder.iterdir())
        assert cache.folder.stat().st_mode & 0o077 == 0 and held
    assert not cache.folder.exists()


class Everybody:
    """Two pictures: somebody who is compared, somebody who was lost, and a picture that was not read."""

    subjects = (Subject(0, 0, 0, JUDGED, 0), Subject(0, 1, 1, LOST), Subject(1, 2, 0, JUDGED, 0))


def test_pairs_together(host, own) -> None:
    """By hand: one face is compared, the lost one is left out, and the picture that nobody read does not count."""
    was = np.full((2, len(ATTRIBUTES)), 0.9)
    boxes = np.array([[0.0, 0, 100, 100], [200, 0, 300, 100]])
    words = np.array("a man in the sea with a hat"), np.array("a man in the sea with a hat")
    read = {"attributes": (was, was[:1]), "attributes_second": (was, was[:1]), "captions": words,
            "caption_embeddings": (np.array([1.0, 0]), np.array([1.0, 1])),
            "segmentation": (np.array([0.75, 0.5]), np.zeros(0)), "depth": (np.array([0.5, np.nan]), np.zeros(0)),
            "persons": (boxes, boxes[:1])}
    found = read_utility(everything(own), Everybody(), [read, None])
    smiling = found["attributes"]["by_attribute"]["Smiling"]
    assert (smiling["cases"], smiling["left_out"], smiling["on"], smiling["kept_on"]) == (1, 1, 1, 1)
    assert found["captions"]["bleu"]["value"] == pytest.approx(100) and found["captions"]["chrf"]["cases"] == 1
    assert found["captions"]["similarity"]["value"] == pytest.approx(0.5 ** 0.5)
    assert found["segmentation"]["mean_iou"]["value"] == 0.5 and found["depth"]["error"]["value"] is None
    assert found["persons"]["recall"]["value"] == 0.5 and found["persons"]["precision"]["value"] == 1
    assert found["attributes_second"]["network"]["name"] == "attributes"
    assert len(found["attributes"]["network"]["sha256"]) == 2
