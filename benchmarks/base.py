"""Times CAMOUFLaGE-Base beside the stock graph that says the same (DualCFGGuider, nested), in one process.

    python -m benchmarks.base [--full] [--size 768] [--steps 25] [--runs 3]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set. Weights are random: ``--full`` has SD 1.5's real
shapes (six ControlNets, about 6 GB in half precision; wants a GPU), otherwise a UNet of two levels. Both graphs take
turns, so that a machine that slows down slows both; the first round warms up and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SCENE = {"depth": 0.5, "normal": 0.3, "segmentation": 0.5, "pose": 0.8, "lineart": 0.3}
SHAPES = {  # of the UNet: levels, and transformer blocks of each of their two residual blocks
    "full": {"channel_mult": (1, 2, 4, 4), "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
             "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]},
    "small": {"channel_mult": (1, 2), "transformer_depth": [1, 1, 0, 0],
              "transformer_depth_output": [1, 1, 1, 0, 0, 0]},
}


def enter_host(cpu: bool) -> Any:
    """Imports the host and loads the pack into it; gives the node classes."""
    sys.path.insert(0, os.environ["CAMOUFLAGE_COMFYUI"])
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
    import nodes

    asyncio.run(nodes.init_builtin_extra_nodes())
    assert asyncio.run(nodes.load_custom_node(str(ROOT))), "the pack did not load"
    return nodes.NODE_CLASS_MAPPINGS


def random_state(module: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """Half-precision normal numbers of the module's shapes."""
    return {prefix + key: torch.randn(value.shape, dtype=torch.float16) * 0.02
            for key, value in module.state_dict().items()}


def networks(shape: dict[str, Any]) -> SimpleNamespace:
    """MODEL and six ControlNets with random weights, by the host's own loaders."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.sd

    config = {"image_size": 32, "in_channels": 4, "model_channels": 320, "channel_mult": shape["channel_mult"],
              "num_res_blocks": [2] * len(shape["channel_mult"]), "num_heads": 8, "use_spatial_transformer": True,
              "context_dim": 768, "transformer_depth_middle": 1, "dtype": torch.float16, "device": "meta"}
    unet = openaimodel.UNetModel(**config, out_channels=4, transformer_depth=list(shape["transformer_depth"]),
                                 transformer_depth_output=list(shape["transformer_depth_output"]))
    control = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, transformer_depth=list(shape["transformer_depth"]))
    model = comfy.sd.load_diffusion_model_state_dict(random_state(unet, "model.diffusion_model."))
    nets = {name: comfy.controlnet.load_controlnet_state_dict(random_state(control, "control_model."))
            for name in (*SCENE, "identity")}
    return SimpleNamespace(model=model, nets=nets)


def main() -> None:
    """Builds both graphs, runs them in turn and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="SD 1.5's real shapes")
    parser.add_argument("--size", type=int, default=768, help="px of the square picture (768)")
    parser.add_argument("--steps", type=int, default=25, help="steps of dpmpp_sde (25)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each graph (3)")
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    nodes = enter_host(cpu=not cuda)

    def run(node_id: str, **inputs: Any) -> tuple:
        node = nodes[node_id]
        if hasattr(node, "define_schema"):
            return node.EXECUTE_NORMALIZED(**inputs).result or ()
        return getattr(node(), node.FUNCTION)(**inputs)

    torch.manual_seed(0)
    built = networks(SHAPES["full" if options.full else "small"])
    texts = [[[torch.randn(1, 77, 768), {}]] for _ in range(3)]
    scene: dict[str, Any] = {"positive": texts[0], "negative": texts[1], "lineart_end_percent": 0.5}
    for name, strength in SCENE.items():
        scene |= {f"{name}_map": torch.rand(1, options.size, options.size, 3), f"{name}_strength": strength,
                  f"{name}_control_net": built.nets[name]}
    positive, negative = run("CamouflageSceneControl", **scene)
    identity, = run("CamouflageIdentityControl", conditioning=texts[2], control_net=built.nets["identity"],
                    strength=1.0, image=torch.rand(1, options.size, options.size, 3))
    common = {"model": built.model, "positive": positive, "negative": negative, "cfg": 7.0}
    guiders = {
        "CAMOUFLaGE, a_s = 1.25": run("CamouflageGuider", **common, identity=identity, anonymization_scale=1.25,
                                      start_percent=0.0, end_percent=1.0)[0],
        "stock nested DualCFG": run("DualCFGGuider", model=built.model, cond1=positive, cond2=negative,
                                    negative=identity, cfg_conds=7.0, cfg_cond2_negative=1.25, style="nested")[0],
        "stock CFG, no guidance": run("CFGGuider", **common)[0],
    }
    noise, = run("RandomNoise", noise_seed=1)
    sampler, = run("KSamplerSelect", sampler_name="dpmpp_sde")
    sigmas, = run("BasicScheduler", model=built.model, scheduler="karras", steps=options.steps, denoise=1.0)
    latent = {"samples": torch.zeros(1, 4, options.size // 8, options.size // 8)}
    seconds: dict[str, list[float]] = {name: [] for name in guiders}
    peak = dict.fromkeys(guiders, 0.0)
    for _ in range(options.runs + 1):
        for name, guider in guiders.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            with torch.inference_mode():
                run("SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas,
                    latent_image=latent)
            seconds[name].append(time.perf_counter() - started)
            if cuda:
                peak[name] = torch.cuda.max_memory_allocated() / 1e9
    device = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    shapes = "SD 1.5 shapes" if options.full else "two-level UNet"
    print(f"\n{device}; {shapes}, {options.size} px, {options.steps} steps of dpmpp_sde, median of {options.runs} runs "
          "(min-max)")
    for name, times in seconds.items():
        counted = times[1:]
        memory = f", peak {peak[name]:.1f} GB on the GPU" if cuda else ""
        print(f"{name:24} {statistics.median(counted):8.2f} s ({min(counted):.2f}-{max(counted):.2f}){memory}")
    if not cuda and sys.platform != "win32":
        import resource

        print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
