"""Counts operations, launches and waits of whole pictures at full size, stock graphs and ours, without a GPU.

    python -m benchmarks.speed_counts [--size 768] [--steps 30] [--photos 1] [--one-by-one]

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set. The networks have SD 1.5's real shapes and nearly no
numbers; the host's own sampler runs through all its steps with the code of a real sampling, but only small tensors, the
noise levels above all, are computed (testing/counting.py). The noise of the steps is left out: the stock sampler
computes it on the CPU. Recorded calls are played by a stand-in for CUDA graphs. Launches are PyTorch's operations, of
which a GPU starts about one kernel each, and recordings played; waits are operations that bring a number to the CPU.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.base import conditionings
from benchmarks.flops import start_host
from benchmarks.host import Host, Sampling
from benchmarks.light import Light
from benchmarks.speed_graphs import BASE, LIGHT_STOCK, Graph, base_graphs, light_graphs
from benchmarks.speed_networks import hollow_networks
from testing.counting import Dry, StandIn

GRAPHS = "camouflage.comfy.acceleration.graphs"
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel")  # names of the driver's calls begin so
REPLAYS = ("cudaGraphLaunch",)
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")  # a copy to the CPU waits by these


@dataclass(frozen=True)
class Counts:
    """Of one sampling, per picture or per model call.

    Attributes:
        tflop: 10^12 multiplications and additions a picture, each counted as one operation; None: not counted.
        launches: a model call, outside of recordings.
        replays: recordings that are played, a model call.
        waits: a model call.
    """

    tflop: float | None
    launches: float
    replays: float
    waits: float


def hollow_graphs(host: Host, size: int, photos: int = 1, one_by_one: bool = False, light: bool = True
                  ) -> tuple[Any, dict[str, Graph]]:
    """The MODEL, and Base's graphs and Light's with it."""
    model, nets = hollow_networks()
    graphs = base_graphs(host, model, conditionings(host, nets, size, photos), one_by_one=one_by_one)
    if light:
        graphs |= light_graphs(host, model, Light(host, model, size), one_by_one=one_by_one)
    return model, graphs


def tflop(sampling: Sampling, guider: Any) -> float:
    """Of a picture, counted without computing it."""
    with Dry() as dry:
        sampling(guider)
    return dry.flops / 1e12 / sampling.batch


def counted(sampling: Sampling, model: Any, guider: Any) -> Counts:
    """Counts one sampling after a shorter one, with a stand-in for CUDA graphs."""
    module, stand_in = sampling.host.pack(GRAPHS), StandIn()
    first = Sampling(sampling.host, model, sampling.size, min(sampling.steps, 12), sampling.batch, noise=False)
    with mock.patch.object(module, "recorder_for", lambda device: stand_in):
        module.free(model.model)
        try:
            with Dry():
                first(guider)
            played = stand_in.played
            with Dry() as dry:
                sampling(guider)
        finally:
            module.free(model.model)
    steps = sampling.steps
    return Counts(dry.flops / 1e12 / sampling.batch, dry.launched / steps, (stand_in.played - played) / steps,
                  dry.waited / steps)


def profiled(sampling: Sampling, guider: Any, tflop: float | None = None) -> Counts:
    """Counts on a GPU what its driver is asked for in one sampling after two others, which record."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(2):
        sampling(guider)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        sampling(guider)
    events = {event.key: event.count for event in profiler.key_averages()}

    def count(names: tuple[str, ...]) -> float:
        return sum(number for name, number in events.items() if name.startswith(names)) / sampling.steps

    return Counts(tflop, count(LAUNCHES), count(REPLAYS), count(WAITS))


def computed_tflop(sampling: Sampling, guider: Any) -> float:
    """Of a picture, counted while it is computed; recordings are not seen, so the guider must do without."""
    with FlopCounterMode(display=False) as counter:
        sampling(guider)
    return counter.get_total_flops() / 1e12 / sampling.batch


def table(counts: Mapping[str, Counts]) -> str:
    """A row a graph; the ratio is to the stock graph of Base, or to the one of Light with a T2I-Adapter."""
    lines = ["| Graph | TFLOP a picture | of stock | Launches a call | Recordings played a call | Waits a call |",
             "|---|---|---|---|---|---|"]
    for name, one in counts.items():
        first = counts.get(BASE if name.startswith("Base") else LIGHT_STOCK)
        shown = "-" if one.tflop is None else f"{one.tflop:.1f}"
        ratio = "-" if one.tflop is None or first is None or not first.tflop else f"{one.tflop / first.tflop:.3f}"
        lines.append(f"| {name} | {shown} | {ratio} | {one.launches:.0f} | {one.replays:.1f} | {one.waits:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Counts every graph and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=768, help="px of the square pictures, a multiple of 64 (768)")
    parser.add_argument("--steps", type=int, default=30, help="steps of dpmpp_2m_sde (30)")
    parser.add_argument("--photos", type=int, default=1, help="pictures of a batch, each with its own maps (1)")
    parser.add_argument("--one-by-one", action="store_true", help="also every part of mode fast alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    host = start_host()
    model, graphs = hollow_graphs(host, options.size, options.photos, options.one_by_one)
    sampling = Sampling(host, model, options.size, options.steps, options.photos, noise=False)
    counts = {name: counted(sampling, model, graph.guider) for name, graph in graphs.items()}
    print(f"\n{options.size} px, {options.steps} steps of dpmpp_2m_sde, {options.photos} pictures at once; torch "
          f"{torch.__version__}\n\n{table(counts)}")


if __name__ == "__main__":
    main()
