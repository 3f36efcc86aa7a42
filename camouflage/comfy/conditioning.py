"""CONDITIONING helpers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import folder_paths
import torch
from comfy.sd import CLIP

from ..errors import CamouflageError
from ..weights import of_role
from .messages import warn
from .weights import digest_of, find, missing_text

NEGATIVE = "negative embedding"
_PUBLISHED, = of_role(NEGATIVE)
_PUBLISHED_NAMES = (_PUBLISHED.file, Path(_PUBLISHED.file).stem)
_FOLDER = _PUBLISHED.folder
_SUFFIXES = ("", ".safetensors", ".pt", ".bin")  # that the host tries
_NAME = re.compile(r"[\w+-][\w.+-]*(/[\w+-][\w.+-]*)*")


def encode_batch(clip: CLIP, texts: list[str]) -> list:
    """Encodes one text a picture into one conditioning whose batch is the texts.

    Shorter encodings are repeated to a common length, as the host does when it batches prompts of different length
    (attention over repeated tokens is unchanged).

    Args:
        clip: the text encoder.
        texts: one for every picture of the batch, in order.

    Returns:
        CONDITIONING with one entry, cross-attention B x tokens x width.
    """
    encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]
    if len(encoded) == 1:
        return encoded[0]
    if any(len(conditioning) != 1 for conditioning in encoded):
        raise CamouflageError("'clip' changes over the sampling (hooks with a schedule); encode one caption at a time "
                              "with such a CLIP.")
    tokens = math.lcm(*(conditioning[0][0].shape[1] for conditioning in encoded))
    batch = torch.cat([c[0][0].repeat(1, tokens // c[0][0].shape[1], 1) for c in encoded])
    extras = dict(encoded[0][0][1])
    pooled = [conditioning[0][1].get("pooled_output") for conditioning in encoded]
    if all(p is not None for p in pooled):
        extras["pooled_output"] = torch.cat(pooled)
    return [[batch, extras]]


def encode_negative(clip: CLIP, embedding: str, text: str) -> list:
    """Encodes a textual inversion, or a text where it is not there, as the stock CLIPTextEncode node does.

    The authors' code for Light takes the textual inversion EasyNegative as the negative prompt.

    Args:
        clip: the text encoder.
        embedding: name of a file in ``models/embeddings``, with or without its suffix; empty: ``text`` is encoded.
        text: what is encoded where the host has no such embedding, or cannot use it for this text encoder. That is
            said on the node.

    Returns:
        CONDITIONING of ``embedding:NAME`` or of ``text``.

    Raises:
        CamouflageError: the name is none that the host could find below its folders, or the file has the registry's
            name and is another one.
    """
    name = _name(embedding)
    if name:
        if not _NAME.fullmatch(name):
            raise CamouflageError(f"'embedding' is {embedding[:100]!r}, but must be the name of a file in "
                                  f"models/{_FOLDER} or in a folder below it, such as 'EasyNegative' or "
                                  "'folder/EasyNegative.safetensors'. Letters, digits and . _ + - are taken, no spaces."
                                  " Rename the file, or leave 'embedding' empty to encode 'text'.")
        if name in _PUBLISHED_NAMES and folder_paths.get_full_path(_FOLDER, _PUBLISHED.file):
            find(NEGATIVE)
        tokens = clip.tokenize(f"embedding:{name}")
        if any(torch.is_tensor(token) for chunks in tokens.values() for chunk in chunks for token, *_ in chunk):
            encoded = clip.encode_from_tokens_scheduled(tokens)
            # The host leaves out vectors of another width, and encodes what is left: nothing.
            if not torch.equal(encoded[0][0], encode_batch(clip, [""])[0][0]):
                return encoded
        warn(f"The negative prompt is 'text', not the embedding '{name}'. {_why_not(name)}")
    return encode_batch(clip, [text])


def embedding_digests(embedding: str | None) -> str:
    """SHA-256 of the files that the host may take for a name; empty where there is none, or no name yet."""
    return " ".join(digest_of(path) for path in _files(_name(embedding or "")))


def _name(embedding: str) -> str:
    return embedding.strip().replace("\\", "/")


def _files(name: str) -> list[Path]:
    """Files that the host may take for a name: it looks in all subfolders, too."""
    endings = tuple(f"/{name}{suffix}" for suffix in _SUFFIXES)
    return [Path(folder_paths.get_full_path_or_raise(_FOLDER, file))
            for file in folder_paths.get_filename_list(_FOLDER) if f"/{Path(file).as_posix()}".endswith(endings)]


def _why_not(name: str) -> str:
    if files := _files(name):
        return (f"{files[0]} is there, but ComfyUI cannot use it with this 'clip': it is damaged, or made for another "
                "text encoder.")
    if name in _PUBLISHED_NAMES:
        return missing_text(NEGATIVE, [_PUBLISHED])
    folders = " or ".join(folder_paths.get_folder_paths(_FOLDER))
    return f"There is no such file in {folders}; put it there, or choose another name."
