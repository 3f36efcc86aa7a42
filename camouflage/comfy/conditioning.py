"""CONDITIONING helpers."""

from __future__ import annotations

import math

import torch
from comfy.sd import CLIP

from ..errors import CamouflageError


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
