"""Times and counts stock graphs and ours, Base and Light, exact and fast, in turn in one process: a table and a plot.

    python -m benchmarks.speed [--full] [--size 768] [--steps 30] [--runs 3] [--batches 1,2,4,8] [--out DIR]
    python -m benchmarks.speed --gpu [--seconds 560] [--out DIR]
    python -m benchmarks.speed [--gpu] --rehearse

Run it with the environment of run.py and CAMOUFLAGE_COMFYUI set. Weights are random: ``--full`` has SD 1.5's real
shapes (six ControlNets, about 6 GB in half precision; wants a GPU), otherwise a UNet of two levels. Sampling alone is
timed, with PyTorch's attention. ``speed.json`` and ``speed.png`` go to the folder of ``--out``.

Launches and waits a model call: on a GPU those of its driver, by torch's profiler; elsewhere PyTorch's operations, with
a stand-in for CUDA graphs, as in benchmarks.speed_counts. ``--gpu`` is a script for ten minutes on a GPU, see
benchmarks/speed_gpu.py: it measures parts first and whole pictures then, a JSON line each, which a failure does not
lose. ``--rehearse`` runs either on the CPU in a minute or two, with narrow networks, small pictures and few steps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import speed_gpu
from benchmarks.base import conditionings, control_nets
from benchmarks.flops import start_host
from benchmarks.host import CUDA, Host, Sampling, Times, parsed, parser_of, random_model, setting, take_turns
from benchmarks.light import Light
from benchmarks.speed_counts import Counts, computed_tflop, counted, profiled, table
from benchmarks.speed_graphs import FEW_STEPS, Graph, base_graphs, compared, few_steps, light_graphs
from benchmarks.speed_networks import narrow_networks

PROFILED = 6  # steps at most: a profile of a whole picture takes longer than the picture


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4, 8],
                        help="pictures at once (1,2,4,8)")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir(), "camouflage-speed"),
                        help="folder for the results (camouflage-speed in the system's temporary folder)")
    parser.add_argument("--gpu", action="store_true", help="the script for ten minutes")
    parser.add_argument("--seconds", type=float, default=560.0, help="of --gpu: when no further part starts (560)")
    parser.add_argument("--rehearse", action="store_true", help="small networks and pictures, and nothing of a GPU")
    options = parsed(parser, given)
    if options.rehearse:
        options.full, options.size, options.steps, options.runs, options.batches = False, 64, 4, 1, [1, 2]
    return options


def all_graphs(host: Host, model: Any, nets: Mapping[str, Any], options: argparse.Namespace,
               recordings: str = "auto") -> dict[str, Graph]:
    """Base's and Light's."""
    return {**base_graphs(host, model, conditionings(host, nets, options.size), recordings),
            **light_graphs(host, model, Light(host, model, options.size), recordings)}


def rows_of(graphs: Mapping[str, Graph], times: Mapping[str, Times], batch: int) -> list[dict[str, Any]]:
    """What was measured with one size of batch, ready for JSON."""
    return [{"graph": name, "batch": batch, "seconds": one.seconds, "median": one.median,
             "seconds_a_picture": one.median / batch, "peak_gb": one.peak_gb,
             **compared(name, graphs, {name: each.latents for name, each in times.items()})}
            for name, one in times.items()]


def count(host: Host, model: Any, graphs: Mapping[str, Graph], plain: Mapping[str, Graph],
          options: argparse.Namespace) -> dict[str, Counts]:
    """Counts of every graph for one picture; ``plain`` are the same graphs without recordings."""
    if not CUDA:
        sampling = Sampling(host, model, options.size, options.steps, noise=False)
        return {name: counted(sampling, model, graph.guider) for name, graph in graphs.items()}
    whole, part = (Sampling(host, model, options.size, steps) for steps in (options.steps,
                                                                           min(options.steps, PROFILED)))
    return {name: profiled(part, graph.guider, computed_tflop(whole, plain[name].guider))
            for name, graph in graphs.items()}


def times_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row a graph and size of batch."""
    lines = ["| Graph | Batch | Time (least to most) | A picture | Peak GPU memory | Equal | Largest difference |",
             "|---|---|---|---|---|---|---|"]
    for row in rows:
        peak = "-" if row["peak_gb"] is None else f"{row['peak_gb']:.1f} GB"
        equal = "- | -" if row["like"] is None else (f"{'yes' if row['equal'] else 'no'} | "
                                                     f"{row['max_difference']:.2g}")
        lines.append(f"| {row['graph']} | {row['batch']} | {row['median']:.2f} s ({min(row['seconds']):.2f} to "
                     f"{max(row['seconds']):.2f}) | {row['seconds_a_picture']:.2f} s | {peak} | {equal} |")
    return "\n".join(lines)


def plot(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Seconds a picture by graph and size of batch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5))
    for axis, pipeline in zip(axes, ("Base", "Light"), strict=True):
        names = dict.fromkeys(row["graph"] for row in rows if row["graph"].startswith(pipeline))
        for name in names:
            of_graph = [row for row in rows if row["graph"] == name]
            axis.plot([row["batch"] for row in of_graph], [row["seconds_a_picture"] for row in of_graph], marker="o",
                      label=name)
        batches = sorted({row["batch"] for row in rows})
        axis.set_xscale("log", base=2)
        axis.set_xticks(batches, [str(batch) for batch in batches])
        axis.set_ylim(bottom=0)
        axis.set_xlabel("pictures at once")
        axis.set_ylabel("seconds a picture")
        axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(given: Sequence[str] | None = None) -> None:
    """Builds the graphs, lets them take turns with every size of batch, counts, and writes the results."""
    options = arguments(given)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.gpu:
        speed_gpu.main(options)
        return
    host = start_host()
    model, nets = (narrow_networks() if options.rehearse else
                   (random_model(options.shape), control_nets(options.shape)))
    graphs = all_graphs(host, model, nets, options)
    rows: list[dict[str, Any]] = []
    for batch in options.batches:
        times = take_turns(Sampling(host, model, options.size, options.steps, batch),
                           {name: graph.guider for name, graph in graphs.items()}, options.runs)
        few = {FEW_STEPS: Graph(graphs["Base exact"].guider)}
        times |= take_turns(few_steps(host, model, options.size, batch),
                            {name: graph.guider for name, graph in few.items()}, options.runs)
        rows += rows_of(graphs | few, times, batch)
    described = setting(model, options)
    print(f"\n{described}\n\n{times_table(rows)}", flush=True)
    plain = all_graphs(host, model, nets, options, "off") if CUDA else graphs
    counts = count(host, model, graphs, plain, options)
    print(f"\n{table(counts)}")
    results = {"setting": described, "gpu": torch.cuda.get_device_name() if CUDA else None, "torch": torch.__version__,
               "full": options.full, "size": options.size, "steps": options.steps, "rows": rows,
               "counts": {name: asdict(one) for name, one in counts.items()}}
    (options.out / "speed.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    plot(rows, described, options.out / "speed.png")
    print(f"\n{options.out / 'speed.json'}\n{options.out / 'speed.png'}")


if __name__ == "__main__":
    main()
