"""Times CAMOUFLaGE-Light beside stock graphs, in one process: plain CFG, and CFG with a stock T2I-Adapter.

    python -m benchmarks.light [--full] [--size 768] [--steps 30] [--runs 3]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set. Weights are random: ``--full`` has SD 1.5's real
shapes (wants a GPU), otherwise a UNet of two levels. The graph is that of workflows/camouflage_light.json from the
loaders to the sampler: an image prompt, and the Light adapter with the map of two persons on positive and negative.
The stock T2I-Adapter has the same shapes but for its first convolution, which sees 3 colours, unshuffled by 8.
The graphs take turns; the first round warms up and is not counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.attribute_map import random_faces
from benchmarks.host import CFG, Host, arguments, compare, random_model, random_state, random_text
from camouflage.method import image_prompt
from camouflage.method.attribute_map import attribute_map
from camouflage.method.light_adapter import Layout, shapes_of

EMBEDDING, TOKENS, CONTEXT = 1024, 4, 768  # of ip-adapter_sd15: CLIP-H's embedding, four tokens as wide as the text's
SD15_WIDTHS = (320, 320, 640, 640, 1280, 1280, *[1280] * 3, *[640] * 3, *[320] * 3, 1280)  # input, output, middle
STOCK = Layout((320, 640, 1280, 1280), 2)  # the only shape of T2I-Adapters for SD 1.5 that the host reads
STOCK_CHANNELS = 3 * 8**2


def image_prompt_shapes(widths: Sequence[int], tokens: int = TOKENS) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of a plain IP-Adapter for cross-attention layers of these widths."""
    return image_prompt.shapes_of(image_prompt.ImagePromptLayout(
        EMBEDDING, CONTEXT, tokens, tuple(widths), image_prompt.published_numbers(len(widths))))


def adapters(host: Host, model: Any, channels: tuple[int, ...]) -> tuple[Any, Any]:
    """Light adapter and image prompt for this model, by the pack's own loaders, which want files."""
    prompts = host.pack("camouflage.comfy.image_prompt")
    light_adapter = host.pack("camouflage.comfy.light_adapter")
    layers = prompts.cross_attention_layers(model.get_model_object("diffusion_model"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        light, prompt = Path(folder, "light.safetensors"), Path(folder, "prompt.safetensors")
        save_file(random_state(shapes_of(Layout(channels, 2))), light)
        save_file(random_state(image_prompt_shapes([layer.width for layer in layers])), prompt)
        return light_adapter.load(light), prompts.load(prompt)


class Light:
    """The parts of a Light graph.

    Attributes:
        prompted: MODEL with the image prompt.
        texts: positive and negative without adapters.
        steered: the same with the Light adapter and the map of two persons.
        stock: the same with a stock T2I-Adapter instead; None where the UNet has not SD 1.5's channels.
    """

    def __init__(self, host: Host, model: Any, size: int):
        import comfy.clip_vision
        import comfy.controlnet

        unet = model.get_model_object("diffusion_model")
        channels = tuple(unet.model_channels * mult for mult in unet.channel_mult)
        adapter, prompt = adapters(host, model, channels)
        picture = comfy.clip_vision.Output()
        picture.image_embeds = torch.randn(1, EMBEDDING)
        self.texts = {"positive": random_text(), "negative": random_text()}
        percents = {"start_percent": 0.0, "end_percent": 1.0}
        steered = {"light_adapter": adapter, "map": attribute_map(random_faces(2), size // 8, size // 8),
                   "strength": 1.0, **percents}
        self.steered = {name: host.run("CamouflageApplyLightAdapter", conditioning=text, **steered)[0]
                        for name, text in self.texts.items()}
        self.prompted, = host.run("CamouflageApplyImagePrompt", model=model, image_prompt=prompt,
                                  clip_vision_output=picture, weight=1.0, **percents)
        self.stock = None
        if unet.model_channels != STOCK.channels[0]:
            return
        stock_adapter = comfy.controlnet.load_controlnet_state_dict(random_state(shapes_of(STOCK, STOCK_CHANNELS)))
        stock = host.run("ControlNetApplyAdvanced", **self.texts, control_net=stock_adapter,
                         image=torch.rand(1, size, size, 3), strength=1.0, **percents)
        self.stock = dict(zip(self.texts, stock, strict=True))


def main() -> None:
    """Builds the graphs, runs them in turn and prints medians."""
    options = arguments(__doc__)
    host = Host()
    model = random_model(options.shape)
    light = Light(host, model, options.size)
    compare(host, model, {
        "CAMOUFLaGE-Light": host.run("CFGGuider", model=light.prompted, **light.steered, cfg=CFG)[0],
        "stock CFG, no adapters": host.run("CFGGuider", model=model, **light.texts, cfg=CFG)[0],
        "stock CFG, stock T2I-Adapter": host.run("CFGGuider", model=model, **(light.stock or {}), cfg=CFG)[0],
    }, options)


if __name__ == "__main__":
    main()
