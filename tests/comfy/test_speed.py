"""The benchmarks of speed: what is counted at full shapes holds, and the script for a GPU runs through on the CPU."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from types import SimpleNamespace

import comfy.ldm.modules.attention as attention
import pytest
from torch.utils.flop_counter import FlopCounterMode

import sampled
from benchmarks import speed_gpu, speed_parts
from benchmarks.host import Sampling
from benchmarks.passes import STOCK, ratios
from benchmarks.speed import plot, times_table
from benchmarks.speed_counts import counted, hollow_graphs, table, tflop
from benchmarks.speed_graphs import BASE
from testing.counting import Dry, Operations

QUICK = ("machine", "launches", "noise", "networks", "recordings", "light", "caption", "rates")


@pytest.fixture
def bench_host(host, monkeypatch):
    """The host as benchmarks have it, with PyTorch's attention."""
    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(attention, name, attention.attention_pytorch)
    prompt = host.module("camouflage.comfy.image_prompt")
    monkeypatch.setattr(prompt, "optimized_attention", attention.attention_pytorch)
    return SimpleNamespace(run=host.run, pack=host.module)


@pytest.fixture
def bench(bench_host):
    made = speed_parts.Bench(Namespace(rehearse=True, size=64, seconds=600.0), bench_host)
    with speed_gpu.rehearsed(made):
        yield made


@sampled.long
def test_a_picture_at_full_shapes(bench_host):
    """The code of a real sampling, with hollow networks. The counts of benchmarks.passes are sums over parts; their
    shares at 30 steps are held in test_passes, and here with --all, launches and waits with them."""
    steps = 30 if sampled.everything else 4
    model, graphs = hollow_graphs(bench_host, 768, light=False)
    sampling = Sampling(bench_host, model, 768, steps, noise=False)
    stock = tflop(sampling, graphs[BASE].guider)
    counts = {name: counted(sampling, model, graphs[name].guider) for name in ("Base exact", "Base fast")}
    print(f"\n{steps} steps, stock graph: {stock:.1f} TFLOP\n{table(counts)}")
    parts = ratios(bench_host, 768, steps)["Base, one photo"]
    assert math.isclose(stock, parts[STOCK], rel_tol=1e-3)
    assert math.isclose(counts["Base exact"].tflop, parts["exact"], rel_tol=1e-3)
    assert math.isclose(counts["Base fast"].tflop, parts["fast"], rel_tol=1e-3)
    assert steps < 30 or (counts["Base exact"].tflop <= 0.988 * stock and counts["Base fast"].tflop <= 0.5 * stock)
    for one in counts.values():
        assert one.replays > 1 and one.launches < 300
        assert steps < 30 or (one.launches + one.replays <= 150 and one.waits <= 4)


def test_what_is_not_computed_is_counted_as_if_it_were(host, sd, sample, scene):
    """The default attention has formulas for a CPU in torch's own counter."""
    guider, = host.run("CamouflageGuider", model=sd.model, positive=scene.positive, negative=scene.negative,
                       identity=scene.identity)
    with FlopCounterMode(display=False) as counter:
        sample(guider)
    with Operations() as real:
        sample(guider)
    with Dry(1024) as dry:
        result = sample(guider)
    assert dry.flops == counter.get_total_flops() > 0
    assert dry.waited == real.waited and result.shape == (1, 4, 8, 8)
    assert dry.launched >= real.launched, "composite operations are taken apart"


def _checked(rows: list[dict]) -> dict[str, list[dict]]:
    assert not [row for row in rows if "failed" in row or "skipped" in row]
    measured: dict[str, list[dict]] = {}
    for row in rows:
        if not row.keys() & {"starts", "ends", "round"}:
            measured.setdefault(row["part"], []).append(row)
    for row in measured.get("base", []) + measured.get("light", []) + measured.get("batches", []):
        assert row.get("equal") is (None if row["like"] is None else not {"fast", "+"} & set(row["graph"].split()))
    return measured


def test_parts_of_the_rehearsal(bench, tmp_path):
    rows = speed_gpu.run(bench, tmp_path / "lines.jsonl", QUICK)
    assert [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()] == rows
    measured = _checked(rows)
    assert tuple(measured) == QUICK
    assert len(measured["networks"]) == 8 and len(measured["light"]) == 6
    assert all(row["equal"] for row in measured["noise"])
    assert [(row["equal"], row["recordings"]) for row in measured["recordings"]] == [(True, 1), (True, 1)]


@sampled.long
def test_the_whole_rehearsal(bench, tmp_path):
    measured = _checked(speed_gpu.run(bench, tmp_path / "lines.jsonl"))
    assert tuple(measured) == tuple(speed_gpu.PARTS)
    assert {row["graph"]: row["replays"] > 0 for row in measured["counts"]}["Base exact"]


def test_a_part_that_fails_or_has_no_time_loses_nothing(bench, tmp_path, monkeypatch):
    def broken(of):
        yield {"known": 1}
        raise RuntimeError("out of memory")

    monkeypatch.setattr(speed_gpu, "PARTS", {"broken": (broken, 0), "late": (broken, 1e9),
                                             "launches": speed_gpu.PARTS["launches"]})
    rows = speed_gpu.run(bench, tmp_path / "lines.jsonl", ("broken", "late", "launches"))
    of = {part: [row for row in rows if row["part"] == part] for part in ("broken", "late", "launches")}
    assert [row.get("known", row.get("failed")) for row in of["broken"]] == [None, 1, "RuntimeError: out of memory",
                                                                            None]
    assert len(of["late"]) == 1 and "needed" in of["late"][0]["skipped"]
    assert len(of["launches"]) == 4 and (tmp_path / "lines.jsonl").read_text().count("\n") == len(rows)


def test_a_time_limit_ends_what_takes_too_long():
    with pytest.raises(TimeoutError), speed_parts.time_limit(0.05):
        while True:
            pass


def test_table_and_plot(tmp_path):
    row = {"graph": "Base exact", "batch": 2, "seconds": [3.0, 4.0, 5.0], "median": 4.0, "seconds_a_picture": 2.0,
           "peak_gb": 6.54, "like": BASE, "equal": True, "max_difference": 0.0}
    rows = [row, {**row, "graph": "Light fast", "peak_gb": None, "like": None}]
    assert times_table(rows).splitlines()[2:] == [
        "| Base exact | 2 | 4.00 s (3.00 to 5.00) | 2.00 s | 6.5 GB | yes | 0 |",
        "| Light fast | 2 | 4.00 s (3.00 to 5.00) | 2.00 s | - | - | - |"]
    plot(rows, "a title", tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes()[:4] == b"\x89PNG"
