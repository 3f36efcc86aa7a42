"""What the benchmarks of sampling share: the host in this process, random networks, and graphs that take turns."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
SAMPLER = "dpmpp_2m_sde"
CUDA = torch.cuda.is_available()


def arguments(description: str | None) -> argparse.Namespace:
    """What the benchmarks of sampling ask for."""
    return parsed(parser_of(description))


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The same, for a benchmark that asks for more."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="SD 1.5's real shapes")
    parser.add_argument("--size", type=int, default=768, help="px of the square picture (768)")
    parser.add_argument("--steps", type=int, default=30, help="steps of dpmpp_2m_sde (30)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each graph (3)")
    return parser


def parsed(parser: argparse.ArgumentParser, given: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; ``shape`` is the entry of SHAPES that was chosen."""
    options = parser.parse_args(given)
    options.shape = SHAPES["full" if options.full else "small"]
    return options


class Host:
    """The host in this process, on the GPU if there is one, with the pack loaded by the host's own loader."""

    def __init__(self):
        sys.path.insert(0, os.environ["CAMOUFLAGE_COMFYUI"])
        import comfy.cli_args

        comfy.cli_args.args.cpu = not CUDA
        import utils.extra_config  # noqa: F401 - as the host's main.py does, before nodes.py puts comfy/ first

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


class Sampling:
    """Samples from noise alone by the host's own nodes, always with the same seed.

    Args:
        model: whose noise levels they are.
        size: px of the square pictures.
        steps: one model call each.
        batch: pictures at once.
        noise: False leaves out the noise of the steps, which the stock sampler computes on the CPU.
        sampler, scheduler: names of the host's.
    """

    def __init__(self, host: Host, model: Any, size: int, steps: int, batch: int = 1, noise: bool = True,
                 sampler: str = SAMPLER, scheduler: str = "karras"):
        from comfy.samplers import KSAMPLER

        self.host, self.size, self.steps, self.batch = host, size, steps, batch
        self.noise, = host.run("RandomNoise", noise_seed=1)
        self.sampler, = host.run("KSamplerSelect", sampler_name=sampler)
        self.sigmas, = host.run("BasicScheduler", model=model, scheduler=scheduler, steps=steps, denoise=1.0)
        self.latent = {"samples": torch.zeros(batch, 4, size // 8, size // 8)}
        if not noise:
            none = torch.zeros(1, 1, 1, 1, device=model.load_device)
            self.sampler = KSAMPLER(self.sampler.sampler_function, {**self.sampler.extra_options,
                                                                   "noise_sampler": lambda *_: none})

    def __call__(self, guider: Any) -> torch.Tensor:
        """The latents, B x 4 x h x w."""
        with torch.inference_mode():
            return self.host.run("SamplerCustomAdvanced", noise=self.noise, guider=guider, sampler=self.sampler,
                                 sigmas=self.sigmas, latent_image=self.latent)[0]["samples"]


@dataclass
class Times:
    """What was measured of a graph: seconds of every counted sampling, the peak of the GPU's memory, the last result.
    """

    seconds: list[float] = field(default_factory=list)
    peak_gb: float | None = None
    latents: torch.Tensor | None = None

    @property
    def median(self) -> float:
        """Seconds a sampling."""
        return statistics.median(self.seconds)


def say(number: int, name: str, seconds: float) -> None:
    """What a round has taken, for the person at the screen."""
    print(f"round {number}: {name} {seconds:.2f} s", file=sys.stderr, flush=True)


def take_turns(sampling: Sampling, guiders: Mapping[str, Any], runs: int, warm_up: Sampling | None = None,
               until: float = math.inf, done: Callable[[int, str, float], None] = say,
               failed: Callable[[str, Exception], None] | None = None) -> dict[str, Times]:
    """Samples with every guider in turn.

    The first round warms up and is not counted. On a GPU every graph starts it with an empty GPU, so that the peak
    memory is the graph's own: later the networks of all graphs stay loaded side by side. Recorded calls go with what is
    unloaded, so there a second round warms up, too.

    Args:
        runs: counted rounds.
        warm_up: samples in the rounds that are not counted, with fewer steps; None samples as ever.
        until: no further counted round starts at this time of ``time.perf_counter``, if there is one already.
        done: is told number of the round, name and seconds after every sampling.
        failed: is told name and error of a graph that fails, which takes no further turn; None lets it fail.
    """
    import comfy.model_management as mm

    times = {name: Times() for name in guiders}
    waiting = dict(guiders)
    first = 2 if CUDA else 1
    for number in range(first + runs):
        if number > first and time.perf_counter() >= until:
            break
        one = sampling if number >= first or warm_up is None else warm_up
        for name, guider in list(waiting.items()):
            if CUDA and number == 0:
                mm.unload_all_models()
                mm.soft_empty_cache()
                torch.cuda.reset_peak_memory_stats()
            started = now()
            try:
                times[name].latents = one(guider)
            except Exception as error:
                if failed is None:
                    raise
                failed(name, error)
                del waiting[name]
                continue
            seconds = now() - started
            if number >= first:
                times[name].seconds.append(seconds)
            if CUDA and number == 0:
                times[name].peak_gb = torch.cuda.max_memory_allocated() / 1e9
            done(number, name, seconds)
    return times


def compare(host: Host, model: Any, guiders: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Samples with every guider in turn and prints medians."""
    times = take_turns(Sampling(host, model, options.size, options.steps), guiders, options.runs)
    print(f"\n{setting(model, options)}")
    for name, one in times.items():
        memory = f", peak {one.peak_gb:.1f} GB on the GPU" if one.peak_gb is not None else ""
        print(f"{name:32} {one.median:8.2f} s ({min(one.seconds):.2f}-{max(one.seconds):.2f}){memory}")
    if not CUDA and sys.platform != "win32":
        import resource

        print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


def setting(model: Any, options: argparse.Namespace) -> str:
    """Machine, networks, sampling and versions, in a line."""
    from comfy.ldm.modules.attention import optimized_attention

    device = torch.cuda.get_device_name() if CUDA else f"CPU, {torch.get_num_threads()} threads"
    unet = model.get_model_object("diffusion_model")
    shapes = "SD 1.5 shapes" if options.full else f"{len(unet.channel_mult)}-level UNet, {unet.model_channels} channels"
    dtype = str(model.model.manual_cast_dtype or model.model.get_dtype()).removeprefix("torch.")
    return (f"{device}; {shapes}, {options.size} px, {options.steps} steps of {SAMPLER}, median of {options.runs} "
            f"runs (min-max); torch {torch.__version__}, {dtype}, {optimized_attention.__name__}")


def now() -> float:
    """Seconds, once the GPU has done what it was asked to."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()
