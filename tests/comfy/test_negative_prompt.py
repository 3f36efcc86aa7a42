"""Negative Prompt on the host: the textual inversion or the text, each as the stock node encodes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from in_host import difference
from sampled import sampled

FILE = "EasyNegative.safetensors"
TEXT = "deformed, disfigured, blurry, low quality, watermark, text"


@pytest.fixture
def folder(host, tmp_path, monkeypatch) -> Path:
    """An empty folder, the only one in which the host looks for embeddings."""
    import folder_paths

    _, suffixes = folder_paths.folder_names_and_paths["embeddings"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(tmp_path)], suffixes))
    return tmp_path


@pytest.fixture
def clip(sd, folder):
    """The checkpoint's text encoder as the host's loader makes it, with that folder."""
    clip = sd.clip.clone()
    clip.tokenizer = type(sd.clip.tokenizer)(embedding_directory=[str(folder)])
    return clip


@pytest.fixture
def published(folder, miniature_models) -> Path:
    return Path(shutil.copy(miniature_models / "embeddings" / FILE, folder))


@pytest.fixture
def warned(host, monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(host.module("camouflage.comfy.conditioning"), "warn", texts.append)
    return texts


@pytest.fixture
def negative(host, clip, warned):
    """negative(embedding, ...) -> what the node encodes."""
    return lambda embedding="EasyNegative", text=TEXT, clip=clip: host.run(
        "CamouflageNegativePrompt", clip=clip, embedding=embedding, text=text)[0]


@pytest.fixture
def stock(host, clip):
    return lambda text, clip=clip: host.run("CLIPTextEncode", clip=clip, text=text)[0]


def same(ours: list, theirs: list) -> bool:
    (ours_tokens, ours_more), = ours
    (their_tokens, their_more), = theirs
    assert ours_more.keys() == their_more.keys()
    return (difference(ours_tokens, their_tokens) == 0.0
            and difference(ours_more["pooled_output"], their_more["pooled_output"]) == 0.0)


def inversion(path: Path, width: int = 768, seed: int = 3) -> Path:
    path.parent.mkdir(exist_ok=True)
    values = torch.randn(2, width, generator=torch.Generator().manual_seed(seed)) * 0.05
    if path.suffix == ".safetensors":
        save_file({"emb_params": values}, path)
    else:
        torch.save({"string_to_param": {"*": values}}, path)
    return path


def test_the_miniature_has_the_published_layout(published):
    (name, values), = load_file(published).items()
    assert (name, values.shape, values.dtype) == ("emb_params", (8, 768), torch.float32)


@pytest.mark.parametrize("embedding", ["EasyNegative", f"  {FILE}\n"])
def test_the_embedding_is_encoded_as_the_stock_node_does(negative, stock, published, warned, embedding):
    ours = negative(embedding)
    assert same(ours, stock("embedding:EasyNegative")) and warned == []
    for other in ("", TEXT, "EasyNegative"):
        assert difference(ours[0][0], stock(other)[0][0]) > 0.1


def test_what_is_encoded_by_default(host, clip, stock, published, warned):
    assert same(host.run("CamouflageNegativePrompt", clip=clip)[0], stock("embedding:EasyNegative"))
    published.unlink()
    assert same(host.run("CamouflageNegativePrompt", clip=clip)[0], stock(TEXT)) and len(warned) == 1


@pytest.mark.parametrize("text", sampled(["blurry, (ugly:1.3), text", "two dogs on a lawn " * 30, ""], 1))
def test_without_the_file_the_text_is_encoded_and_the_node_says_so(negative, stock, folder, warned, text):
    assert same(negative(text=text), stock(text))
    said, = warned
    assert said.startswith("The negative prompt is 'text', not the embedding 'EasyNegative'. Weights for")
    for part in ("https://huggingface.co/datasets/gsdf/EasyNegative/resolve/main/EasyNegative.safetensors",
                 str(folder / FILE), "licence: not stated"):
        assert part in said


def test_another_name_that_is_not_there_is_named_with_the_folder(negative, stock, folder, published, warned):
    assert same(negative("bad-hands-5"), stock(TEXT))
    said, = warned
    assert "'bad-hands-5'" in said and f"no such file in {folder}" in said and "huggingface" not in said


def test_an_empty_name_encodes_the_text_and_says_nothing(negative, stock, published, warned):
    assert same(negative(" "), stock(TEXT)) and warned == []


@pytest.mark.parametrize("embedding", sampled(["mine", "sub/mine", "sub/mine.pt", "sub\\mine"], 2))
def test_other_embeddings_are_found_where_the_host_finds_them(negative, stock, folder, warned, embedding):
    inversion(folder / "sub" / "mine.pt")
    ours = negative(embedding)
    assert same(ours, stock("embedding:sub/mine.pt")) and warned == []
    assert difference(ours[0][0], stock("")[0][0]) > 0.1


@pytest.mark.parametrize("file", ["wide.safetensors", "damaged.safetensors", "empty.pt"])
def test_what_the_host_cannot_use_is_not_taken(negative, stock, folder, warned, file):
    if file.startswith("wide"):
        inversion(folder / file, 1024)  # of Stable Diffusion 2
    else:
        (folder / file).write_bytes(b"version https://git-lfs" * file.startswith("damaged"))
    assert same(negative(Path(file).stem), stock(TEXT))
    said, = warned
    assert f"{folder / file} is there, but ComfyUI cannot use it with this 'clip'" in said


def test_a_text_encoder_that_knows_no_embeddings_gets_the_text(negative, stock, sd, published, warned):
    clip = sd.clip.clone()
    clip.tokenizer = type(sd.clip.tokenizer)(embedding_directory=None)
    assert same(negative(clip=clip), stock(TEXT, clip)) and "is there, but" in warned[0]


@pytest.mark.parametrize("embedding", sampled(["EasyNegative", FILE], 1))
def test_another_file_of_the_published_name_is_refused(host, negative, folder, warned, embedding):
    inversion(folder / FILE)
    with pytest.raises(host.module("camouflage.errors").CamouflageError,
                       match=r"^Negative Prompt: .*EasyNegative\.safetensors is not the published file: its SHA-256"):
        negative(embedding)
    assert warned == []


def test_names_that_are_none_are_refused(negative, folder, warned):
    for embedding in ("../x", "..", "a/../../x", "/etc/passwd", "C:\\x", "a//b", "a/", "embedding:a", "a b", "(a:1.2)",
                      "a,", "<a>", "~/a", "a\nb", "x" * 50 + "?"):
        with pytest.raises(ValueError, match="^Negative Prompt: 'embedding' is .*, but must be the name of a file in "
                                             "models/embeddings") as refusal:
            negative(embedding)
        assert repr(embedding) in str(refusal.value) and warned == []


def test_a_file_that_is_put_there_is_used_in_the_next_run(host, negative, stock, folder, miniature_models, warned):
    """The host runs a node again only when its fingerprint changes."""
    fingerprint = host.nodes["CamouflageNegativePrompt"].fingerprint_inputs
    before = fingerprint(clip=None, embedding="EasyNegative", text=TEXT)
    assert before == "" and same(negative(), stock(TEXT))
    shutil.copy(miniature_models / "embeddings" / FILE, folder)
    after = fingerprint(clip=None, embedding="EasyNegative", text=TEXT)
    assert len(after) == 64 and same(negative(), stock("embedding:EasyNegative"))
    inversion(folder / "sub" / FILE)
    assert fingerprint(embedding="EasyNegative").split() != [after]
    for nothing in (None, "", "../x", f"{folder}/{FILE}"):  # None: it comes over a wire
        assert fingerprint(embedding=nothing) == ""
