"""The networks that look at the picture, in miniature: depth, segmentation, caption, normals and line art.

The transformers models are small, because their size stands in their configuration. Normals and line art have their
full size: controlnet_aux builds them with a fixed shape. (OpenPose has a module of its own, ``pose``.)
"""

# pyright: reportCallIssue=false
# (the configurations of transformers take keyword arguments that a type checker does not see)

from __future__ import annotations

import contextlib
import io
import json
import types
from pathlib import Path

import torch
from controlnet_aux.lineart import Generator as LineartNet
from controlnet_aux.normalbae.nets.NNET import NNET
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    ConvNextConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    PreTrainedModel,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)

from .tensors import State, file_of, generator, random_state, random_tensor

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
BICUBIC, BILINEAR = 3, 2
ADE_CLASSES = 150

SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD_LIST = (
    "a an and at bag ball beach behind bench bicycle big bird black blue boat book boy bridge brown bus car cat chair "
    "child city coat cup dog door dress face field flower front garden girl glass grass green hair hand hat helmet "
    "hill holding horse house in jacket lake large light man mountain near of old on orange people person phone photo "
    "photograph picture red river road room sea shirt shop sitting sky smiling snow standing station street suit sun "
    "table tall the three to train tree two umbrella walking wall water wearing white window with woman "
    "wood yellow young"
)
WORDS = tuple(_WORD_LIST.split())
"""What a caption is made of."""


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _save_model(model: PreTrainedModel, path: Path, seed: int, shifts: dict[str, torch.Tensor | float]) -> None:
    """Give a transformers model seeded weights and write them with its ``config.json``.

    Args:
        model: the network; its own initial weights do not matter.
        path: its weights, ``model.safetensors`` or ``pytorch_model.bin``, as published; generator of its folder's name.
        seed: the builder's seed.
        shifts: what is added to the parameter of that name.
    """
    rng = generator(seed, path.parent)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(random_tensor(name, parameter.shape, rng) + shifts.get(name, 0.0))
    if path.suffix == ".safetensors":
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
            model.save_pretrained(path.parent)  # under the published names, where they differ from the module's own
        return
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(path.parent)
    torch.save(model.state_dict(), path)


def depth(models: Path, seed: int) -> None:
    """Write a Depth Anything V2 with a small DINOv2. The last layer's bias keeps its ReLU above zero."""
    backbone = Dinov2Config(
        hidden_size=48, num_hidden_layers=4, num_attention_heads=3, mlp_ratio=2, image_size=518, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=48, neck_hidden_sizes=[16, 24, 32, 48],
        fusion_hidden_size=16, head_hidden_size=16,
    )  # fmt: skip
    path = file_of(models, "depth", "model.safetensors")
    _save_model(DepthAnythingForDepthEstimation(config), path, seed, {"head.conv3.bias": 6.0})
    _write_json(file_of(models, "depth", "preprocessor_config.json"), {
        "do_normalize": True, "do_pad": False, "do_rescale": True, "do_resize": True, "ensure_multiple_of": 14,
        "image_mean": IMAGENET_MEAN, "image_processor_type": "DPTImageProcessor", "image_std": IMAGENET_STD,
        "keep_aspect_ratio": True, "resample": BICUBIC, "rescale_factor": 1 / 255,
        "size": {"height": 518, "width": 518}, "size_divisor": None,
    })  # fmt: skip


def segmentation(models: Path, seed: int) -> None:
    """Write a UperNet over a small ConvNeXt with ADE20K's 150 classes."""
    backbone = ConvNextConfig(
        hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=32, auxiliary_in_channels=32, auxiliary_channels=16,
        num_labels=ADE_CLASSES,
    )  # fmt: skip
    path = file_of(models, "segmentation", "pytorch_model.bin")
    _save_model(UperNetForSemanticSegmentation(config), path, seed, {})
    _write_json(file_of(models, "segmentation", "preprocessor_config.json"), {
        "do_normalize": True, "do_reduce_labels": False, "do_rescale": True, "do_resize": True,
        "image_mean": IMAGENET_MEAN, "image_processor_type": "SegformerImageProcessor", "image_std": IMAGENET_STD,
        "resample": BILINEAR, "rescale_factor": 1 / 255, "size": {"height": 512, "width": 512},
    })  # fmt: skip


def bodies(models: Path, seed: int) -> None:
    """Write an RT-DETR that sees persons alone, somewhere, and a ViTPose that is sure of its keypoints."""
    backbone = RTDetrResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1],
                                  layer_type="basic", out_features=["stage2", "stage3", "stage4"])
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=32, encoder_in_channels=[16, 24, 32], encoder_ffn_dim=32,
        encoder_attention_heads=2, d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32, num_queries=5,
        decoder_attention_heads=2, decoder_layers=1, num_labels=2, id2label={0: "person", 1: "bicycle"},
        label2id={"person": 0, "bicycle": 1},
    )  # fmt: skip
    path = file_of(models, "persons", "model.safetensors")
    _save_model(RTDetrForObjectDetection(config), path, seed, {
        name: torch.tensor([3.0, -9.0]) for name in ("model.enc_score_head.bias", "model.decoder.class_embed.0.bias")})
    _write_json(file_of(models, "persons", "preprocessor_config.json"), {
        "do_normalize": False, "do_pad": False, "do_rescale": True, "do_resize": True, "image_mean": IMAGENET_MEAN,
        "image_processor_type": "RTDetrImageProcessor", "image_std": IMAGENET_STD, "resample": BILINEAR,
        "rescale_factor": 1 / 255, "size": {"height": 640, "width": 640},
    })  # fmt: skip
    backbone = VitPoseBackboneConfig(image_size=[256, 192], patch_size=[16, 16], hidden_size=32, num_hidden_layers=2,
                                     num_attention_heads=2, mlp_ratio=2, out_indices=[2])
    config = VitPoseConfig(backbone_config=backbone, num_labels=17)
    path = file_of(models, "keypoints", "model.safetensors")
    _save_model(VitPoseForPoseEstimation(config), path, seed, {"head.conv.bias": 1.0})
    _write_json(file_of(models, "keypoints", "preprocessor_config.json"), {
        "do_affine_transform": True, "do_normalize": True, "do_rescale": True, "image_mean": IMAGENET_MEAN,
        "image_processor_type": "VitPoseImageProcessor", "image_std": IMAGENET_STD, "normalize_factor": 200.0,
        "rescale_factor": 1 / 255, "size": {"height": 256, "width": 192},
    })  # fmt: skip


def caption(models: Path, seed: int) -> None:
    """Write a BLIP with a vocabulary of a hundred words. Special words are so unlikely that a caption never ends.

    As in the published model, the last two ids ([DEC], [ENC]) are known to the model and not to the tokenizer.
    """
    ids = {word: index for index, word in enumerate((*SPECIAL_WORDS, *WORDS))}
    size, decode = len(ids) + 2, len(ids)
    config = BlipConfig(
        text_config={
            "vocab_size": size, "hidden_size": 64, "encoder_hidden_size": 64, "intermediate_size": 128,
            "projection_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512,
            "bos_token_id": decode, "eos_token_id": ids["[SEP]"], "sep_token_id": ids["[SEP]"],
            "pad_token_id": ids["[PAD]"],
        },
        vision_config={
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 384, "patch_size": 32,
        },
        projection_dim=64,
    )  # fmt: skip
    path = file_of(models, "caption", "pytorch_model.bin")
    model = BlipForConditionalGeneration(config)
    unlikely = torch.full((size,), -100.0)
    unlikely[len(SPECIAL_WORDS) : decode] = 0.0
    _save_model(model, path, seed, {"text_decoder.cls.predictions.bias": unlikely})
    _write_json(file_of(models, "caption", "preprocessor_config.json"), {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": CLIP_MEAN,
        "image_processor_type": "BlipImageProcessor", "image_std": CLIP_STD, "processor_class": "BlipProcessor",
        "resample": BICUBIC, "rescale_factor": 1 / 255, "size": {"height": 384, "width": 384},
    })  # fmt: skip
    _write_tokenizer(models, ids)


def _write_tokenizer(models: Path, ids: dict[str, int]) -> None:
    """Write BERT's tokenizer over these words, in the four files of the published repository."""
    names = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
             "mask_token": "[MASK]"}  # fmt: skip
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(list(names.values()))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(file_of(models, "caption", "tokenizer.json")))
    file_of(models, "caption", "vocab.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    _write_json(file_of(models, "caption", "special_tokens_map.json"), names)
    _write_json(file_of(models, "caption", "tokenizer_config.json"), {
        **names, "do_basic_tokenize": True, "do_lower_case": True, "model_max_length": 512, "never_split": None,
        "processor_class": "BlipProcessor", "strip_accents": None, "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
    })  # fmt: skip


def _random_net(net: torch.nn.Module, rng: torch.Generator, gains: dict[str, float]) -> State:
    """Random half-precision state of a network that was built on the meta device; counters are zero."""
    state = net.state_dict()
    floats = [(key, tuple(value.shape)) for key, value in state.items() if value.is_floating_point()]
    counters = state.keys() - dict(floats).keys()
    return random_state(floats, rng, gains) | {key: torch.zeros((), dtype=torch.int64) for key in sorted(counters)}


def normal(models: Path, seed: int) -> None:
    """Write NormalBae's network in the published wrapping, ``{"model": state}``."""
    path = file_of(models, "normal")
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        net = NNET(types.SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7))
    torch.save({"model": _random_net(net, generator(seed, path), {"": 1.6})}, path)


def lineart(models: Path, seed: int) -> None:
    """Write the fine and the coarse line network, with weights of their own."""
    with torch.device("meta"):
        net = LineartNet(3, 1, 3)
    for name in ("sk_model.pth", "sk_model2.pth"):
        path = file_of(models, "lineart", name)
        torch.save(_random_net(net, generator(seed, path), {"": 1.4}), path)
