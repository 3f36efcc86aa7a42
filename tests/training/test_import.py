"""The authors' checkpoint: converted, loaded by the nodes, and compared with its own layers in plain torch."""

from __future__ import annotations

import os
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

from camouflage.errors import CamouflageError
from camouflage.method.attribute_map import PROBABILITIES, AttributeMap
from camouflage.training import imported
from camouflage.weights import FARL
from in_host import difference, pictures
from light_weights import MINIATURE, MINIATURE_LAYERS, SD15_LAYERS, random_map
from sampled import everything
from training_command import train

ADAPTER, PROMPT = "camouflage_light_sd15.safetensors", "camouflage_light_sd15_image_prompt.safetensors"
SMALL = {"channels": MINIATURE, "layers": MINIATURE_LAYERS, "depth": 2}  # fits the miniature UNet
FULL = {"channels": (320, 640, 1280, 1280), "layers": SD15_LAYERS, "depth": 4}


def authors(channels, layers, depth=4, queries=16, kernel=1, seed=0, dtype=torch.float32):
    """A checkpoint in the layout of the authors' code, with random weights; written out here once more."""
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape, gain=1.0):
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 100
        return (torch.randn(shape, generator=rng) * gain * fan**-0.5).to(dtype)

    def norm(key, width):
        return {f"{key}.weight": 1 + drawn(width), f"{key}.bias": drawn(width)}

    dim, hidden, width = 768, 4 * 768, 768
    proj = {"latents": drawn(1, queries, dim, gain=10), "proj_in.weight": drawn(dim, width), "proj_in.bias": drawn(dim),
            "proj_out.weight": drawn(768, dim), "proj_out.bias": drawn(768), **norm("norm_out", 768)}
    for n in range(depth):
        proj |= {**norm(f"layers.{n}.0.norm1", dim), **norm(f"layers.{n}.0.norm2", dim),
                 f"layers.{n}.0.to_q.weight": drawn(dim, dim), f"layers.{n}.0.to_kv.weight": drawn(2 * dim, dim),
                 f"layers.{n}.0.to_out.weight": drawn(dim, dim), **norm(f"layers.{n}.1.0", dim),
                 f"layers.{n}.1.1.weight": drawn(hidden, dim), f"layers.{n}.1.3.weight": drawn(dim, hidden)}
    attention = {f"{2 * n + 1}.{part}_ip.weight": drawn(width, 768) for n, width in enumerate(layers)
                 for part in ("to_k", "to_v")}
    inner = channels[0]
    adapter = {"conv_in.weight": drawn(inner, 41, kernel, kernel), "conv_in.bias": drawn(inner)}
    for level, outer in enumerate(channels):
        if outer != inner:
            key = f"body.{level}.in_conv"
            adapter |= {f"{key}.weight": drawn(outer, inner, 1, 1), f"{key}.bias": drawn(outer)}
        for block in range(2):
            key = f"body.{level}.resnets.{block}"
            adapter |= {f"{key}.block1.weight": drawn(outer, outer, 3, 3), f"{key}.block1.bias": drawn(outer),
                        f"{key}.block2.weight": drawn(outer, outer, 1, 1), f"{key}.block2.bias": drawn(outer)}
        inner = outer
    return {"image_proj": proj, "ip_adapter": attention, "t2i_adapter": adapter}


def features(state, maps):
    """The authors' adapter in plain torch: 1x1, then levels of two residual blocks, the map halved between them."""
    def conv(x, key, padding=0):
        return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=padding)

    x, found, level = conv(maps, "conv_in"), [], 0
    while f"body.{level}.resnets.0.block1.weight" in state:
        if level:
            x = F.avg_pool2d(x, 2)
        if f"body.{level}.in_conv.weight" in state:
            x = conv(x, f"body.{level}.in_conv")
        for block in range(2):
            key = f"body.{level}.resnets.{block}"
            x = x + conv(F.relu(conv(x, f"{key}.block1", 1)), f"{key}.block2")
        found.append(x)
        level += 1
    return found


def tokens(state, states):
    """The Resampler in plain torch, head by head, in the words of its paper: softmax of q k / sqrt(64)."""
    def norm(x, key):
        return F.layer_norm(x, x.shape[-1:], state[f"{key}.weight"], state[f"{key}.bias"])

    states = F.linear(states, state["proj_in.weight"], state["proj_in.bias"])
    x, n = state["latents"].repeat(len(states), 1, 1), 0
    while f"layers.{n}.0.to_q.weight" in state:
        seen, own = norm(states, f"layers.{n}.0.norm1"), norm(x, f"layers.{n}.0.norm2")
        q = own @ state[f"layers.{n}.0.to_q.weight"].T
        k, v = (torch.cat([seen, own], 1) @ state[f"layers.{n}.0.to_kv.weight"].T).chunk(2, -1)
        heads = [torch.softmax(q[..., i:i + 64] @ k[..., i:i + 64].mT / 8, -1) @ v[..., i:i + 64]
                 for i in range(0, q.shape[-1], 64)]
        x = x + torch.cat(heads, -1) @ state[f"layers.{n}.0.to_out.weight"].T
        inner = norm(x, f"layers.{n}.1.0") @ state[f"layers.{n}.1.1.weight"].T
        x = x + F.gelu(inner) @ state[f"layers.{n}.1.3.weight"].T
        n += 1
    return norm(F.linear(x, state["proj_out.weight"], state["proj_out.bias"]), "norm_out")


@pytest.mark.parametrize(("sizes", "queries"), [
    (SMALL, 16), (SMALL, 32), *([(FULL, 16)] if everything else [])])
def test_it_loads_and_says_what_it_said_before(host, tmp_path, capsys, sizes, queries):
    checkpoint = authors(**sizes, queries=queries)
    torch.save(checkpoint, tmp_path / "theirs.bin")
    assert train("import", tmp_path / "theirs.bin", "--output", tmp_path / "out", "--licence", "theirs") == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [ADAPTER, PROMPT]
    assert str(tmp_path / "out" / ADAPTER) in printed and "Load Light Adapter" in printed
    adapter = host.module("camouflage.comfy.light_adapter").load(tmp_path / "out" / ADAPTER, None)
    maps = (random_map(1, 2, 32, 32) + 1) / 2
    for ours, theirs in zip(adapter.features(maps), features(checkpoint["t2i_adapter"], maps), strict=True):
        assert difference(ours, theirs) == 0.0
    prompt = host.module("camouflage.comfy.image_prompt").load(tmp_path / "out" / PROMPT)
    assert prompt.layout.tokens == queries and prompt.encoder == FARL and adapter.encoding == PROBABILITIES
    states = torch.randn(2, 197, 768, generator=torch.Generator().manual_seed(5))
    wanted = tokens(checkpoint["image_proj"], states)
    assert difference(prompt.net.tokens(states), wanted) < 1e-6 * max(1.0, float(wanted.abs().max()))
    for place, number in enumerate(prompt.layout.numbers):
        for part in ("to_k", "to_v"):
            weight = getattr(prompt.net, part)[place].weight
            assert torch.equal(weight, checkpoint["ip_adapter"][f"{number}.{part}_ip.weight"])
    for name in (ADAPTER, PROMPT):
        with safe_open(tmp_path / "out" / name, framework="pt") as opened:
            said = opened.metadata()
        assert {key: said[key] for key in ("encoding", "encoding_version", "image_encoder", "licence")} == {
            "encoding": "camouflage-probabilities", "encoding_version": "1", "image_encoder": FARL, "licence": "theirs"}
        assert re.fullmatch("[0-9a-f]{64}", said["source_sha256"])


def test_what_it_makes_runs_with_the_nodes(host, tmp_path, monkeypatch, miniature_models):
    """Face, map, adapter and image prompt through the nodes, on the host's own sampler."""
    import folder_paths

    torch.save(authors(**SMALL), tmp_path / "theirs.bin")
    assert train("import", tmp_path / "theirs.bin", "--output", tmp_path / "models" / "camouflage" / "light") == 0
    assert train("import", tmp_path / "theirs.bin", "--output", tmp_path / "models" / "ipadapter") == 0
    for key in ("camouflage", "ipadapter"):
        paths, ends = folder_paths.folder_names_and_paths[key]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(tmp_path / "models" / key), *paths], ends))
    folder_paths.filename_list_cache.clear()
    adapter, = host.run("CamouflageLightAdapterLoader", adapter=ADAPTER, encoding="refuse")
    prompt, = host.run("CamouflageImagePromptLoader", adapter=PROMPT)
    assert prompt.layout.resampler.depth == SMALL["depth"], "not the miniature one"
    encoder, = host.run("CamouflageFaceEncoder", encoder=f"{FARL}.pth")
    seen, = host.run("CLIPVisionEncode", clip_vision=encoder, image=pictures(1), crop="none")
    model, clip, _ = host.run("CheckpointLoaderSimple", ckpt_name="Realistic_Vision_V5.1_fp16-no-ema.safetensors")
    text, = host.run("CLIPTextEncode", clip=clip, text="")
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    plain = host.run("KSampler", model=model, seed=1, steps=2, cfg=3.0, sampler_name="dpmpp_2m_sde", scheduler="karras",
                     positive=text, negative=text, latent_image=latent, denoise=1.0)[0]["samples"]
    shown, = host.run("CamouflageApplyImagePrompt", model=model, image_prompt=prompt, clip_vision_output=seen,
                      clip_vision=encoder)
    maps = AttributeMap((random_map(1, 1, 8, 8) + 1) / 2, adapter.encoding)
    both = [host.run("CamouflageApplyLightAdapter", conditioning=text, light_adapter=adapter, map=maps)[0]
            for _ in range(2)]
    steered = host.run("KSampler", model=shown, seed=1, steps=2, cfg=3.0, sampler_name="dpmpp_2m_sde",
                       scheduler="karras", positive=both[0], negative=both[1], latent_image=latent,
                       denoise=1.0)[0]["samples"]
    assert difference(steered, plain) > 1e-2
    folder_paths.filename_list_cache.clear()


def test_half_precision_stays_half_and_a_3x3_stays_as_it_is(tmp_path):
    checkpoint = authors((8, 16), (16,), 1, kernel=3, dtype=torch.float16)
    torch.save(checkpoint, tmp_path / "theirs.bin")
    assert train("import", tmp_path / "theirs.bin", "--output", tmp_path) == 0
    state = load_file(tmp_path / ADAPTER)
    assert state.keys() == {f"adapter.{key}" for key in checkpoint["t2i_adapter"]}
    for key, value in checkpoint["t2i_adapter"].items():
        assert torch.equal(state[f"adapter.{key}"], value) and value.dtype == torch.float16


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def spoiled(kind):
    state = authors((8, 16), (16,), 1)
    if kind == "a list":
        return [state]
    if kind == "a part is missing":
        del state["ip_adapter"]
    elif kind == "a part is empty":
        state["image_proj"] = {}
    elif kind == "no tensors":
        state["image_proj"]["latents"] = "text"
    elif kind == "whole numbers":
        state["t2i_adapter"]["conv_in.bias"] = torch.zeros(8, dtype=torch.int64)
    elif kind == "shape of the adapter":
        state["t2i_adapter"]["body.1.resnets.0.block2.weight"] = torch.zeros(3, 3, 1, 1)
    elif kind == "40 channels":
        state["t2i_adapter"]["conv_in.weight"] = torch.zeros(8, 40, 1, 1)
    elif kind == "shape of the prompt":
        state["image_proj"]["layers.0.0.to_kv.weight"] = torch.zeros(5, 768)
    elif kind == "keys without values":
        del state["ip_adapter"]["1.to_v_ip.weight"]
    elif kind == "CLIP-H":
        state["image_proj"]["proj_in.weight"] = torch.zeros(768, 1280)
    elif kind == "not finite":
        state["image_proj"]["latents"][0, 0, 0] = torch.inf
    return state


@pytest.mark.parametrize(("kind", "words"), [
    ("a list", "holds a list"), ("a part is missing", "has no 'ip_adapter'; it holds image_proj, t2i_adapter"),
    ("a part is empty", "has no 'image_proj'"), ("no tensors", "'image_proj' holds 'latents', which is no tensor"),
    ("whole numbers", "'t2i_adapter' holds 'conv_in.bias'"), ("40 channels", "40 input channels"),
    ("shape of the adapter", r"block2.weight is \[3, 3, 1, 1\], but must be \[16, 16, 1, 1\]"),
    ("shape of the prompt", r"to_kv.weight is \[5, 768\], but must be \[1536, 768\]"),
    ("keys without values", "1.to_v_ip.weight is absent"), ("CLIP-H", "width 1280, but the authors' reads FaRL"),
    ("not finite", "latents is not finite"),
])
def test_what_is_not_the_authors_is_refused(tmp_path, capsys, kind, words):
    torch.save(spoiled(kind), tmp_path / "theirs.bin")
    assert train("import", tmp_path / "theirs.bin", "--output", tmp_path / "out") == 2
    assert re.search(words, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_hostile_and_damaged_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, path = tmp_path / "whole.bin", tmp_path / "bad.bin"
    torch.save(authors((8, 16), (16,), 1), whole)
    torch.save({"image_proj": Hostile(), "ip_adapter": {}, "t2i_adapter": {}}, tmp_path / "code.bin")
    for content in (whole.read_bytes()[:-500], b"", b"version https://git-lfs", pickle.dumps({"image_proj": Hostile()}),
                    (tmp_path / "code.bin").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(CamouflageError, match="cannot be read .* contains code, which is never executed"):
            imported.read(path)
    assert not (tmp_path / "pwned").exists()


def test_nothing_is_overwritten(tmp_path, capsys):
    torch.save(authors((8, 16), (16,), 1), tmp_path / "theirs.bin")
    (tmp_path / PROMPT).write_text("mine")
    assert train("import", tmp_path / "theirs.bin", "--output", tmp_path) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / PROMPT).read_text() == "mine" and not (tmp_path / ADAPTER).exists()
    assert train("import", tmp_path / "none.bin", "--output", tmp_path) == 2
    assert "does not exist" in capsys.readouterr().err
