"""Counts the floating-point operations of a whole Base and a whole Light picture, before and after the new sampler.

    python -m benchmarks.flops [--size 768]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set; it needs no GPU and no weights. The networks have
their real shapes and lie on torch's device "meta", which has no numbers: torch's own counter adds up the operations of
one pass of each. How often each runs is counted too: the host's own sampler runs with a model that only notes the noise
level of every call. Before: dpmpp_sde, 25 steps. After: dpmpp_2m_sde, 30 steps. Both with karras.
"""

# pyright: reportCallIssue=false
# (the configurations of transformers take keyword arguments that a type checker does not see)

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.base import SCENE
from benchmarks.host import SHAPES, Host, random_state, random_text, unet_config
from benchmarks.light import CONTEXT, EMBEDDING, SD15_WIDTHS, image_prompt_shapes
from camouflage.method.attribute_map import CHANNELS

SAMPLERS = {"before": ("dpmpp_sde", 25), "after": ("dpmpp_2m_sde", 30)}
LINEART_END = 0.5  # of the noise schedule (paper)
CAPTION_TOKENS, CAPTION_BEAMS = 40, 3  # of the shipped workflows; a caption may end sooner
ANNOTATOR, DEPTH = 512, 518  # px that the annotators see in the shipped workflows; Depth Anything: a multiple of 14
BODY, HAND = 184, (184, 368, 552, 736)  # px at which OpenPose looks at a square picture, and at each hand
VISION = {"model_type": "clip_vision_model", "num_channels": 3, "image_size": 224}
CLIP_H = VISION | {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
                   "patch_size": 14, "hidden_act": "gelu", "projection_dim": 1024}
FARL = VISION | {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                 "patch_size": 16, "hidden_act": "quick_gelu", "projection_dim": 512}
CLIP_L_TEXT = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072,
               "hidden_act": "quick_gelu", "max_position_embeddings": 77, "eos_token_id": 49407}
NOTES = f"""
TFLOP: 10^12 multiplications and additions, each counted as one operation. A pass is one picture with one prompt.
VAE encode falls away with the tile ControlNet (Base) or an empty latent (Light), as in the shipped workflows.
Caption: {CAPTION_TOKENS} tokens, {CAPTION_BEAMS} beams, the most of the workflows. Pose: one person, both hands.
Not counted: verification; normalisation, activation, resizing and the like; the sampler's own arithmetic; the linear
projection of CLIP-H's embedding."""


@dataclass(frozen=True)
class Part:
    """A network: TFLOP of one pass, and passes a picture, before and after."""

    name: str
    tflop: float
    passes: tuple[int, int]

    @property
    def sums(self) -> tuple[float, float]:
        """TFLOP a picture, before and after."""
        return self.tflop * self.passes[0], self.tflop * self.passes[1]


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Has a shape and no numbers."""
    return torch.zeros(shape, dtype=dtype, device="meta")


def half(*shape: int) -> torch.Tensor:
    """The same in half precision."""
    return zeros(*shape, dtype=torch.float16)


def tflop(run: Callable[[], Any]) -> float:
    """Of everything that ``run`` computes."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e12


def start_host() -> Host:
    """The host with PyTorch's attention: the CPU's own asks how much memory a device has, and "meta" has none."""
    sys.path.insert(0, os.environ["CAMOUFLAGE_COMFYUI"])
    import comfy.cli_args

    comfy.cli_args.args.use_pytorch_cross_attention = comfy.cli_args.args.disable_xformers = True
    return Host()


def sd15(channels: int, device: str) -> Any:
    """A MODEL of SD 1.5; full size has 320 channels."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    shape = {**unet_config(SHAPES["full"]), "model_channels": channels, "out_channels": 4, "use_checkpoint": False,
             "transformer_depth_output": SHAPES["full"]["transformer_depth_output"], "legacy": False,
             "use_linear_in_transformer": False, "use_temporal_attention": False, "adm_in_channels": None}
    del shape["device"]
    config = comfy.supported_models.SD15(shape)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(comfy.model_base.BaseModel(config, device=torch.device(device)), cpu, cpu)


def sigmas_of(host: Host, sampler_name: str, steps: int) -> tuple[list[float], Callable[[float], float]]:
    """The noise level of each model call of the host's sampler, with karras, and the host's map from a part of the
    schedule to a noise level."""
    model, sigmas_seen = sd15(32, "cpu"), []

    def note(apply_model: Callable, args: dict[str, Any]) -> torch.Tensor:
        sigmas_seen.append(float(args["timestep"][0]))
        return torch.zeros_like(args["input"])

    model.set_model_unet_function_wrapper(note)
    sigmas, = host.run("BasicScheduler", model=model, scheduler="karras", steps=steps, denoise=1.0)
    host.run("SamplerCustomAdvanced", noise=host.run("RandomNoise", noise_seed=1)[0],
             guider=host.run("BasicGuider", model=model, conditioning=random_text())[0],
             sampler=host.run("KSamplerSelect", sampler_name=sampler_name)[0], sigmas=sigmas,
             latent_image={"samples": torch.zeros(1, 4, 8, 8)})
    return sigmas_seen, model.get_model_object("model_sampling").percent_to_sigma


def calls(host: Host, sampler_name: str, steps: int) -> list[bool]:
    """One entry for each model call of the host's sampler: whether the lineart ControlNet still acts in it."""
    sigmas, to_sigma = sigmas_of(host, sampler_name, steps)
    return [sigma >= to_sigma(LINEART_END) for sigma in sigmas]


def unet(model: Any, cells: int) -> float:
    """One sample; with a MODEL's image prompt, as positive and negative have it."""
    options = {**model.model_options["transformer_options"], "cond_or_uncond": [0, 1], "sigmas": torch.ones(1)}
    network = model.get_model_object("diffusion_model")
    return tflop(lambda: network(half(2, 4, cells, cells), half(2), half(2, 77, CONTEXT),
                                 transformer_options=options)) / 2


def prompted(host: Host, model: Any, tokens: int, folder: str) -> Any:
    """The MODEL with an image prompt of so many tokens, by way of a file of the published layout in ``folder``."""
    import comfy.clip_vision

    save_file(random_state(image_prompt_shapes(SD15_WIDTHS, tokens)), Path(folder, f"{tokens}.safetensors"))
    adapter, = host.run("CamouflageImagePromptLoader", adapter=f"{tokens}.safetensors")
    picture = comfy.clip_vision.Output()
    picture.image_embeds = torch.randn(1, EMBEDDING)
    return host.run("CamouflageApplyImagePrompt", model=model, image_prompt=adapter, clip_vision_output=picture,
                    weight=1.0, start_percent=0.0, end_percent=1.0)[0]


def control_net(size: int) -> tuple[float, float]:
    """One sample without the blocks that embed the hint, and these blocks for one hint."""
    import comfy.cldm.cldm

    network = comfy.cldm.cldm.ControlNet(**unet_config(SHAPES["full"]), hint_channels=3)
    cells = size // 8
    hint = tflop(lambda: network.input_hint_block(half(1, 3, size, size), None, None))
    whole = tflop(lambda: network(half(1, 4, cells, cells), half(1, 3, size, size), half(1), half(1, 77, CONTEXT)))
    return whole - hint, hint


def light_adapter(cells: int) -> float:
    """The features of a map of 41 channels."""
    from diffusers.models.adapter import T2IAdapter

    with torch.device("meta"):
        network = T2IAdapter(CHANNELS, [320, 640, 1280, 1280], 2, 1)
    return tflop(lambda: network(zeros(1, CHANNELS, cells, cells)))


def vae(size: int) -> tuple[float, float]:
    """Encoding and decoding."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    with torch.device("meta"):
        network = AutoencoderKL(embed_dim=4, ddconfig={
            "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
            "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0})
    return (tflop(lambda: network.encode(zeros(1, 3, size, size))),
            tflop(lambda: network.decode(zeros(1, 4, size // 8, size // 8))))


def text_encoder() -> float:
    """One prompt of 77 tokens."""
    import comfy.clip_model
    import comfy.ops

    with torch.device("meta"):
        network = comfy.clip_model.CLIPTextModel(CLIP_L_TEXT, torch.float32, "meta", comfy.ops.manual_cast)
        return tflop(lambda: network(zeros(1, 77, dtype=torch.long)))


def image_encoder(config: dict[str, Any]) -> float:
    """One picture."""
    import comfy.clip_model
    import comfy.ops

    with torch.device("meta"):
        network = comfy.clip_model.CLIPVisionModelProjection(config, torch.float32, "meta", comfy.ops.manual_cast)
    return tflop(lambda: network(zeros(1, 3, config["image_size"], config["image_size"]), intermediate_output=-2))


def resampler() -> float:
    """The authors' projection of one picture: FaRL's 197 tokens to 16."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    with torch.device("meta"):
        network = IPAdapterPlusImageProjection(768, 768, hidden_dims=768, depth=4, dim_head=64, heads=12,
                                               num_queries=16, ffn_ratio=4)
    return tflop(lambda: network(zeros(1, 197, 768)))


def annotators() -> dict[str, float]:
    """Those of the scene maps, for one picture."""
    from controlnet_aux.lineart import Generator
    from controlnet_aux.normalbae.nets.NNET import NNET
    from controlnet_aux.open_pose.model import bodypose_model, handpose_model
    from transformers import (
        ConvNextConfig,
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        UperNetConfig,
        UperNetForSemanticSegmentation,
    )

    dino = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14,
                        out_indices=[3, 6, 9, 12], reshape_hidden_states=False)
    depth = DepthAnythingConfig(backbone_config=dino, reassemble_hidden_size=384, neck_hidden_sizes=[48, 96, 192, 384],
                                fusion_hidden_size=64, head_hidden_size=32)
    conv_next = ConvNextConfig(depths=[3, 3, 27, 3], hidden_sizes=[96, 192, 384, 768],
                               out_features=["stage1", "stage2", "stage3", "stage4"])
    uper_net = UperNetConfig(backbone_config=conv_next, hidden_size=512, auxiliary_in_channels=384, num_labels=150)
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        body, hand = bodypose_model(), handpose_model()
        normal = NNET(types.SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7))

        def one(network: torch.nn.Module, side: int = ANNOTATOR) -> float:
            return tflop(lambda: network.eval()(zeros(1, 3, side, side)))

        return {
            "depth: Depth Anything V2 small": one(DepthAnythingForDepthEstimation(depth), DEPTH),
            "normal: NormalBae": one(normal),
            "segmentation: UperNet, ConvNeXt small": one(UperNetForSemanticSegmentation(uper_net)),
            "pose: OpenPose": one(body, BODY) + 2 * sum(one(hand, side) for side in HAND),
            "lineart: coarse network": one(Generator(3, 1, 3)),
        }


def caption() -> float:
    """BLIP base: the picture, then its tokens.

    The decoder keeps keys and values from token to token, so that one pass of all tokens costs as much as one by one.
    """
    from transformers import BlipConfig, BlipForConditionalGeneration

    with torch.device("meta"):
        network = BlipForConditionalGeneration(BlipConfig(vision_config={"image_size": 384})).eval()

        def run() -> None:
            seen = network.vision_model(pixel_values=zeros(1, 3, 384, 384)).last_hidden_state
            network.text_decoder(input_ids=zeros(CAPTION_BEAMS, CAPTION_TOKENS, dtype=torch.long),
                                 encoder_hidden_states=seen.expand(CAPTION_BEAMS, -1, -1))

        return tflop(run)


def face_detector(size: int) -> float:
    """FACER's."""
    from facer.face_detection.retinaface import RetinaFace, cfg_mnet

    with torch.device("meta"):
        network = RetinaFace(cfg=cfg_mnet, phase="test").eval()
    return tflop(lambda: network(zeros(1, 3, size, size)))


def table(title: str, sampling: list[Part], once: list[Part]) -> None:
    """Prints a row a part, the sums, and what the second is of the first."""
    width = max(len(part.name) for part in (*sampling, *once))

    def row(name: str, one: str, *numbers: str) -> None:
        print(f"{name:{width}}{one:>10}" + "".join(f"{number:>10}" for number in numbers))

    def total(name: str, parts: list[Part]) -> float:
        before, after = (sum(column) for column in zip(*(part.sums for part in parts), strict=True))
        row(name, "", "", f"{before:.2f}", "", f"{after:.2f}")
        return after / before

    print(f"\n{title}")
    row("", "TFLOP", "before:", "before:", "after:", "after:")
    row("", "a pass", "passes", "TFLOP", "passes", "TFLOP")
    for name, parts in (("  sampling", sampling), ("  once a picture", once)):
        for part in parts:
            (first, second), (before, after) = part.passes, part.sums
            row(part.name, f"{part.tflop:.3f}", str(first), f"{before:.2f}", str(second), f"{after:.2f}")
        total(name, parts)
    print(f"after / before: {total('  whole picture', sampling + once):.3f}")


def main() -> None:
    """Counts, and prints a table for Base and one for each kind of Light."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=768, help="px of the square picture, a multiple of 64 (768)")
    size = parser.parse_args().size
    warnings.simplefilter("ignore")  # libraries about what they will do without some day
    host = start_host()
    import folder_paths

    counted = [calls(host, *sampler) for sampler in SAMPLERS.values()]
    for (when, (name, steps)), acts in zip(SAMPLERS.items(), counted, strict=True):
        print(f"{when}: {name}, karras, {steps} steps, {len(acts)} model calls, the lineart ControlNet in {sum(acts)}")

    def in_calls(name: str, one: float, a_call: int) -> Part:
        return Part(name, one, (a_call * len(counted[0]), a_call * len(counted[1])))

    def once(name: str, one: float, passes: int = 1) -> Part:
        return Part(name, one, (passes, passes))

    model, (control, hint), cells = sd15(320, "meta"), control_net(size), size // 8
    encode, decode = vae(size)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder_paths.add_model_folder_path("ipadapter", folder)
        four, sixteen = (unet(prompted(host, model, tokens, folder), cells) for tokens in (4, 16))
    text, farl, caption_part = text_encoder(), image_encoder(FARL), once("caption: BLIP base", caption())
    decoded = once("VAE decode", decode)
    table(f"CAMOUFLaGE-Base, {size} x {size} px", [
        in_calls("UNet: positive, negative, identity", unet(model, cells), 3),
        in_calls("ControlNets without end, positive and negative", control, 2 * (len(SCENE) - 1)),
        Part("ControlNet of lineart, positive and negative", control, (2 * sum(counted[0]), 2 * sum(counted[1]))),
        in_calls("ControlNet of the identity", control, 1),
        Part("hints, at every call (the host; the pack embeds each once)", hint,
             (len(SCENE) * len(counted[0]) + sum(counted[0]), len(SCENE) * len(counted[1]) + sum(counted[1]))),
    ], [once("CLIP text", text, 3), once("VAE encode, for an identity ControlNet of 4 channels", encode), decoded,
        caption_part, *(once(*one) for one in annotators().items())])
    light = [once("CLIP text", text, 2), once("VAE encode, for a start from the photo", encode), decoded,
             once("Light adapter", light_adapter(cells)),
             once("face detector: RetinaFace", face_detector(size)),
             once("face attributes: FaRL ViT-B/16, one face", farl)]
    table(f"CAMOUFLaGE-Light, {size} x {size} px, ip-adapter of 4 tokens", [
        in_calls("UNet with image prompt: positive, negative", four, 2),
    ], [*light, caption_part, once("image encoder: CLIP-H", image_encoder(CLIP_H))])
    table(f"CAMOUFLaGE-Light, {size} x {size} px, the authors' 16 tokens, no caption", [
        in_calls("UNet with image prompt: positive, negative", sixteen, 2),
    ], [*light, once("image encoder: FaRL ViT-B/16, photo and zeros", farl, 2),
        once("Resampler, photo and zeros", resampler(), 2)])
    print(NOTES)


if __name__ == "__main__":
    main()
