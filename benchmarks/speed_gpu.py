"""What ten minutes on a GPU are for: ``python -m benchmarks.speed --gpu``.

Every part prints lines of JSON as soon as it knows something, and when it starts and ends; the same lines go to
``speed_gpu.jsonl``. A part that fails says so, and the next one goes on. A part does not start where fewer seconds are
left than it needs, and the long ones end early. Whole pictures take turns. Rehearsed on the CPU (``--rehearse``) with
small networks, small pictures, few steps, and a stand-in for CUDA graphs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import torch

from benchmarks import speed_parts as parts
from benchmarks.base import guided
from benchmarks.host import CUDA, Sampling, take_turns
from benchmarks.speed_counts import GRAPHS, counted, profiled
from benchmarks.speed_graphs import (
    BASE,
    FEW_STEPS,
    Graph,
    accelerated,
    base_graphs,
    compared,
    few_steps,
    light_graphs,
)
from benchmarks.speed_parts import Bench, Row
from testing.counting import StandIn

Emit = Callable[[Row], None]
RUNS, PROFILED = 3, 6  # counted rounds of single pictures; steps of what is profiled
RESERVED = 230.0  # seconds that single pictures leave for what comes after them
BATCHES = (8, 2, 4)
BATCHED = (BASE, "Base exact", "Base fast", "Light exact", "Light fast")


def machine(bench: Bench) -> Iterator[Row]:
    """What measures."""
    import comfyui_version

    bench.network()
    yield {"gpu": torch.cuda.get_device_name() if CUDA else None, "torch": torch.__version__,
           "cuda": torch.version.cuda if CUDA else None, "host": comfyui_version.__version__,
           "system": platform.platform(), "dtype": str(bench.model.model.get_dtype()), "size": bench.size,
           "steps": bench.steps}


def base(bench: Bench, emit: Emit) -> Iterator[Row]:
    """Base, a picture at a time: the stock graph, ours, and every measure added."""
    graphs = base_graphs(bench.host, bench.model, bench.conds, one_by_one=True)
    yield from whole(bench, emit, graphs, 1, 1 if bench.rehearse else RUNS)


def light(bench: Bench, emit: Emit) -> Iterator[Row]:
    """Light, the same."""
    graphs = light_graphs(bench.host, bench.model, bench.light, one_by_one=True)
    yield from whole(bench, emit, graphs, 1, 1 if bench.rehearse else RUNS)


def few(bench: Bench, emit: Emit) -> Iterator[Row]:
    """The few-step preset."""
    graphs = {FEW_STEPS: Graph(guided(bench.host, accelerated(bench.host, bench.model, "exact"), bench.conds))}
    sampling = few_steps(bench.host, bench.model, bench.size)
    yield from whole(bench, emit, graphs, 1, 1 if bench.rehearse else RUNS, sampling)


def batches(bench: Bench, emit: Emit) -> Iterator[Row]:
    """Several pictures at once, one counted round each."""
    graphs = {name: graph for name, graph in _graphs(bench).items() if name in BATCHED}
    for batch in bench.batches[1:] if bench.rehearse else BATCHES:
        if bench.left < 10 * batch:
            yield {"batch": batch, "skipped": f"{bench.left:.0f} s left"}
            continue
        yield from whole(bench, emit, graphs, batch, 1)


def whole(bench: Bench, emit: Emit, graphs: Mapping[str, Graph], batch: int, runs: int,
          sampling: Sampling | None = None) -> Iterator[Row]:
    """Lets graphs take turns; a row for each sampling, then one a graph."""
    warm_up = sampling or Sampling(bench.host, bench.model, bench.size, bench.warm_up, batch)
    sampling = sampling or Sampling(bench.host, bench.model, bench.size, bench.steps, batch)
    times = take_turns(sampling, {name: graph.guider for name, graph in graphs.items()}, runs, warm_up,
                       bench.end - RESERVED,
                       lambda number, name, seconds: emit({"round": number, "graph": name, "batch": batch,
                                                           "seconds": seconds}),
                       lambda name, error: emit({"graph": name, "batch": batch, **_failure(error)}))
    latents = {name: one.latents for name, one in times.items()}
    for name, one in times.items():
        if one.seconds:
            yield {"graph": name, "batch": batch, "seconds": one.seconds, "median": one.median,
                   "seconds_a_picture": one.median / batch, "peak_gb": one.peak_gb, **compared(name, graphs, latents)}


def counts(bench: Bench) -> Iterator[Row]:
    """Launches, recordings played and waits, a model call."""
    for name, graph in _graphs(bench).items():
        if CUDA:
            one = profiled(Sampling(bench.host, bench.model, bench.size, PROFILED), graph.guider)
        else:
            one = counted(Sampling(bench.host, bench.model, bench.size, bench.steps, noise=False), bench.model,
                          graph.guider)
        yield {"graph": name, **asdict(one)}


PARTS: dict[str, tuple[Callable[..., Iterator[Row]], float]] = {  # and the seconds below which it does not start
    "machine": (machine, 0), "launches": (parts.launches, 5), "noise": (parts.noise, 10),
    "networks": (parts.networks, 30), "recordings": (parts.recordings, 20), "base": (base, 120), "light": (light, 50),
    "few": (few, 20), "batches": (batches, 40), "counts": (counts, 40), "vae": (parts.vae, 10),
    "caption": (parts.caption, 15), "rates": (parts.rates, 15), "compiled": (parts.compiled, 40)}
"""By worth: what comes last is lost first."""
WHOLE = {"base", "light", "few", "batches"}


def run(bench: Bench, path: Path, names: tuple[str, ...] = tuple(PARTS)) -> list[Row]:
    """Runs parts one after the other and returns all rows."""
    rows: list[Row] = []
    begun = time.perf_counter()
    with path.open("w", encoding="utf-8") as file:
        for name in names:
            part, least = PARTS[name]

            def emit(row: Row, name: str = name) -> None:
                rows.append({"part": name, "at": round(time.perf_counter() - begun, 2), **row})
                for stream in (None, file):
                    print(json.dumps(rows[-1]), file=stream, flush=True)

            if bench.left < least:
                emit({"skipped": f"{bench.left:.0f} s left, {least:.0f} needed"})
                continue
            emit({"starts": True})
            try:
                with torch.inference_mode():
                    for row in part(bench, emit) if name in WHOLE else part(bench):
                        emit(row)
            except Exception as error:
                emit(_failure(error))
            emit({"ends": True})
            _tidy()
    return rows


def main(options: argparse.Namespace) -> None:
    """All parts; a rehearsal records with the stand-in."""
    if options.rehearse == CUDA:
        raise SystemExit("--gpu needs a GPU, and --gpu --rehearse a machine without one (CUDA_VISIBLE_DEVICES=).")
    bench = Bench(options)
    with rehearsed(bench):
        run(bench, options.out / "speed_gpu.jsonl")


def rehearsed(bench: Bench) -> contextlib.AbstractContextManager:
    """As long as this is entered, the pack records with the stand-in; on a GPU everything stays."""
    if CUDA:
        return contextlib.nullcontext()
    stand_in = StandIn()
    return mock.patch.object(bench.host.pack(GRAPHS), "recorder_for", lambda device: stand_in)


def _graphs(bench: Bench) -> dict[str, Graph]:
    return {**base_graphs(bench.host, bench.model, bench.conds), **light_graphs(bench.host, bench.model, bench.light)}


def _failure(error: Exception) -> Row:
    return {"failed": f"{type(error).__name__}: {error}"[:2000], "where": traceback.format_exception(error)[-4:]}


def _tidy() -> None:
    """After a part, whether it failed or not: nothing stays on the GPU that nobody needs."""
    import comfy.model_management as mm

    mm.unload_all_models()
    mm.soft_empty_cache()
