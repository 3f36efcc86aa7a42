"""A training in processes of its own: killed at several moments, stopped politely, and spread over two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from camouflage.files import file_sha256
from camouflage.training import checkpoints
from camouflage.training.checkpoints import EMA, WEIGHTS
from camouflage.training.loop import CHECKPOINTS, LOGS
from light_weights import difference_of_states
from sampled import everything, long
from training_command import SCRIPT, train
from training_data import AUTHORS, FARL_STATES, synthetic_dataset
from training_nets import tiny_checkpoint, tiny_ip_adapter

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
FORKER = """
import json, os, sys
sys.path += sys.argv[1:]
from camouflage.training import light
from training_command import train
for line in sys.stdin:  # everything is imported once; every training is a process of its own
    child = os.fork()
    if not child:
        os._exit(train(*json.loads(line)))
    print("", child, sep="\\n", flush=True)  # the one before may have left a line unfinished
    print("", os.waitpid(child, 0)[1], sep="\\n", flush=True)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    base = tiny_checkpoint(folder / "base.safetensors")
    for name, info in (("dataset", {}), ("states", FARL_STATES)):
        synthetic_dataset(folder / name, 24, base_model=file_sha256(base), **info)
    return SimpleNamespace(folder=folder, base=base, prompt=tiny_ip_adapter(folder / "prompt.safetensors"))


@pytest.fixture(scope="module")
def forker():
    """begin(command) -> the process that runs it; status() -> how the last one ended."""
    with subprocess.Popen([sys.executable, "-c", FORKER, str(SCRIPT.parent), str(ROOT)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT) as process:

        def begin(command: list[str]) -> int:
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            return status()

        def status() -> int:
            said = []
            while not (line := process.stdout.readline()).strip().isdigit():
                said.append(line)
                assert line, "".join(said)
            return int(line)

        yield SimpleNamespace(begin=begin, status=status)
        process.stdin.close()


def command(files, output: Path, *settings: str, joint: bool = False) -> list[str]:
    way = ["--config", AUTHORS.name] if joint else ["--image-prompt", str(files.prompt)]
    small = ["image_prompt.depth=1", "image_prompt.queries=2"] if joint else []
    return ["light", "--dataset", str(files.folder / ("states" if joint else "dataset")), "--output", str(output),
            "--base-model", str(files.base), *way, "--cpu", "--set", "precision=fp32", "batch_size=2",
            "schedule.warmup=0", "optimizer.learning_rate=1e-3", "validation.every=0", "validation.held_out=0",
            *small, *settings]


def final(output: Path, step: int) -> dict[str, torch.Tensor]:
    """Weights, average, and the optimiser's moments."""
    checkpoint = checkpoints.load(output / CHECKPOINTS / f"step-{step:08d}")
    tensors = {WEIGHTS: load_file(checkpoint.path / WEIGHTS), EMA: load_file(checkpoint.path / EMA)}
    tensors |= {f"moments of {number}": values
                for number, values in checkpoint.optimizer()["optimizer"]["state"].items()}
    return {f"{name} {key}": value for name, values in tensors.items() for key, value in values.items()}


STOPS = {"adapter": ((0, 0.3, signal.SIGKILL), (1, 0.0, signal.SIGKILL), (3, 0.02, signal.SIGKILL),
                     (5, 0.05, signal.SIGTERM), (7, 0.09, signal.SIGKILL)),
         "joint": ((1, 0.0, signal.SIGKILL), (2, 0.05, signal.SIGTERM))}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does")
@pytest.mark.parametrize(("kind", "steps", "more"), [
    ("joint", 5, ("precision=bf16",)), *([("adapter", 12, ())] if everything else [])])
def test_killed_at_several_moments_it_ends_with_the_same_bits(files, forker, kind, steps, more):
    whole, killed = (files.folder / f"{kind} {name}" for name in ("whole", "killed"))

    def begin(output: Path) -> int:
        return forker.begin(command(files, output, f"steps={steps}", "checkpoints.every=1", "checkpoints.keep_last=2",
                                    "schedule.kind=cosine", *more, joint=kind == "joint"))

    begin(whole)
    assert forker.status() == 0
    stops = []
    for step, pause, how in STOPS[kind]:
        child, deadline = begin(killed), time.monotonic() + 60
        while step and max(checkpoints.steps(killed / CHECKPOINTS), default=0) < step:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(pause)
        os.kill(child, how)
        assert os.waitstatus_to_exitcode(forker.status()) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
        stops.append(max(checkpoints.steps(killed / CHECKPOINTS), default=0))
    assert stops == sorted(stops) and stops[-1] < steps, f"it was stopped on the way: {stops}"
    begin(killed)
    assert forker.status() == 0
    found, wanted = final(killed, steps), final(whole, steps)
    assert difference_of_states(found, wanted) == 0.0
    assert {"moments of 0 exp_avg", "moments of 0 exp_avg_sq", f"{EMA} adapter.conv_in.weight"} <= wanted.keys()
    assert (f"{WEIGHTS} image_proj.latents" in wanted) == (f"{WEIGHTS} ip_adapter.1.to_k_ip.weight" in wanted) == (
        kind == "joint")
    assert sorted(path.name for path in (killed / CHECKPOINTS).iterdir()) == [
        f"step-{step:08d}" for step in (steps - 1, steps)]


def losses(output: Path) -> dict[int, float]:
    log = EventAccumulator(str(output / LOGS))
    log.Reload()
    return {event.step: event.value for event in log.Scalars("train/loss")}


@long
def test_two_processes_equal_one_that_accumulates_twice(files):
    """By `accelerate launch`, on the CPU."""
    one, two = files.folder / "one", files.folder / "two"
    assert train(*command(files, one, "steps=5", "accumulation=2")) == 0
    done = subprocess.run([sys.executable, str(SCRIPT), *command(files, two, "steps=5", "--processes", "2")],
                          cwd=files.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(one).keys() == {1, 2, 3, 4, 5}
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert len(set(losses(one).values())) == 5
    assert difference_of_states(final(one, 5), final(two, 5)) < 1e-5
    state = checkpoints.load(two / CHECKPOINTS / "step-00000005").state
    assert state["group"] == 2 and state["config"]["accumulation"] == 1
