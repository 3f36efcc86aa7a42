"""What the benchmarks of sampling share: the host in this process, random networks, and graphs that take turns."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {  # of the UNet: levels, and transformer blocks of each of their two residual blocks
    "full": {"channel_mult": (1, 2, 4, 4), "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
             "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]},
    "small": {"channel_mult": (1, 2), "transformer_depth": [1, 1, 0, 0],
              "transformer_depth_output": [1, 1, 1, 0, 0, 0]},
}
CFG = 7.0
CUDA = torch.cuda.is_available()


def arguments(description: str | None) -> argparse.Namespace:
    """What both benchmarks ask for; ``shape`` is the entry of SHAPES that was chosen."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="SD 1.5's real shapes")
    parser.add_argument("--size", type=int, default=768, help="px of the square picture (768)")
    parser.add_argument("--steps", type=int, default=30, help="steps of dpmpp_2m_sde (30)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each graph (3)")
    options = parser.parse_args()
    options.shape = SHAPES["full" if options.full else "small"]
    return options


class Host:
    """The host in this process, on the GPU if there is one, with the pack loaded by the host's own loader."""

    def __init__(self):
        sys.path.insert(0, os.environ["CAMOUFLAGE_COMFYUI"])
        import comfy.cli_args

        comfy.cli_args.args.cpu = not CUDA
        import nodes

        asyncio.run(nodes.init_builtin_extra_nodes())
        assert asyncio.run(nodes.load_custom_node(str(ROOT))), "the pack did not load"
        self._nodes: dict[str, Any] = nodes.NODE_CLASS_MAPPINGS
        torch.manual_seed(0)

    def run(self, node_id: str, **inputs: Any) -> tuple:
        """Outputs of a node."""
        node = self._nodes[node_id]
        if hasattr(node, "define_schema"):
            return node.EXECUTE_NORMALIZED(**inputs).result or ()
        return getattr(node(), node.FUNCTION)(**inputs)

    def pack(self, name: str) -> Any:
        """A module of the loaded pack, such as "camouflage.comfy.image_prompt"."""
        return importlib.import_module(f".{name}", str(ROOT).replace(".", "_x_"))


def random_state(shapes: Iterable[tuple[str, Iterable[int]]], prefix: str = "") -> dict[str, torch.Tensor]:
    """Half-precision normal numbers of these keys' shapes; drawn on the GPU if there is one, which is much faster."""
    device = "cuda" if CUDA else "cpu"
    return {prefix + key: (torch.randn(*shape, dtype=torch.float16, device=device) * 0.02).cpu()
            for key, shape in shapes}


def shapes_in(module: torch.nn.Module) -> list[tuple[str, torch.Size]]:
    """Keys and shapes of a module's weights."""
    return [(key, value.shape) for key, value in module.state_dict().items()]


def unet_config(shape: Mapping[str, Any]) -> dict[str, Any]:
    """What the host's classes of UNet and ControlNet have in common; without memory for weights (device "meta")."""
    return {"image_size": 32, "in_channels": 4, "model_channels": 320, "channel_mult": shape["channel_mult"],
            "num_res_blocks": [2] * len(shape["channel_mult"]), "num_heads": 8, "use_spatial_transformer": True,
            "context_dim": 768, "transformer_depth_middle": 1, "dtype": torch.float16, "device": "meta",
            "transformer_depth": list(shape["transformer_depth"])}


def random_unet(shape: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A UNet of this shape in a checkpoint's layout, random."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel

    unet = openaimodel.UNetModel(**unet_config(shape), out_channels=4,
                                 transformer_depth_output=list(shape["transformer_depth_output"]))
    return random_state(shapes_in(unet), "model.diffusion_model.")


def random_model(shape: Mapping[str, Any]) -> Any:
    """A MODEL of this shape with random weights, by the host's own loader."""
    import comfy.sd

    return comfy.sd.load_diffusion_model_state_dict(random_unet(shape))


def random_text() -> list:
    """A CONDITIONING of SD 1.5."""
    return [[torch.randn(1, 77, 768), {}]]


def compare(host: Host, model: Any, guiders: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Samples with every guider in turn, dpmpp_2m_sde and karras, and prints medians.

    The first round warms up and is not counted. In it every graph starts with an empty GPU, so that the peak memory
    is the graph's own: later the networks of all graphs stay loaded side by side.
    """
    import comfy.model_management as mm
    from comfy.ldm.modules.attention import optimized_attention

    noise, = host.run("RandomNoise", noise_seed=1)
    sampler, = host.run("KSamplerSelect", sampler_name="dpmpp_2m_sde")
    sigmas, = host.run("BasicScheduler", model=model, scheduler="karras", steps=options.steps, denoise=1.0)
    latent = {"samples": torch.zeros(1, 4, options.size // 8, options.size // 8)}
    seconds: dict[str, list[float]] = {name: [] for name in guiders}
    peak = dict.fromkeys(guiders, 0.0)
    for number in range(options.runs + 1):
        for name, guider in guiders.items():
            if CUDA and number == 0:
                mm.unload_all_models()
                mm.soft_empty_cache()
                torch.cuda.reset_peak_memory_stats()
            started = _now()
            with torch.inference_mode():
                host.run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas,
                         latent_image=latent)
            seconds[name].append(_now() - started)
            if CUDA and number == 0:
                peak[name] = torch.cuda.max_memory_allocated() / 1e9
            print(f"round {number}: {name} {seconds[name][-1]:.2f} s", flush=True)
    device = torch.cuda.get_device_name() if CUDA else f"CPU, {torch.get_num_threads()} threads"
    shapes = "SD 1.5 shapes" if options.full else "two-level UNet"
    dtype = str(model.model.manual_cast_dtype or model.model.get_dtype()).removeprefix("torch.")
    print(f"\n{device}; {shapes}, {options.size} px, {options.steps} steps of dpmpp_2m_sde, median of {options.runs} "
          f"runs (min-max); torch {torch.__version__}, {dtype}, {optimized_attention.__name__}")
    for name, times in seconds.items():
        counted = times[1:]
        memory = f", peak {peak[name]:.1f} GB on the GPU" if CUDA else ""
        print(f"{name:32} {statistics.median(counted):8.2f} s ({min(counted):.2f}-{max(counted):.2f}){memory}")
    if not CUDA and sys.platform != "win32":
        import resource

        print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


def _now() -> float:
    """Seconds, once the GPU has done what it was asked to."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()
