"""Miniature transformers models in local folders, seeded and untrained: attributes, persons, texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from camouflage.method.faces import ATTRIBUTES

WORDS = ("a", "man", "woman", "in", "the", "sea", "with", "hat")
PERSON = "person"


def attribute_network(folder: Path, names: Sequence[str] = ATTRIBUTES, seed: int = 0) -> Path:
    """A ViT whose answer to an attribute depends on its name and not on its place; see :func:`_classifier`."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ViTForImageClassification(ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32,
            patch_size=8, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
            problem_type="multi_label_classification"))
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn(parameter.shape) * (0.5 if "classifier" not in name else 1.0))
            net.classifier.weight.copy_(_classifier(names, net.classifier.weight.shape[1]))
    net.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def _classifier(names: Sequence[str], width: int) -> torch.Tensor:
    """Rows that are drawn for ``ATTRIBUTES`` in their order, in the order of these names."""
    rows = torch.randn(len(ATTRIBUTES), width, generator=torch.Generator().manual_seed(1))
    plain = [name.replace("_", "").lower() for name in ATTRIBUTES]
    return torch.stack([rows[plain.index(name.replace("_", "").replace(" ", "").lower())] for name in names])


def person_detector(folder: Path, names: Sequence[str] = ("cat", PERSON), seed: int = 0) -> Path:
    """A YOLOS that takes whatever it sees for the last of these, in places that depend on the picture."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = YolosForObjectDetection(YolosConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=[64, 64],
            patch_size=16, num_detection_tokens=4, use_mid_position_embeddings=False,
            id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}))
        with torch.no_grad():
            for parameter in net.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn(parameter.shape) * 0.5)
            last = net.class_labels_classifier.layers[-1]
            last.weight.mul_(0.1)
            last.bias.copy_(torch.tensor([0.0] * (len(names) - 1) + [4.0, 0.0]))
    net.save_pretrained(folder)
    YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


def text_encoder(folder: Path, seed: int = 0) -> Path:
    """A CLIP with a vocabulary of letters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CLIPModel(CLIPConfig(
            text_config={**size, "vocab_size": len(tokens), "max_position_embeddings": 40,
                         "bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1},
            vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=16))
        with torch.no_grad():
            for parameter in net.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn(parameter.shape) * 0.5)
    net.save_pretrained(folder)
    CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    return folder
