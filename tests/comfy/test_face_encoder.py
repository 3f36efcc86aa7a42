"""FaRL as the host's image encoder, against transformers' CLIPVisionModel and CLIPImageProcessor."""

from __future__ import annotations

import io
import os
import pickle

import comfy.clip_vision
import numpy as np
import pytest
import torch
from PIL import Image

from camouflage.errors import CamouflageError
from camouflage.weights import FARL
from in_host import difference, only_folder, pictures
from sampled import everything

NAME = f"{FARL}.pth"
LAYERS = 12 if everything else 3  # the published depth; it is read from the file


@pytest.fixture(scope="module")
def theirs():
    """ViT-B/16 at full width with random weights, as transformers has it, single precision."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=16, num_hidden_layers=LAYERS))
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:  # norms and biases that do something
                torch.nn.init.normal_(parameter, float(name.endswith("norm.weight")), 0.1)
    return net.eval().requires_grad_(False)


def published(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The same weights under the names of OpenAI's CLIP, with a text encoder's tensors beside them."""
    state, names = net.state_dict(), {
        "embeddings.class_embedding": "class_embedding", "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding"}
    for part in ("weight", "bias"):
        names |= {f"pre_layrnorm.{part}": f"ln_pre.{part}", f"post_layernorm.{part}": f"ln_post.{part}"}
        for n in range(LAYERS):
            for a, b in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("mlp.fc1", "mlp.c_fc"),
                         ("mlp.fc2", "mlp.c_proj"), ("layer_norm2", "ln_2")):
                names[f"encoder.layers.{n}.{a}.{part}"] = f"transformer.resblocks.{n}.{b}.{part}"
    found = {f"visual.{new}": state[f"vision_model.{old}"] for old, new in names.items()}
    for n in range(LAYERS):
        for part in ("weight", "bias"):
            found[f"visual.transformer.resblocks.{n}.attn.in_proj_{part}"] = torch.cat(
                [state[f"vision_model.encoder.layers.{n}.self_attn.{p}_proj.{part}"] for p in "qkv"])
    found["visual.proj"] = state["visual_projection.weight"].T.contiguous()
    return found | {"transformer.resblocks.0.attn.in_proj_weight": torch.zeros(3, 3), "logit_scale": torch.ones(())}


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    """models/camouflage with the published file, and two folders of transformers."""
    from transformers import CLIPVisionModel

    root = tmp_path_factory.mktemp("camouflage")
    (root / "faces").mkdir()
    torch.save({"state_dict": published(theirs)}, root / "faces" / NAME)
    theirs.save_pretrained(root / "faces" / "with-projection")
    bare = CLIPVisionModel.from_pretrained(str(root / "faces" / "with-projection"), local_files_only=True)
    bare.save_pretrained(root / "faces" / "bare")
    return root


@pytest.fixture
def load(host, folder, monkeypatch):
    only_folder(folder, monkeypatch)
    return lambda name: host.run("CamouflageFaceEncoder", encoder=name)[0]


def photo(height: int, width: int) -> np.ndarray:
    """Part of a photo, uint8, with fine detail."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[30:30 + height, 150:150 + width])


def as_image(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).float()[None] / 255


@pytest.mark.parametrize("name", [NAME, "with-projection", "bare"])
def test_states_equal_those_of_transformers(host, load, theirs, name):
    encoder = load(name)
    image = torch.cat([pictures(1, 1, 224, 224), pictures(2, 1, 224, 224)])
    output, = host.run("CLIPVisionEncode", clip_vision=encoder, image=image, crop="center")
    levels = (image * 255).round() / 255
    mean, std = (torch.tensor(getattr(encoder, f"image_{which}")) for which in ("mean", "std"))
    wanted = theirs(((levels - mean) / std).movedim(-1, 1), output_hidden_states=True)
    states = output.penultimate_hidden_states
    assert states.shape == (2, 197, 768)
    found = difference(states, wanted.hidden_states[-2])
    print(f"{name}: {found:.1e} of {float(states.abs().max()):.1f}")
    assert found < 1e-6 * max(1.0, float(states.abs().max()))
    assert difference(states, wanted.hidden_states[-3]) > 1e-2, "another layer would be noticed"
    if name != "bare":
        assert difference(output.image_embeds, wanted.image_embeds) < 1e-5
    assert encoder.model.visual_projection is None or torch.isfinite(output.image_embeds).all()


@pytest.mark.parametrize(("height", "width"), [(224, 224), (300, 300), (301, 437), (431, 257), (97, 130)])
@pytest.mark.parametrize("crop", [True, False])
def test_preprocessing_is_that_of_clip_image_processor(host, monkeypatch, height, width, crop):
    """Against the processor in its own words: a PIL picture in, normalised numbers out; within one grey level."""
    from transformers import CLIPImageProcessor

    encoders = host.module("camouflage.comfy.face_encoder")
    pixels = photo(height, width)
    size = {"shortest_edge": 224} if crop else {"height": 224, "width": 224}
    processor = CLIPImageProcessor(size=size, do_center_crop=crop)
    wanted = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"].movedim(1, -1)
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    wanted = wanted * std + mean
    found = encoders.resized(as_image(pixels), 224, crop)
    assert found.shape == (1, 224, 224, 3)
    assert difference(found, wanted) <= 1.01 / 255
    seen = []  # what the host's own preprocessing, which then only normalises, is given
    monkeypatch.setattr(comfy.clip_vision.ClipVisionModel, "encode_image", lambda _, image, crop: seen.append(image))
    encoder = object.__new__(encoders.FaceEncoder)
    encoder.image_size = 224
    encoder.encode_image(as_image(pixels), crop)
    assert difference(seen[0], found) == 0.0


def test_states_of_a_zero_tensor(host, load, theirs):
    encoders = host.module("camouflage.comfy.face_encoder")
    wanted = theirs(torch.zeros(1, 3, 224, 224), output_hidden_states=True).hidden_states[-2]
    assert difference(encoders.zero_states(load(NAME)), wanted) < 1e-5
    with pytest.raises(CamouflageError, match="'clip_vision' is no image encoder"):
        encoders.zero_states(object())


def test_the_host_manages_its_memory(load):
    encoder = load(NAME)
    assert encoder.patcher.model is encoder.model
    assert encoder.patcher.model_size() >= sum(p.numel() * p.element_size() for p in encoder.model.parameters())
    assert next(encoder.model.parameters()).dtype == torch.float32, "the file's precision"


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def spoiled(kind: str, folder, theirs) -> None:
    path = folder / "faces" / NAME
    state = published(theirs)
    if kind == "hostile":
        path.write_bytes(pickle.dumps({"state_dict": Hostile()}))
        return
    if kind == "hostile zip":
        torch.save({"state_dict": {"visual.conv1.weight": Hostile()}}, path)
        return
    if kind == "incomplete":
        del state["visual.transformer.resblocks.1.ln_1.bias"]
    if kind == "another shape":
        state["visual.ln_post.weight"] = torch.zeros(5)
    if kind == "text alone":
        state = {key: value for key, value in state.items() if not key.startswith("visual.")}
    buffer = io.BytesIO()
    torch.save({"state_dict": state}, buffer)
    path.write_bytes(buffer.getvalue()[:-2000] if kind == "truncated" else buffer.getvalue())


@pytest.mark.parametrize(("kind", "words"), [
    ("hostile", "contains code"), ("hostile zip", "contains code"), ("truncated", "could not be loaded"),
    ("incomplete", "layers.1.layer_norm1.bias is missing"), ("another shape", r"post_layernorm.weight is \[5\]"),
    ("text alone", "no image encoder in the layout of OpenAI's CLIP"),
])
def test_bad_files_are_refused(host, theirs, tmp_path, monkeypatch, kind, words):
    (tmp_path / "faces").mkdir()
    only_folder(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    spoiled(kind, tmp_path, theirs)
    with pytest.raises(CamouflageError, match=words):
        host.run("CamouflageFaceEncoder", encoder=NAME)
    assert not (tmp_path / "pwned").exists()


def test_what_is_missing_is_named(host, tmp_path, monkeypatch):
    only_folder(tmp_path, monkeypatch)
    with pytest.raises(CamouflageError, match=r"(?s)Load Face Encoder: .*FaRL/releases/download.*FaRL's code: MIT"):
        host.run("CamouflageFaceEncoder", encoder=NAME)
    with pytest.raises(CamouflageError, match="'encoder' is 'other', but"):
        host.run("CamouflageFaceEncoder", encoder="other")
    blip = tmp_path / "faces" / "blip"
    blip.mkdir(parents=True)
    (blip / "config.json").write_text('{"model_type": "blip"}')
    (blip / "model.safetensors").write_bytes(b"")
    with pytest.raises(CamouflageError, match="of the type 'blip'"):
        host.run("CamouflageFaceEncoder", encoder="blip")
